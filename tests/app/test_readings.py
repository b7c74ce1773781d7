"""Reading a document and changing a drawing as jobs: from the house, the API and a batch, or told why not."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from app.readings import check
from app.worker import cannot
from dsv4 import EchoStudio, InputError
from dsv4.batch import run_batch
from tests.app.studios import Unread
from tests.browser.walk import served


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "paper.pdf"
    page = Image.new("RGB", (144, 72), "white")
    page.save(path, save_all=True, append_images=[page], resolution=72)
    return path


def said(house, over, text, shown=(), talk=None):
    talk = talk or house.talks.begin("me")
    job = over(house, house.say(talk, "me", text, shown, parent=house.talks.get(talk.id, "me").head))
    return job, house.talks.page(house.talks.get(talk.id, "me"))[-1]


def test_a_paper_is_read_inside_a_conversation_with_its_boxes_drawn(house, over, paper):
    given = house.media.keep(paper.read_bytes(), owner="me", name="paper.pdf", suffix=".pdf", purpose="shown")
    job, answer = said(house, over, "/read", [given.id])
    assert job.state == "done" and answer.text.count("A page of 288 x 144") == 2, job.error
    kinds = [house.media.get(name, "me").path.suffix for name in answer.shown]
    assert kinds == [".png", ".png", ".md", ".json"]
    with Image.open(house.media.get(answer.shown[0], "me").path) as drawn:
        assert drawn.size == (288, 144) and len(drawn.getcolors(10**6)) > 1  # the box is in it
    record = json.loads(house.media.get(answer.shown[3], "me").path.read_text())
    assert record["pages"][1]["boxes"][0]["box"] == [250, 250, 749, 749]
    assert house.media.find("me") == [] and list(house.media.work.iterdir()) == []
    found, _ = said(house, over, "/read the red box", [given.id])
    assert found.params["task"] == "locate" and found.params["find"] == "the red box"
    with pytest.raises(InputError, match="add a PDF or a picture"):
        house.say(house.talks.begin("me"), "me", "/read")


def test_a_drawing_is_changed_by_words_and_still_says_how_it_was_made(house, over):
    made = house.made(over(house, house.submit("svg", {"prompt": "a tiger", "seed": 7}, owner="me")))[0]
    job, answer = said(house, over, "/svg make it blue", [made.id])
    (changed,) = house.made(job)
    assert changed.path.read_text() != made.path.read_text() and answer.shown == (changed.id,)
    assert (changed.made_by["prompt"], changed.made_by["seed"]) == ("a tiger", 7)
    assert changed.made_by["settings"]["edits"] == "make it blue"
    again = house.made(over(house, house.submit("svg", {"prompt": "make it bigger", "edit": changed.id}, owner="me")))[
        0
    ]
    assert again.made_by["settings"]["edits"] == "make it blue; make it bigger"
    wrong = over(house, house.submit("svg", {"prompt": "sing", "edit": made.id}, owner="me"))
    assert wrong.state == "failed" and "no edit that is known" in wrong.error and wrong.result["theirs"]
    with pytest.raises(InputError, match="all alike at temperature 0"):
        house.submit("svg", {"prompt": "x", "candidates": 3}, owner="me")
    with pytest.raises(InputError, match="there is no file"):
        house.submit("svg", {"prompt": "make it blue", "edit": made.id}, owner="you")


@pytest.mark.parametrize(
    ("params", "says"),
    [({}, "takes one document"), ({"shown": ["a", "b"]}, "takes one document"), ({"task": "no"}, "reading task"),
     ({"task": "locate"}, "go together"), ({"find": "x"}, "go together"), ({"pages": [0]}, "page numbers"),
     ({"pages": "1-3"}, "page numbers"), ({"mode": "huge"}, "mode"), ({"max_tokens": 0}, "max_tokens"),
     ({"find": 7}, "are words")],
)  # fmt: skip
def test_readings_that_cannot_be_are_refused(params, says):
    with pytest.raises(InputError, match=says):
        check({"shown": ["a"], **params} if params else {})


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(EchoStudio) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_the_api_reads_whole_and_as_a_stream(client, paper):
    url = f"data:application/pdf;base64,{base64.b64encode(paper.read_bytes()).decode()}"
    whole = client.post("/v1/readings", json={"file": url, "pages": [2], "surprise": 1}).json()
    assert [page["page"] for page in whole["pages"]] == [2] and whole["warnings"] == ["'surprise' is ignored"]
    assert client.get(f"/v1/readings/{whole['id']}").json()["text"] == whole["text"]
    file = client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a.pdf", paper.read_bytes())}).json()
    with client.stream("POST", "/v1/readings", json={"file": {"file_id": file["id"]}, "stream": True}) as stream:
        events = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
    *pieces, last = events
    assert (
        last["type"] == "reading.completed"
        and "".join(one["delta"] for one in pieces).replace("\n ", "\n").strip() == last["text"]
    )
    with client.stream("GET", f"/v1/readings/{last['id']}", params={"after": 2}) as stream:
        assert "reading.completed" in stream.read().decode()
    for body, status in (({}, 400), ({"file": "data:x"}, 400), ({"file": {"file_id": "file_0"}}, 404),
                         ({"file": "data:a/b;base64,AAAA"}, 422), ({"file": url, "pages": [9]}, 422),
                         ({"file": url, "task": "no"}, 400), ({"file": url, "pages": "1"}, 400)):  # fmt: skip
        refused = client.post("/v1/readings", json=body)
        assert refused.status_code == status, refused.text


def test_a_model_that_has_not_learnt_to_read_says_so_at_every_door(paper, tmp_path):
    assert "has not learnt print" in cannot(Unread())["read"] and cannot(EchoStudio()) == {}
    run_batch(Unread(), [{"id": "a", "task": "read", "images": [str(paper)]}], out=tmp_path / "out")
    line = json.loads((tmp_path / "out" / "results.jsonl").read_text())
    assert not line["ok"] and "has not learnt print" in line["error"]
    with served(Unread, "nano") as address, httpx.Client(base_url=address, timeout=30) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        url = f"data:application/pdf;base64,{base64.b64encode(paper.read_bytes()).decode()}"
        refused = client.post("/v1/readings", json={"file": url})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "model_cannot"
        assert client.post("/v1/images/generations", json={"prompt": "x"}).status_code == 200


def test_rows_of_a_batch_read(paper, tmp_path):
    body = {"file": f"data:application/pdf;base64,{base64.b64encode(paper.read_bytes()).decode()}", "pages": [2]}
    rows = [{"id": "a", "task": "read", "images": [str(paper)], "what": "ocr"}, {"id": "b", "task": "read"},
            {"custom_id": "c", "url": "/v1/readings", "body": body},
            {"id": "d", "task": "read", "images": [str(paper)], "pages": [9]}]  # fmt: skip
    for out in ("one", "two"):
        run_batch(EchoStudio(), rows, out=tmp_path / out)
    lines = [json.loads(line) for line in (tmp_path / "one" / "results.jsonl").read_text().splitlines()]
    assert len(lines[0]["pages"]) == 2 and lines[0]["pages"][0]["boxes"] and lines[0]["usage"]["read"] > 0
    assert "names its document" in lines[1]["error"] and lines[2]["response"]["body"]["pages"][0]["page"] == 2
    assert lines[3]["error"] == "the document has 2 pages; there is no page 9"
    assert (tmp_path / "one" / "results.jsonl").read_bytes() == (tmp_path / "two" / "results.jsonl").read_bytes()
