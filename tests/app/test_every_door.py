"""The same bad input at every door: `/v1/batches` and `dsv4 batch` give each request the answer that the API gives.

The numbers are those of the project's list of bad inputs. The API itself is asked in `test_api.py` and
`test_bad_inputs_server.py`; here the same bodies go in as lines of one file a door, and the rows that are not requests
are asked of Python too.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from PIL import Image

import dsv4
from app.shelf import Choice
from dsv4 import EchoStudio, InputError, document, image
from dsv4._parts import asset, part
from dsv4.batch import run_batch
from tests.app.test_api import CHAT, IMAGE, REFUSED, VIDEO, batch, data_url, png, said, shown
from tests.app.test_bad_inputs_server import UNUSUAL, _turned, pdf, written_pdf
from tests.app.test_house import until
from tests.browser.walk import served
from tests.generation.svg.test_safety import ATTACKS, BOMBS

ROUTES = (CHAT, IMAGE, VIDEO)
SVG = "image/svg+xml"
WORDS = {
    "9 a script": "<script>x()</script> [a](javascript:x()) ![b](http://127.0.0.1/c.png)",
    "10 a table without end": "|" * 9_000,
    "10 quotes in quotes": ">" * 9_000,
    "77 a template": "{{ 7*7 }} {% for x in range(10**9) %}{% endfor %} {{ cycler.__init__.__globals__.os }}",
    "6 control tokens": "<|eos|> <|image|> </think> <image>",
    "5 marks": "\ufeffa\u202eb\u200bc \U0001f600",
}
# (number and name, route, body, whether it is taken). What is refused by the API is refused by both kinds of batches.
LINES: list[tuple[str, str, Any, bool]] = [
    *((name, route, body, False) for name, route, body, _, _ in REFUSED if route in ROUTES and name != "stream of two"),
    *((name, CHAT, said(words), True) for name, words in WORDS.items()),
    *((name, CHAT, shown(data_url(make())), status == 200) for name, (make, status) in UNUSUAL.items()),
    *((f"57 to 60 {name}", CHAT, shown(data_url(text.encode(), SVG)), False) for name, text in BOMBS.items()),
    *((f"59 {name}", CHAT, shown(data_url(text.encode(), SVG)), False) for name, text in ATTACKS.items()),
    ("4 exactly the limit", IMAGE, {"prompt": "x" * 20_000, "size": "8x8"}, True),
    ("26 a dot", CHAT, shown(data_url(png(1, 1))), True),
    ("64 a first frame of another shape", VIDEO,
     {"prompt": "x", "seconds": "0.5", "input_reference": data_url(png(90, 9))}, True),
]  # fmt: skip
# What the server refuses although it could be opened: it takes the formats that its list names, and no other. A drawing
# that somebody has on their own machine is rebuilt first, without what acts in it.
TAKEN_HERE = ("32 ico", *(f"59 {name}" for name in ATTACKS))


def lines(route: str) -> bytes:
    rows = [
        {"custom_id": f"{place} {name}", "method": "POST", "url": route, "body": body}
        for place, (name, to, body, _) in enumerate(LINES)
        if to == route
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(EchoStudio) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def by_the_server(client) -> dict[str, dict[str, Any]]:
    """The answers of `/v1/batches`, one file a route."""
    found = {}
    for route in ROUTES:
        made = batch(client, lines(route), route)
        assert made["status"] == "completed", made
        for name in filter(None, (made["output_file_id"], made["error_file_id"])):
            for line in client.get(f"/v1/files/{name}/content").text.splitlines():
                found[json.loads(line)["custom_id"]] = json.loads(line)
    return found


@pytest.fixture(scope="module")
def by_the_command(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The answers of `dsv4 batch`, all in one file."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "jobs.jsonl").write_bytes(b"".join(map(lines, ROUTES)))
    run_batch(EchoStudio(), folder / "jobs.jsonl", out=folder / "out")
    told = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    return {line["custom_id"]: line for line in told}


CASES = [(f"{place} {name}", taken) for place, (name, _, _, taken) in enumerate(LINES)]


@pytest.mark.parametrize(("name", "taken"), CASES, ids=[name for name, _ in CASES])
def test_a_line_of_v1_batches_gets_the_answer_of_the_route(by_the_server, name, taken):
    judge(by_the_server[name], taken)


@pytest.mark.parametrize(("name", "taken"), CASES, ids=[name for name, _ in CASES])
def test_a_row_of_a_batch_gets_the_same_answer(by_the_command, name, taken):
    judge(by_the_command[name], taken or name.partition(" ")[2] in TAKEN_HERE)


def judge(line: dict[str, Any], taken: bool) -> None:
    status, body = line["response"]["status_code"], line["response"]["body"]
    assert (status == 200) == taken, line
    if not taken:
        words = body["error"]["message"]
        assert words and len(words) < 600 and "Traceback" not in words and "/tmp/" not in words


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
def test_what_is_said_comes_back_as_it_is_in_python(words):
    assert EchoStudio().chat(words, max_tokens=4096).reply.text.split() == words.split()


@pytest.mark.parametrize("name", [*BOMBS, *ATTACKS])
def test_57_to_60_hostile_drawings_are_refused_or_harmless_in_python(name, tmp_path):
    path = tmp_path / "hostile.svg"
    path.write_text({**BOMBS, **ATTACKS}[name])
    if name in BOMBS:
        with pytest.raises(InputError):
            assert EchoStudio().chat("what?", image(path)).reply.text
    else:
        safe = part("generation.svg").rebuild(path.read_text())
        assert "script" not in safe and "http://127" not in safe and "onload" not in safe
        assert EchoStudio().chat("what?", image(path)).reply.text.startswith("[a picture of")


def test_33_what_is_drawn_of_a_photo_holds_no_place_in_python_and_batch(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(_turned(1))
    pages: list[Image.Image] = []
    photo = image(tmp_path / "photo.jpg")
    stream = EchoStudio().read(photo, on_page=lambda page, shown: pages.append(page.overlay(shown)))
    assert stream.reading.text
    pages[0].save(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as drawn:
        assert not drawn.getexif()
    clip = {"id": "a", "task": "video", "prompt": "x", "seconds": 0.5, "images": [str(tmp_path / "photo.jpg")]}
    run_batch(EchoStudio(), [clip], out=tmp_path / "out")
    made = (tmp_path / "out" / "files" / "a.mp4").read_bytes()
    assert b"Exif" in _turned(1) and b"Exif" not in made


def test_8_52_what_a_document_asks_for_is_not_done_in_python_and_batch(tmp_path):
    """A listener on this machine hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        where = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        act = f"/OpenAction<</S/JavaScript/JS(app.launchURL('{where}'))>>/AA<</WC<</S/Launch/F({where})>>>>".encode()
        (tmp_path / "acts.pdf").write_bytes(written_pdf(act))
        assert EchoStudio().read(document(tmp_path / "acts.pdf")).reading.text
        row = {"id": "a", "task": "read", "images": [str(tmp_path / "acts.pdf")]}
        assert run_batch(EchoStudio(), [row], out=tmp_path / "out").done == 1
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    ("number", "content"),
    [(49, written_pdf(kids=b"", count=0)), (49, pdf(1)[:200]), (49, written_pdf(kids=b"2 0 R")), (49, b"%PDF-1.4 no")],
    ids=["no pages", "cut", "a ring", "broken"],
)  # fmt: skip
def test_49_broken_documents_are_refused_in_python_and_batch(number, content, tmp_path):
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(InputError):
        assert EchoStudio().chat("what?", document(tmp_path / "a.pdf")).reply.text
    rows = [{"id": "a", "task": "read", "images": [str(tmp_path / "a.pdf")]}, {"id": "b", "task": "svg", "prompt": "x"}]
    report = run_batch(EchoStudio(), rows, out=tmp_path / "out")
    first = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert report.complete and (report.failed == 1 or "cannot be drawn" in str(first))  # a page may be all that fails


def test_75_76_broken_weights_and_configurations_cost_the_jobs_that_name_them(tmp_path):
    cut, wrong = tmp_path / "cut", tmp_path / "wrong"
    shutil.copytree(asset("nano"), cut)
    shard = sorted(cut.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:1000])
    wrong.mkdir()
    (wrong / "model.json").write_text('{"size": "nano"}')
    others = [Choice(name=one.name, factory=partial(dsv4.load, str(one))) for one in (cut, wrong)]
    with served(EchoStudio, others=others) as address, httpx.Client(base_url=address, timeout=60) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        for folder in (cut, wrong):
            told = client.post(IMAGE, json={"prompt": "x", "model": folder.name})
            assert told.status_code == 503 and "is not there" in told.json()["error"]["message"], told.text
            assert "Traceback" not in told.text
        assert client.post(IMAGE, json={"prompt": "x"}).status_code == 200


def test_37_base64_of_others_is_taken_by_both_batches(client, tmp_path):
    plain = base64.b64encode(png()).decode()
    forms = [plain, plain.replace("+", "-").replace("/", "_"), "\n".join(plain[i : i + 30] for i in range(0, 900, 30))]
    rows = [
        {"custom_id": f"{n}", "method": "POST", "url": CHAT, "body": shown(f"data:image/png;base64,{one}")}
        for n, one in enumerate(forms)
    ]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    assert batch(client, content)["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    (tmp_path / "jobs.jsonl").write_bytes(content)
    assert run_batch(EchoStudio(), tmp_path / "jobs.jsonl", out=tmp_path / "out").done == 3


def test_the_pictures_of_these_tests_are_pictures():
    with Image.open(io.BytesIO(png())) as one:
        assert one.size == (40, 30)
