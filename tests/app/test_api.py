"""The API against hostile and clumsy requests: each gets one clear answer, quickly, and the next request works.

Numbers in the ids of the cases are those of the project's list of bad inputs.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from app import guard
from dsv4.limits import PICTURES, PROMPT_CHARACTERS
from tests.app.studios import SlowStudio
from tests.browser.walk import served

CHAT, IMAGE, VIDEO = "/v1/chat/completions", "/v1/images/generations", "/v1/videos"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(SlowStudio) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def png(width: int = 40, height: int = 30) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(content, "PNG")
    return content.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of side × side pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * ((side + 7) // 8 + 1) * side, 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def said(content: Any = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **more}


def shown(url: Any, kind: str = "image_url", **more: Any) -> dict[str, Any]:
    return said([{"type": "text", "text": "what is it?"}, {"type": kind, kind: {"url": url, **more}}])


def works(client: httpx.Client) -> None:
    assert client.post(CHAT, json=said()).json()["choices"][0]["message"]["content"] == "hello"


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("1 empty", CHAT, said(""), 400, "empty"),
    ("1 spaces", IMAGE, {"prompt": "   "}, 400, "the prompt is empty"),
    ("1 missing", IMAGE, {}, 400, "prompt is missing"),
    ("3 too long", IMAGE, {"prompt": "x" * (PROMPT_CHARACTERS + 1)}, 400, "at most"),
    ("5 half a surrogate", IMAGE, {"prompt": "\ud800"}, 400, "surrogate"),
    ("11 temperature below", CHAT, said(temperature=-1), 400, "temperature must be"),
    ("11 temperature huge", CHAT, said(temperature=1e308), 400, "temperature must be"),
    ("11 temperature words", CHAT, said(temperature="hot"), 400, "temperature must be"),
    ("12 top_p zero", CHAT, said(top_p=0), 400, "top_p"),
    ("12 top_p two", CHAT, said(top_p=2), 400, "top_p"),
    ("12 n zero", CHAT, said(n=0), 400, "n must be"),
    ("12 n million", IMAGE, {"prompt": "x", "n": 10**6}, 400, "n must be"),
    ("12 no tokens", CHAT, said(max_tokens=0), 400, "max_tokens must be"),
    ("12 far too many tokens", CHAT, said(max_tokens=2**63), 400, "max_tokens must be"),
    ("13 seed below", IMAGE, {"prompt": "x", "seed": -1}, 400, "seed must be"),
    ("13 seed beyond", CHAT, said(seed=2**64), 400, "seed must be"),
    ("13 seed a fraction", VIDEO, {"prompt": "x", "seed": 1.5}, 400, "seed must be"),
    ("13 seed words", CHAT, said(seed="7"), 400, "seed must be"),
    ("13 seed true", CHAT, said(seed=True), 400, "seed must be"),
    ("14 stops", CHAT, said(stop=["x"] * 1000), 400, "stop must be"),
    ("14 empty stop", CHAT, said(stop=""), 400, "stop must be"),
    ("16 unknown model", CHAT, said(model="gpt-9"), 404, "unknown model 'gpt-9'"),
    ("16 unknown mode", CHAT, said(mode="basse"), 400, "did you mean 'base'"),
    ("17 no messages", CHAT, {"messages": []}, 400, "messages must hold"),
    ("17 messages missing", CHAT, {}, 400, "messages is missing"),
    ("17 unknown role", CHAT, {"messages": [{"role": "usr", "content": "x"}]}, 400, "did you mean 'user'"),
    ("17 last by the assistant", CHAT, {"messages": [{"role": "assistant", "content": "x"}]}, 400, "by the user"),
    ("17 very many", CHAT, {"messages": [{"role": "user", "content": "x"}] * 10_000}, 400, "messages must hold"),
    ("17 no object", CHAT, {"messages": ["x"]}, 400, "must be an object"),
    ("22 no bytes", CHAT, shown("data:image/png;base64,"), 422, "empty"),
    ("23 random bytes", CHAT, shown(data_url(b"\x93random" * 99)), 422, "not a file that can be shown"),
    ("24 cut in the header", CHAT, shown(data_url(png()[:20])), 422, ""),
    ("24 cut in half", CHAT, shown(data_url(png(300, 300)[:300])), 422, ""),
    ("25 broken zlib", CHAT, shown(data_url(png().replace(b"IDATx", b"IDATy"))), 422, ""),
    ("26 a strip", CHAT, shown(data_url(png(1, 5000))), 422, "at most 100 times"),
    ("29 bomb of 144 megapixels", CHAT, shown(data_url(bomb(12000))), 422, "pixels"),
    ("29 bomb of 400 megapixels", CHAT, shown(data_url(bomb(20000))), 422, "pixels"),
    ("34 svg as a picture", CHAT, shown(data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>")), 422, "PNG, JPEG"),
    ("36 many pictures", CHAT,
     said([{"type": "image_url", "image_url": {"url": data_url(png(2, 2))}}] * (PICTURES + 1)), 400, "more than"),
    ("37 broken base64", CHAT, shown("data:image/png;base64,@@@"), 400, "base64"),
    ("38 no comma", CHAT, shown("data:image/png;base64"), 400, "data:image/png;base64"),
    ("38 no base64", CHAT, shown("data:text/plain,hello"), 400, "data:image/png;base64"),
    ("40 an address", CHAT, shown("http://127.0.0.1/a.png"), 400, "addresses are not opened"),
    ("44 a file address", CHAT, shown("file:///etc/passwd"), 400, "addresses are not opened"),
    ("44 no text", CHAT, shown(7), 400, "names its file"),
    ("49 a broken pdf", CHAT, shown(data_url(b"%PDF-1.4 broken")), 422, "PDF"),
    ("53 a broken clip", CHAT, shown(data_url(b"\0\0\0\x18ftypisom" + b"\0" * 99), "video_url"), 422, "clip"),
    ("detail", CHAT, shown(data_url(png()), detail="huge"), 400, "unknown detail"),
    ("part", CHAT, said([{"type": "input_audio", "input_audio": {}}]), 400, "text, image_url, video_url and file"),
    ("tools", CHAT, said(tools=[{"type": "function"}]), 400, "calls no tools"),
    ("json answers", CHAT, said(response_format={"type": "json_object"}), 400, "response_format"),
    ("61 size zero", IMAGE, {"prompt": "x", "size": "0x0"}, 400, "the nearest to 0x0 is 8x8"),
    ("61 size odd", IMAGE, {"prompt": "x", "size": "101x101"}, 400, "is 104x104"),
    ("61 not square", IMAGE, {"prompt": "x", "size": "50x2500"}, 400, "size must be"),
    ("61 words", IMAGE, {"prompt": "x", "size": "large"}, 400, "size must be"),
    ("61 clip size", VIDEO, {"prompt": "x", "size": "1280x720"}, 400, "is 64x64"),
    ("62 no frames", VIDEO, {"prompt": "x", "num_frames": 0}, 400, "seconds must be"),
    ("62 million frames", VIDEO, {"prompt": "x", "num_frames": 10**6}, 400, "seconds must be"),
    ("62 fps", VIDEO, {"prompt": "x", "fps": 0}, 400, "fps must be"),
    ("62 seconds", VIDEO, {"prompt": "x", "seconds": "NaN"}, 400, "seconds must be"),
    ("63 no steps", IMAGE, {"prompt": "x", "steps": 0}, 400, "steps must be"),
    ("63 million steps", IMAGE, {"prompt": "x", "num_inference_steps": 10**6}, 400, "steps must be"),
    ("format", IMAGE, {"prompt": "x", "output_format": "gif"}, 400, "png, webp, svg"),
    ("stream of two", IMAGE, {"prompt": "x", "n": 2, "stream": True}, 400, "set n to 1"),
    ("partial", IMAGE, {"prompt": "x", "partial_images": 9}, 400, "partial_images"),
    ("78 reference of another", VIDEO, {"prompt": "x", "input_reference": {"file_id": "file_0"}}, 404, "no file"),
    ("batch of nothing", "/v1/batches", {"input_file_id": "file_0", "endpoint": CHAT}, 404, "no file"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "words"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_bad_requests_get_one_clear_answer(client, path, body, status, words):
    begun = time.monotonic()
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert words in error["message"] and set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text and "/home" not in answer.text and time.monotonic() - begun < 5
    works(client)


RAW: list[tuple[str, bytes, dict[str, str], int]] = [
    ("18 broken", b"{", {}, 400),
    ("18 twice", b'{"prompt": "a", "prompt": "b"}', {}, 400),
    ("18 deep", b'{"prompt": ' + b"[" * 100_000, {}, 400),
    ("18 deep in a text", b'{"prompt": "' + b"[" * 100 + b'"}', {}, 200),
    ("18 infinite", b'{"prompt": "a", "guidance": 1e400}', {}, 400),
    ("18 NaN", b'{"prompt": "a", "guidance": NaN}', {}, 400),
    ("18 trailing comma", b'{"prompt": "a",}', {}, 400),
    ("18 a list", b"[]", {}, 400),
    ("18 no utf-8", b'{"prompt": "\xff"}', {}, 400),
    ("19 plain text", b'{"prompt": "a"}', {"content-type": "text/plain"}, 415),
    ("19 none", b'{"prompt": "a"}', {"content-type": ""}, 415),
    ("21 gzip", b"\x1f\x8b", {"content-encoding": "gzip"}, 415),
]


@pytest.mark.parametrize(("body", "headers", "status"), [case[1:] for case in RAW], ids=[case[0] for case in RAW])
def test_bodies_that_are_no_good_json(client, body, headers, status):
    answer = client.post(IMAGE, content=body, headers={"content-type": "application/json", **headers})
    assert answer.status_code == status, answer.text
    works(client)


def test_two_megabytes_too_many_are_refused_before_they_are_read(client):
    answer = client.post(CHAT, content=b"x" * (34 * 2**20), headers={"content-type": "application/json"})
    assert answer.status_code == 413

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 2**20

    begun = time.monotonic()
    try:
        status = client.post(CHAT, content=endless(), headers={"content-type": "application/json"}).status_code
    except httpx.TransportError:  # the server closed while this side was still sending, before it read the answer
        status = 413
    assert status == 413
    assert time.monotonic() - begun < 20
    works(client)


def test_a_body_that_does_not_come_is_not_waited_for(address, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=10) as raw:
        head = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        raw.sendall(head + b"Content-Length: 100\r\n\r\n{")
        assert raw.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("text", ["\0a\ufeff\u202eb\u200b🦩", "<|image|> <|eos|> <image>", "'; DROP TABLE job; --"])
def test_strange_words_are_only_words(client, text):
    answer = client.post(CHAT, json=said(text)).json()
    assert answer["choices"][0]["message"]["content"] == " ".join(text.split())


def test_what_is_not_known_is_named_and_ignored(client):
    answer = client.post(CHAT, json=said(reasoning={"effort": "max"}, user="me", top_p=0.5)).json()
    assert answer["warnings"] == ["'top_p' is ignored", "'reasoning' is ignored", "'user' is ignored"]
    drawn = client.post(IMAGE, json={"prompt": "x", "output_format": "svg", "svg": {"model": "x"}}).json()
    assert drawn["warnings"] == ["'svg' is ignored"]


@pytest.mark.parametrize("size", [(1, 1), (640, 640), (641, 640), (3, 200)])
def test_odd_pictures_are_seen(client, size):
    answer = client.post(CHAT, json=shown(data_url(png(*size)).replace("base64,", "base64,\n ")))
    assert f"{size[0]} x {size[1]}" in answer.json()["choices"][0]["message"]["content"]


def test_a_stop_word_ends_an_answer_and_is_not_said(client):
    body = said("one two STOP three", stop=["STOP"])
    whole = client.post(CHAT, json=body).json()["choices"][0]
    assert whole["message"]["content"] == "one two " and whole["finish_reason"] == "stop"
    with client.stream("POST", CHAT, json={**body, "stream": True}) as stream:
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks(stream))
    assert text == "one two "


def chunks(stream: httpx.Response) -> Iterator[dict[str, Any]]:
    """The JSON of each event, up to the end."""
    for line in stream.iter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data:"):
            yield json.loads(line[5:])


def test_a_stream_that_broke_off_goes_on_where_it_was(client):
    words = " ".join(f"word{n}" for n in range(20))
    seen, last, name = "", "", ""
    with client.stream("POST", CHAT, json=said(f"slow {words}", stream=True)) as stream:
        for line in stream.iter_lines():
            last = line.removeprefix("id: ") if line.startswith("id: ") else last
            if line.startswith("data:"):
                chunk = json.loads(line[5:])
                name, seen = chunk["id"], seen + chunk["choices"][0]["delta"].get("content", "")
                if "word3" in seen:
                    break
    assert client.get(f"{CHAT}/{name}", headers={"last-event-id": "job_of_another:3"}).status_code == 400
    with client.stream("GET", f"{CHAT}/{name}", headers={"last-event-id": last}) as stream:
        rest = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks(stream))
    assert seen + rest == f"slow {words}"
    again = client.get(f"{CHAT}/{name}").json()
    assert again["choices"][0]["message"]["content"] == f"slow {words}"


def test_a_picture_shows_itself_on_the_way(client):
    events = []
    body = {"prompt": "slow tiger", "stream": True, "partial_images": 2, "steps": 20}
    with client.stream("POST", IMAGE, json=body) as stream:
        events = list(chunks(stream))
    kinds = [event["type"].removeprefix("image_generation.") for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]
    for event in events:
        with Image.open(io.BytesIO(base64.b64decode(event["b64_json"]))) as picture:
            assert picture.size == (128, 128)


def test_one_seed_one_picture_and_several_have_several_seeds(client):
    two = client.post(IMAGE, json={"prompt": "a tiger", "seed": 7, "n": 2}).json()["data"]
    one = client.post(IMAGE, json={"prompt": "a tiger", "seed": 8, "output_format": "png"}).json()["data"]
    assert two[0]["b64_json"] != two[1]["b64_json"] == one[0]["b64_json"]
    link = client.post(IMAGE, json={"prompt": "a tiger", "response_format": "url", "output_format": "webp"}).json()
    assert client.get(link["data"][0]["url"]).headers["content-type"] == "image/webp"


def test_a_picture_is_redrawn_as_svg(client):
    ask = {"image": data_url(png()), "output_format": "svg"}
    made = client.post(IMAGE, json=ask)
    assert made.status_code == 200, made.text
    drawing = base64.b64decode(made.json()["data"][0]["b64_json"]).decode()
    assert "<title>a picture of 40 x 30</title>" in drawing  # what echo's eyes say of it
    told = client.get(f"/v1/files/{made.json()['data'][0]['file_id']}").json()
    assert told["filename"] == "a-picture-of-40-x-30.svg"
    kept = client.post("/v1/files", files={"file": ("a.png", png(20, 20))}, data={"purpose": "vision"}).json()["id"]
    words = client.post(IMAGE, json={**ask, "image": {"file_id": kept}, "prompt": "a red heart"})
    assert "<title>a red heart</title>" in base64.b64decode(words.json()["data"][0]["b64_json"]).decode()
    outlines = client.post(IMAGE, json={**ask, "trace": "always"}).json()["data"][0]
    assert '<rect width="96" height="96"' in base64.b64decode(outlines["b64_json"]).decode()
    settings = client.get(f"/v1/files/{outlines['file_id']}").json()["made_by"]["settings"]
    assert settings["made_by"] == "traced" and settings["likeness"] > 0.9
    for wrong, status, say in (
        ({"image": {"file_id": "file_0"}}, 404, "no file"),
        ({"image": {"x": 1}}, 400, "image is a file, a data: address"),
        ({"image": data_url(b"no picture")}, 422, "not a file that can be shown"),
        ({"image": data_url(b"%PDF-1.4 ", "application/pdf")}, 400, "made after a picture"),
        ({"output_format": "png"}, 400, "a picture is redrawn"),
        ({"trace": "allways"}, 400, "did you mean 'always'"),
    ):
        answer = client.post(IMAGE, json={"prompt": "x", **ask, **wrong})
        assert answer.status_code == status and say in answer.json()["error"]["message"], answer.text


def test_a_clip_is_watched_stopped_and_deleted(client):
    made = client.post(VIDEO, data={"prompt": "slow ball", "seconds": "1"}, files={"input_reference": ("a.png", png())})
    video = made.json()
    assert made.status_code == 200 and video["status"] in ("queued", "in_progress") and video["seconds"] == "1"
    assert client.get(f"{VIDEO}/{video['id']}/content").status_code == 409
    assert client.delete(f"{VIDEO}/{video['id']}").json()["deleted"]
    for _ in range(100):
        status = client.get(f"{VIDEO}/{video['id']}").json()["status"]
        if status == "failed":
            break
        time.sleep(0.05)
    assert status == "failed"
    assert client.get(f"{VIDEO}/none").status_code == 404
    assert client.get(VIDEO, params={"limit": 10**9}).status_code == 400
    assert client.get("/v1/jobs", params={"limit": -1}).status_code == 400


def test_files_are_given_out_as_attachments_that_run_nothing(client):
    evil = ("../../x\r\nset-cookie: a=b.png", png())
    made = client.post("/v1/files", data={"purpose": "vision"}, files={"file": evil}).json()
    assert "/" not in made["filename"] and "\n" not in made["filename"]
    answer = client.get(f"/v1/files/{made['id']}/content")
    headers = answer.headers
    assert headers["content-disposition"].startswith("attachment") and "a=b" not in headers.get("set-cookie", "")
    assert headers["content-security-policy"] == "sandbox" and headers["x-content-type-options"] == "nosniff"
    for purpose, content, status in (("vision", b"<html>", 422), ("nonsense", png(), 400), ("vision", b"", 422)):
        refused = client.post("/v1/files", data={"purpose": purpose}, files={"file": ("a.png", content)})
        assert refused.status_code == status, refused.text
    assert client.post("/v1/files", json={}).status_code == 415
    assert client.delete(f"/v1/files/{made['id']}").json()["deleted"]
    assert client.get(f"/v1/files/{made['id']}").status_code == 404


def test_a_drawing_is_also_given_as_png(client):
    made = client.post(IMAGE, json={"prompt": "a tiger", "output_format": "svg"}).json()["data"][0]
    assert b"<title>a tiger</title>" in base64.b64decode(made["b64_json"])
    answer = client.get(f"/v1/files/{made['file_id']}/content", params={"png": 96})
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (96, 96)
    assert client.get(f"/v1/files/{made['file_id']}/content", params={"png": 10**6}).status_code == 400


def test_metrics_docs_and_schema(client):
    assert 'dsv4_jobs{kind="chat",state="done"}' in client.get("/metrics").text
    docs = client.get("/docs").text
    assert CHAT in docs and "<script" not in docs and 'src="http' not in docs
    paths = client.get("/openapi.json").json()["paths"]
    assert {CHAT, IMAGE, VIDEO, "/v1/files", "/v1/batches", "/v1/models"} <= set(paths)
    assert client.get("/v1/models").json()["data"][0]["id"] == "echo"
    assert client.get("/v1/models/none").status_code == 404


BATCH_FAULTS = [
    ("66 empty", b"", "empty_file"), ("67 twice", b'{"custom_id":"a"}\n{"custom_id":"a"}\n', "duplicate_custom_id"),
    ("67 none", b"{}\n", "invalid_custom_id"), ("67 a number", b'{"custom_id":7}\n', "invalid_custom_id"),
    ("67 long", b'{"custom_id":"' + b"x" * 10_000 + b'"}\n', "invalid_custom_id"),
    ("71 a long line", b'{"custom_id":"' + b"x" * 8_100_000 + b'"}\n', "line_too_long"),
]  # fmt: skip


def batch(client: httpx.Client, content: bytes, endpoint: str = CHAT) -> dict[str, Any]:
    """Run a batch to its end."""
    file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", content)}).json()
    made = client.post("/v1/batches", json={"input_file_id": file["id"], "endpoint": endpoint}).json()
    for _ in range(600):
        made = client.get(f"/v1/batches/{made['id']}").json()
        if made["status"] in ("completed", "failed", "cancelled"):
            return made
        time.sleep(0.02)
    raise AssertionError(made)


@pytest.mark.parametrize(("content", "code"), [case[1:] for case in BATCH_FAULTS], ids=[c[0] for c in BATCH_FAULTS])
def test_faults_of_a_whole_batch_are_told_with_their_lines(client, content, code):
    made = batch(client, content)
    assert made["status"] == "failed" and made["errors"]["data"][0]["code"] == code
    assert made["request_counts"]["completed"] == 0
    works(client)


def test_one_bad_line_is_one_bad_line(client):
    rows = [{"custom_id": f"r{n}", "method": "POST", "url": CHAT, "body": said(f"row {n}")} for n in range(20)]
    lines = [json.dumps(row) for row in rows]
    lines[3], lines[7] = "{broken", json.dumps({"custom_id": "r7", "url": "/v1/nope", "body": {}})
    lines[9] = json.dumps({"custom_id": "r9", "url": CHAT, "body": said(stream=True)})
    made = batch(client, b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    assert made["request_counts"] == {"total": 20, "completed": 17, "failed": 3}
    out = [json.loads(line) for line in client.get(f"/v1/files/{made['output_file_id']}/content").text.splitlines()]
    assert [one["custom_id"] for one in out] == [f"r{n}" for n in range(20) if n not in (3, 7, 9)]
    assert out[0]["response"]["body"]["choices"][0]["message"]["content"] == "row 0"
    bad = client.get(f"/v1/files/{made['error_file_id']}/content").text
    assert len(bad.splitlines()) == 3 and "did you mean" in bad and "stream is not possible" in bad


def test_a_batch_of_clips_waits_for_them_and_one_can_be_cancelled(client):
    line = json.dumps({"custom_id": "v", "url": VIDEO, "body": {"prompt": "a ball"}})
    made = batch(client, line.encode(), VIDEO)
    (out,) = client.get(f"/v1/files/{made['output_file_id']}/content").text.splitlines()
    assert json.loads(out)["response"]["body"]["status"] == "completed"
    slow = "\n".join(json.dumps({"custom_id": f"{n}", "url": CHAT, "body": said("slow " * 20)}) for n in range(50))
    file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", slow.encode())}).json()
    begun = client.post("/v1/batches", json={"input_file_id": file["id"], "endpoint": CHAT}).json()
    client.post(f"/v1/batches/{begun['id']}/cancel")
    for _ in range(400):
        now = client.get(f"/v1/batches/{begun['id']}").json()
        if now["status"] == "cancelled":
            break
        time.sleep(0.02)
    assert now["status"] == "cancelled" and now["request_counts"]["completed"] < 50


def test_a_clip_is_gone_on_with_by_its_id(client):
    def finished(**body):
        video = client.post(VIDEO, json={"prompt": "a ball", "seconds": "0.5", **body}).json()
        for _ in range(200):
            video = client.get(f"{VIDEO}/{video['id']}").json()
            if video["status"] in ("completed", "failed"):
                break
            time.sleep(0.05)
        assert video["status"] == "completed", video
        return video["id"], client.get(f"{VIDEO}/{video['id']}/content").content

    first, short = finished()
    _, long = finished(after=first)
    counts = []
    for content in (short, long):
        with av.open(io.BytesIO(content)) as film:
            counts.append(sum(1 for _ in film.decode(video=0)))
    assert counts == [4, 7]
    assert client.post(VIDEO, json={"prompt": "a ball", "after": "none"}).status_code == 404
