"""The public clients, unchanged, against a real `dsv4 serve` process; and what a kill of that process leaves."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from openai import APIStatusError, OpenAI
from PIL import Image

CODE = "import sys; from app.cli import main; sys.exit(main())"


@contextmanager
def serving(home: Path, environment: dict[str, str], *, model: str = "echo") -> Iterator[tuple[str, subprocess.Popen]]:
    """A server process on a data folder; it is killed hard at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "serve", "--port", "0", "--model", model, "--home", str(home)],
        env={**environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = next(line for line in iter(process.stdout.readline, "") if line.startswith("Open "))
        address = line.split()[1]
        for _ in range(1200):
            if httpx.get(f"{address}/readyz").status_code == 200:
                break
            time.sleep(0.05)
        yield address, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DSV4_")}
    return {**kept, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def address(environment, tmp_path_factory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("home"), environment) as (address, _):
        yield address


def visit(address: str, folder: Path, picture_words: str) -> None:
    """Everything that the public chat client is used for here."""
    client = OpenAI(base_url=f"{address}/v1", api_key="any")
    (model,) = [one.id for one in client.models.list()]
    content = io.BytesIO()
    Image.new("RGB", (96, 64), "red").save(content, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    question = [{"type": "text", "text": picture_words}, {"type": "image_url", "image_url": {"url": url}}]
    whole = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], seed=7)
    assert whole.choices[0].message.content and whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage is not None and whole.usage.total_tokens > 0
    pieces = list(
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], seed=7, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text.strip() == whole.choices[0].message.content and pieces[-1].usage is not None
    assert pieces[-1].usage.total_tokens == whole.usage.total_tokens  # what of it was cached differs
    more = {"seed": 7, "steps": 2}
    painted = client.images.generate(model=model, prompt="a red square", size="64x64", extra_body=more)
    with Image.open(io.BytesIO(base64.b64decode(painted.data[0].b64_json))) as picture:
        assert picture.size == (64, 64) and "provenance" in picture.info
    drawn = client.images.generate(model=model, prompt="red heart icon", output_format="svg")
    assert base64.b64decode(drawn.data[0].b64_json).startswith(b"<svg")
    events = list(client.images.generate(model=model, prompt="a red square", stream=True, partial_images=2))
    assert events[-1].type == "image_generation.completed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own service ended; the shape lives on
        video = client.videos.create_and_poll(
            model=model, prompt="a ball moving up", seconds="1", extra_body={"steps": 2}, poll_interval_ms=50
        )
        client.videos.download_content(video.id).write_to_file(folder / "clip.mp4")
        with av.open(str(folder / "clip.mp4")) as clip:
            assert sum(1 for _ in clip.decode(video=0)) == 8
        assert client.videos.delete(video.id).deleted
    with pytest.raises(APIStatusError, match="the prompt is empty"):
        client.images.generate(model=model, prompt=" ")


def test_the_public_chat_client_works_unchanged(address, tmp_path):
    visit(address, tmp_path, "What is this?")


def test_the_public_client_runs_files_and_a_batch(address):
    client = OpenAI(base_url=f"{address}/v1", api_key="any")
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    rows = [{"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(30)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="batch")
    assert client.files.content(file.id).read() == content and client.files.retrieve(file.id).bytes == len(content)
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status not in ("completed", "failed"):
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.request_counts.completed == 30
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(30)]
    assert batch.id in [one.id for one in client.batches.list()]
    assert client.files.delete(file.id).deleted


def test_the_public_tool_client_lists_and_calls_the_tools(address):
    from mcp import Client

    async def visit() -> tuple[list[str], Any, Any, Any]:
        async with Client(f"{address}/mcp/") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            drawing = await client.call_tool("draw_svg", {"prompt": "red heart icon"})
            picture = await client.call_tool("paint_picture", {"prompt": "a tiger", "size": 64})
            wrong = await client.call_tool("paint_picture", {"prompt": "a tiger", "size": 65})
            return names, drawing, picture, wrong

    names, drawing, picture, wrong = asyncio.run(asyncio.wait_for(visit(), 60))
    assert names == ["ask", "draw_svg", "paint_picture", "make_clip", "read_document"]
    assert drawing.content[0].text.startswith("<svg")
    with Image.open(io.BytesIO(base64.b64decode(picture.content[0].data))) as opened:
        assert opened.size == (64, 64)
    assert wrong.is_error and "nearest is 64" in wrong.content[0].text


def test_the_public_gradio_client_calls_the_named_endpoints(address, tmp_path):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    Image.new("RGB", (96, 64), "red").save(tmp_path / "a.png")
    client = Client(address, verbose=False, download_files=tmp_path / "got")
    try:
        assert set(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == {
            "/chat", "/svg", "/image", "/video", "/read",
        }  # fmt: skip
        shown = [handle_file(str(tmp_path / "a.png"))]
        assert client.submit("what is it", shown, api_name="/chat").result() == "[a picture of 96 x 64] what is it"
        assert Path(client.predict("red heart icon", api_name="/svg")).read_text().startswith("<svg")
        with Image.open(client.predict("a tiger", 7, 64, api_name="/image")) as picture:
            assert picture.size == (64, 64) and "provenance" in picture.info
            assert json.loads(picture.info["provenance"])["settings"]["guidance"] == 2
        with Image.open(client.predict("a tiger", 7, 64, 2, api_name="/image")) as picture:
            assert json.loads(picture.info["provenance"])["settings"]["guidance"] == 1  # as everywhere for two steps
        with av.open(client.predict("a ball", 1.0, first_frame=shown[0], api_name="/video")) as clip:
            assert clip.streams.video[0].frames == 8
        text, pages = client.predict(shown[0], api_name="/read")
        assert "96 x 64" in text and pages["pages"][0]["boxes"][0]["label"] == "middle"
        for wrong, says in (({"prompt": " "}, "prompt is empty"), ({"prompt": "x", "size": 65}, "nearest is 64")):
            with pytest.raises(AppError, match=says):
                client.predict(**wrong, api_name="/image")
        assert client.predict("next", api_name="/chat") == "next"
    finally:
        client.close()


def test_a_killed_server_loses_no_row_and_no_file(environment, tmp_path):
    """kill -9 at three moments of a batch and of other work; then every row has one line, and every file is whole."""
    home = tmp_path / "home"
    url = "/v1/images/generations"
    bodies = [{"prompt": f"icon {n}", "output_format": "svg"} for n in range(120)]
    rows = [{"custom_id": f"r{n}", "url": url, "body": body} for n, body in enumerate(bodies)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    batch, clips = "", []
    for moment in (0.15, 0.4, 0.0):
        with serving(home, environment) as (address, process):
            with httpx.Client(base_url=address, timeout=30) as client:
                if not batch:
                    sent = {"file": ("r.jsonl", content)}
                    file = client.post("/v1/files", data={"purpose": "batch"}, files=sent).json()
                    asked = {"input_file_id": file["id"], "endpoint": url}
                    batch = client.post("/v1/batches", json=asked).json()["id"]
                clips.append(client.post("/v1/videos", json={"prompt": "a ball"}).json()["id"])
                time.sleep(moment)
                if not moment:  # three kills of one job would end it, as a job that kills its server must end
                    over(client, clips[0])
            os.kill(process.pid, signal.SIGKILL)
    with serving(home, environment) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        for _ in range(1200):
            now = client.get(f"/v1/batches/{batch}").json()
            if now["status"] == "completed":
                break
            time.sleep(0.05)
        assert now["request_counts"] == {"total": 120, "completed": 120, "failed": 0}, now
        lines = [json.loads(one) for one in client.get(f"/v1/files/{now['output_file_id']}/content").text.splitlines()]
        assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(120)]
        for line in lines[::10]:
            drawing = base64.b64decode(line["response"]["body"]["data"][0]["b64_json"]).decode()
            assert re.search(rf"<title>icon {line['custom_id'][1:]}</title>", drawing)
        for clip in clips:
            assert over(client, clip)["status"] == "completed"
            assert len(client.get(f"/v1/videos/{clip}/content").content) > 500
    assert not list((home / "work").iterdir())


def over(client: httpx.Client, clip: str) -> dict[str, Any]:
    """A clip, once it is finished."""
    for _ in range(600):
        now = client.get(f"/v1/videos/{clip}").json()
        if now["status"] in ("completed", "failed"):
            return now
        time.sleep(0.05)
    raise AssertionError(now)


def test_a_terminated_server_ends_cleanly(environment, tmp_path):
    with serving(tmp_path / "home", environment) as (address, process):
        body = {"messages": [{"role": "user", "content": "hi"}]}
        made = httpx.post(f"{address}/v1/chat/completions", json=body).json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not (tmp_path / "home" / "server.pid").exists()
    with serving(tmp_path / "home", environment) as (address, _):
        again = httpx.get(f"{address}/v1/chat/completions/{made['id']}").json()
    assert again["choices"] == made["choices"]


def test_the_public_chat_client_works_with_the_shipped_model(environment, tmp_path):
    with serving(tmp_path / "home", environment, model="nano") as (address, _):
        visit(address, tmp_path, "What is in this picture?")
