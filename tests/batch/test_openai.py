"""Rows and answers in OpenAI's form: what is taken, what is refused in its own line, and what comes back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from dsv4 import EchoStudio
from dsv4.batch import read_rows, run_batch
from dsv4.batch.plan import groups, seed_of

PNG = "data:image/png;base64,"


def row(name: str, url: str = "/v1/images/generations", **body) -> dict:
    return {"custom_id": name, "method": "POST", "url": url, "body": body or {"prompt": "a tiger"}}


def chat(name: str, content, **more) -> dict:
    return row(name, "/v1/chat/completions", messages=[{"role": "user", "content": content}], **more)


def run(rows: list[dict], out: Path, **settings) -> list[dict]:
    run_batch(EchoStudio(), rows, out=out, **settings)
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_answers_have_the_shape_that_the_public_client_reads(tmp_path, scene):
    from pydantic import TypeAdapter, ValidationError

    address = PNG + base64.b64encode(scene.read_bytes()).decode()
    rows = [
        chat("c", [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": address}}]),
        row("i", prompt="a tiger", size="64x64"),
        row("s", prompt="a heart", output_format="svg"),
        row("v", "/v1/videos", prompt="a cat", seconds="0.5"),
    ]
    one, two, three, four = run(rows, tmp_path / "out")
    assert [line["custom_id"] for line in (one, two, three, four)] == ["c", "i", "s", "v"]
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in (one, two, three, four))
    body = one["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "[a picture of 96 x 64] what?"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert two["response"]["body"]["data"] == [{"url": "files/i.png"}]
    assert (tmp_path / "out" / "files" / "s.svg").read_text().startswith("<svg ")
    assert four["response"]["body"]["object"] == "video" and four["response"]["body"]["url"] == "files/v.mp4"
    try:
        from openai.types.chat import ChatCompletion
    except ModuleNotFoundError:
        assert {"id", "object", "created", "model", "choices", "usage"} == set(body)
    else:
        try:
            TypeAdapter(ChatCompletion).validate_python(body)
        except ValidationError as error:
            pytest.fail(str(error))


def test_a_conversation_becomes_its_last_question(scene):
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "image_url", "image_url": "scene.png"}]},
        {"role": "assistant", "content": "a red square"},
        {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "text", "text": "colour?"}]},
    ]
    (job,), _ = read_rows([row("c", "/v1/chat/completions", messages=messages, max_completion_tokens=9, seed=3)])
    assert job.prompt == "what\ncolour?" and job.options == {"max_tokens": 9, "seed": 3}
    assert [said.role for said in job.history] == ["system", "user", "assistant"]
    assert len(job.history[1].parts) == 2


REFUSED = [
    (row("a", "/v1/embeddings"), "unknown url '/v1/embeddings'"),
    ({**row("a"), "method": "GET"}, "method must be POST"),
    ({**row("a"), "extra": 1}, "unknown key in a row of a batch 'extra'"),
    ({**row("a"), "body": "prompt"}, "body must be an object"),
    (row("a", prompt="x", stream=True), "cannot stream"),
    (row("a", prompt="x", n=2), "n must be 1"),
    (row("a", prompt="x", siz="64x64"), "did you mean 'size'"),
    (row("a", prompt="x", size="640x480"), "size must be auto or 8x8"),
    (row("a", prompt="x", size="50x50"), "the nearest is 48"),
    (row("a", prompt="x", output_format="jpgg"), "unknown output_format"),
    (row("a", prompt=7), "prompt must be text"),
    (row("a", prompt="x", model="gpt-9"), "unknown model 'gpt-9'"),
    (row("a", prompt="x", model=9), "model must be text"),
    (row("a", "/v1/videos", prompt="x", seconds="long"), "seconds must be a number"),
    (row("a", "/v1/videos", prompt="x", seconds=900), "seconds must be a number from"),
    (row("a", "/v1/videos", prompt="x", input_reference=3), "input_reference must be"),
    (row("a", "/v1/chat/completions", messages=[]), "at least one message"),
    (row("a", "/v1/chat/completions", messages=["x"]), "a message is an object"),
    (row("a", "/v1/chat/completions", messages=[{"role": "boss", "content": "x"}]), "unknown role 'boss'"),
    (row("a", "/v1/chat/completions", messages=[{"role": "assistant", "content": "x"}]), "by the user"),
    (row("a", "/v1/chat/completions", messages=[{"role": "user", "content": "x"}] * 201), "201 messages given"),
    (chat("a", []), "content must be text or a list"),
    (chat("a", [{"type": "audio"}]), "unknown type of a part 'audio'"),
    (chat("a", [{"type": "image_url", "image_url": {}}]), "image_url must hold a url"),
    (chat("a", ""), "the prompt is empty"),
]


@pytest.mark.parametrize(("bad", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_a_row_may_not_say_is_its_own_error(tmp_path, bad, says):
    first, second = run([bad, row("b")], tmp_path / "out")
    assert says in first["error"]["message"] and first["error"]["code"] == "invalid_request"
    assert first["response"]["status_code"] == 400 and first["response"]["body"]["error"]["message"]
    assert second["error"] is None


ADDRESSES = [
    ("http://127.0.0.1/a.png", "not fetched from http:"),
    ("https://metadata.google.internal/", "not fetched from https:"),
    ("file:///etc/hostname.png", "not fetched from file:"),
    ("gopher://x", "not fetched from gopher:"),
    ("data:text/html;base64,AAAA", "reads data:image/png;base64"),
    ("data:image/png,AAAA", "reads data:image/png;base64"),
    ("data:image/png;base64", "reads data:image/png;base64"),
    (PNG + "A", "base64 of a picture cannot be read"),
    (PNG + "!!!!", "base64 of a picture cannot be read"),
    (PNG, "picture"),
    (PNG + "AAAA", "picture"),
    ("a\0.png", "NUL"),
    ("none.png", "no picture at 'none.png'"),
]


@pytest.mark.parametrize(("address", "says"), ADDRESSES, ids=[repr(address) for address, _ in ADDRESSES])
def test_pictures_come_from_inside_and_nothing_is_fetched(tmp_path, address, says):
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": address}}]
    (line,) = run([chat("a", parts)], tmp_path / "out")
    assert says in line["error"]["message"]


def test_base64_is_read_as_others_write_it(tmp_path, scene):
    plain = base64.b64encode(scene.read_bytes()).decode()
    forms = [plain, plain.replace("+", "-").replace("/", "_"), "\n".join(plain[i : i + 76] for i in range(0, 9999, 76))]
    rows = [{"id": f"{n}", "task": "chat", "prompt": "x", "images": [PNG + form]} for n, form in enumerate(forms)]
    assert {line["text"] for line in run(rows, tmp_path / "out")} == {"[a picture of 96 x 64] x"}


def test_paths_can_be_closed(tmp_path, scene):
    rows = [{"id": "a", "task": "chat", "prompt": "x", "images": [str(scene)]}, row("b", prompt="x")]
    closed = run(rows, tmp_path / "closed", local_files=False)
    assert "pictures by path are closed here" in closed[0]["error"] and closed[1]["error"] is None
    assert run(rows, tmp_path / "open")[0]["ok"]


def test_fields_that_change_nothing_are_named(tmp_path):
    (line,) = run([chat("a", "hello", top_p=0.3, user="me")], tmp_path / "out")
    assert line["response"]["body"]["warnings"] == ["top_p changes nothing here", "user changes nothing here"]


def test_a_broken_line_answers_in_the_form_of_the_file(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text(json.dumps(row("a")) + "\n{broken\n")
    run_batch(EchoStudio(), path, out=tmp_path / "out")
    last = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[-1])
    assert last["custom_id"] is None and last["error"]["line"] == 2


def test_both_forms_may_stand_in_one_file(tmp_path):
    lines = run([{"id": "a", "task": "chat", "prompt": "x"}, chat("b", "x")], tmp_path / "out")
    assert lines[0]["text"] == "x" and lines[1]["response"]["body"]["choices"][0]["message"]["content"] == "x"


def test_rows_without_a_seed_get_one_from_the_batch_and_their_id(tmp_path):
    rows = [row(name, prompt="a tiger", size="64x64") for name in ("a", "b")] + [row("c", prompt="a tiger", seed=4)]
    run(rows, tmp_path / "one", seed=1)
    run(rows, tmp_path / "two", seed=2)
    run(rows, tmp_path / "none")

    def pictures(out: str) -> list[bytes]:
        return [(tmp_path / out / "files" / f"{name}.png").read_bytes() for name in "abc"]

    made = {out: pictures(out) for out in ("one", "two", "none")}
    assert made["one"][0] != made["one"][1] and made["one"][0] != made["two"][0]
    assert made["one"][2] == made["two"][2] == made["none"][2]
    assert made["none"][0] == made["none"][1]
    assert 0 <= seed_of(2**63 - 1, "x" * 200) < 2**63 and seed_of(1, "a") == seed_of(1, "a")


def test_groups_depend_on_the_kinds_alone():
    kinds = [("chat", 5), ("svg", 7), ("chat", 5), ("chat", 6), ("chat", 5), ("video",)]
    assert list(groups(kinds, size=2)) == [(0, 2), (1,), (3,), (4,), (5,)]
    assert list(groups([("chat",)] * 70)) == [tuple(range(32)), tuple(range(32, 64)), tuple(range(64, 70))]
    assert list(groups([("video", "2")] * 2)) == [(0,), (1,)]
