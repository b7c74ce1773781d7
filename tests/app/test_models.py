"""Several models in one studio: chosen by name at every door, loaded when first asked, real weights among them."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from app import kinds, presets, worker
from app.house import House
from app.shelf import Choice, Shelf, choices
from dsv4 import EchoStudio, InputError
from tests.app.studios import Full, Preset, Second, Weights, broken
from tests.app.test_api import batch, data_url, shown
from tests.app.test_house import until
from tests.browser.walk import served

CHAT, IMAGE, VIDEO = "/v1/chat/completions", "/v1/images/generations", "/v1/videos"
OTHERS = (Choice(name="second", factory=Second), Choice(name="lost", factory=broken))


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(EchoStudio, others=OTHERS) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_every_model_is_listed_and_answers_by_its_name(client):
    until(lambda: client.get("/readyz").status_code == 200)
    listed = client.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["echo", "second", "lost"]
    assert client.get("/v1/models/second").json()["state"] == "loads when first asked"
    answer = client.post(CHAT, json=said("hello", model="second")).json()
    assert answer["model"] == "second" and answer["choices"][0]["message"]["content"] == "second: hello"
    assert client.get("/v1/models/second").json()["fingerprint"] == "second-1"
    again = client.get(f"{CHAT}/{answer['id']}").json()
    assert again["model"] == "second"
    for name in ("echo", "nano", None):
        told = client.post(CHAT, json=said("hello", model=name)).json()
        assert (told["model"], told["choices"][0]["message"]["content"]) == ("echo", "hello")
    unknown = client.post(CHAT, json=said("hello", model="secont"))
    assert unknown.status_code == 404 and "did you mean 'second'" in unknown.json()["error"]["message"]


def test_a_model_that_cannot_be_loaded_costs_the_jobs_that_name_it(client):
    lost = client.post(IMAGE, json={"prompt": "x", "model": "lost"})
    assert lost.status_code == 503 and "no weights here" in lost.json()["error"]["message"]
    assert client.post(IMAGE, json={"prompt": "x"}).status_code == 200


def test_a_batch_line_names_its_model(client):
    lines = [{"custom_id": name, "url": CHAT, "body": said("x", model=name)} for name in ("second", "echo", "none")]
    made = batch(client, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    files = [made["output_file_id"], made["error_file_id"]]
    told = [json.loads(line) for name in files for line in client.get(f"/v1/files/{name}/content").text.splitlines()]
    found = {line["custom_id"]: line["response"]["body"] for line in told}
    assert found["second"]["choices"][0]["message"]["content"] == "second: x"
    assert found["echo"]["model"] == "echo" and "unknown model 'none'" in found["none"]["error"]["message"]


def test_a_conversation_can_change_its_model(tmp_path, over):
    house = House(tmp_path, EchoStudio, name="echo", others=OTHERS)
    house.start()
    talk = house.talks.begin("me")
    over(house, house.say(talk, "me", "hello"))
    last = house.talks.page(house.talks.get(talk.id, "me"))[-1]
    over(house, house.answer_again(talk, "me", last, model="second"))
    assert house.talks.page(house.talks.get(talk.id, "me"))[-1].text == "second: hello"
    loading = house.say(talk, "me", "/image x", model="second")
    assert over(house, loading).state == "done" and house.made(house.jobs.get(loading.id))
    house.close()


def test_other_weights_under_a_name_are_not_taken(tmp_path, over):
    (tmp_path / "weights").write_text("one")
    other = Choice(name="other", factory=Weights(tmp_path / "weights"))
    house = House(tmp_path / "home", EchoStudio, name="echo", others=[other, OTHERS[0]])
    house.start()
    assert over(house, house.submit("svg", {"prompt": "x", "model": "other"}, owner="me")).state == "done"
    (tmp_path / "weights").write_text("two")
    over(house, house.submit("svg", {"prompt": "x", "model": "second"}, owner="me"))  # which lets go of the other
    refused = over(house, house.submit("svg", {"prompt": "x", "model": "other"}, owner="me"))
    assert refused.state == "failed" and "weights were changed" in refused.error
    assert over(house, house.submit("svg", {"prompt": "x"}, owner="me")).state == "done"
    house.close()


def test_what_is_configured_is_checked_at_the_start(tmp_path):
    (tmp_path / "mine").mkdir()
    found = choices(["echo", str(tmp_path / "mine")])
    assert [one.name for one in found] == ["echo", "mine"] and found[0].factory().name == "echo"
    with pytest.raises(InputError, match="unknown model 'none'"):
        choices(["none"])
    (tmp_path / "again" / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match="two models are called 'mine'"):
        choices([str(tmp_path / "mine"), str(tmp_path / "again" / "mine")])
    shelf = Shelf(lambda: "nano", found)
    assert shelf.names == ["nano", "echo", "mine"] and shelf.find("nano") is None and shelf.find("") is None


# Real weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder of weights: one tiny preset, half of another, none of the rest."""
    from tests.generation.tiny_pipelines import saved

    root = tmp_path_factory.mktemp("weights")
    saved("z-image-turbo", root / "z-image-turbo")
    (root / "ltx-video").mkdir()
    return root


def test_every_preset_is_shown_with_what_it_needs_whether_it_is_here_or_not(weights):
    rows = {one.name: one for one in presets.shelf(weights)}
    assert list(rows) == list(presets.STATED) and [name for name, one in rows.items() if one.here] == ["z-image-turbo"]
    assert "GB of weights here" in rows["z-image-turbo"].memory
    assert "no model_index.json" in rows["ltx-video"].words
    assert rows["qwen-image"].words.startswith("hf download Qwen/Qwen-Image --local-dir ")
    for one in presets.shelf(None):
        assert not one.here and "hf download" in one.words and "GB on a card" in one.memory


def test_the_very_pipeline_makes_a_picture_that_says_how(weights, tmp_path):
    (one,) = choices([], weights)
    studio = one.factory()
    params, told = presets.check(one.name, "image", {"prompt": "a cat", "width": 64, "height": 70, "steps": 1}), []
    made = kinds.perform(studio, "image", params, {}, tmp_path / "out", told.append, lambda: False)
    assert made["warnings"] == ["height 70 became 64: z-image-turbo takes multiples of 16"] and told[-1].total == 1
    with Image.open(made["file"]) as picture:
        assert picture.size == (64, 64) and "Apache-2.0" in str(picture.info)
    assert worker.facts(studio)["cannot"].keys() == {"chat", "svg", "video", "read"} and len(studio.fingerprint) == 16
    with pytest.raises(InputError, match="no model_index.json"):
        presets.PresetStudio("ltx-video", str(weights / "ltx-video"))


def test_a_preset_is_asked_by_the_same_routes():
    """With a stand-in for the pipeline, which the test above runs."""
    other = Choice(name="z-image-turbo", factory=Preset, kinds=("image",), preset=True)
    with served(EchoStudio, others=[other]) as address, httpx.Client(base_url=address, timeout=30) as client:
        asked = {"model": "z-image-turbo", "prompt": "a cat", "size": "96x64", "response_format": "url"}
        made = client.post(IMAGE, json=asked).json()
        assert made["warnings"] == ["asked for 8 steps at 0.0"] and made["size"] == "96x64", made
        with Image.open(io.BytesIO(client.get(made["data"][0]["url"]).content)) as picture:
            assert picture.size == (96, 64)
        assert client.get("/v1/models/z-image-turbo").json()["kinds"] == ["image"]
        for route, body in ((CHAT, said("x")), (VIDEO, {"prompt": "x"}), (IMAGE, {"prompt": "x", "size": "9x9"})):
            refused = client.post(route, json={**body, "model": "z-image-turbo"})
            assert refused.status_code == 400, refused.text
        assert client.post(CHAT, json=said("still here")).status_code == 200


@pytest.mark.parametrize(
    ("bad", "says"),
    [({"width": 0}, "width must be a whole number from 64"), ({"steps": 10**6}, "steps must be"),
     ({"guidance": float("nan")}, "guidance must be a number from 0 to 20"), ({"height": 64.5}, "height must be"),
     ({"seed": -1}, "seed must be"), ({"prompt": " "}, "the prompt is empty"), ({"suffix": ".exe"}, "format must be")],
)  # fmt: skip
def test_what_a_preset_cannot_do_is_said_before_it_is_queued(bad, says):
    with pytest.raises(InputError, match=says):
        presets.check("z-image-turbo", "image", {"prompt": "a cat", **bad})
    usual = presets.check("wan2.1-1.3b", "video", {"prompt": "a cat"})
    assert usual["preset"] == {"width": 832, "height": 480, "steps": 50, "guidance": 5.0, "frames": 81}


# A full device --------------------------------------------------------------------------------------------------------


def test_f14_a_full_device_gets_one_smaller_plan_and_then_advice(scene):
    """Simulated: torch's error is raised as long as the job asks for too much."""
    with served(Full) as address, httpx.Client(base_url=address, timeout=30) as client:
        picture = data_url(scene.read_bytes())
        less = client.post(CHAT, json={**shown(picture), "mode": "small"}).json()
        assert less["choices"][0]["message"]["content"].startswith("[a picture of 96 x 64] seen in tiny")
        assert less["warnings"] == ["The device was full, so mode small became tiny."]
        most = client.post(CHAT, json={**shown(picture), "mode": "gundam"})
        assert most.status_code == 507 and "ask for less at once" in most.json()["error"]["message"]
        made = client.post(VIDEO, json={"prompt": "x", "seconds": "2"}).json()
        until(lambda: client.get(f"{VIDEO}/{made['id']}").json()["status"] == "completed")
        assert client.get(f"{VIDEO}/{made['id']}").json()["warnings"] == ["The device was full, so 2 seconds became 1."]
        held = client.post(CHAT, json=said("how much is held?")).json()
        assert held["choices"][0]["message"]["content"] == "held 0"  # what did not fit was let go of


def test_a_smaller_plan_is_smaller_or_says_nothing():
    chat = {"shown": ["a"], "history": [], "mode": "gundam"}
    names = [chat["mode"]]
    while (now := kinds.smaller("chat", chat))[1]:
        chat = now[0]
        names.append(chat["mode"])
    assert names == ["gundam", "large", "base", "small", "tiny"]
    assert kinds.smaller("chat", {"shown": [], "history": [], "mode": "gundam"})[1] == ""
    assert kinds.smaller("video", {"seconds": 0.25})[1] == "" and kinds.smaller("image", {})[1] == ""
    less, words = kinds.smaller("image", {"preset": {"width": 1024, "height": 512, "steps": 8}})
    assert less["preset"] == {"width": 768, "height": 384, "steps": 8} and words == "1024 x 512 became 768 x 384"


def test_choices_can_be_sent_to_another_process(weights):
    for one in choices(["echo"], weights):
        assert pickle.loads(pickle.dumps(one.factory)).args == one.factory.args
        assert dataclasses.replace(one).name == one.name and isinstance(one.factory, partial)


def test_rows_of_engram_are_counted_by_job():
    from app.rows_read import RowsRead
    from dsv4.studio import Studio

    studio = Studio.load("nano")
    meter = RowsRead(studio)
    reply = studio.chat("What is a heron?", max_tokens=4).reply
    told = meter.take()["engram"]
    part_of = studio.model.core.config.engram
    a_token = len(part_of.layers) * part_of.orders * part_of.heads
    tokens = reply.usage.read + reply.usage.written
    assert told["rows"] % a_token == 0 and tokens - 1 <= told["rows"] // a_token <= tokens + 1 and told["seconds"] > 0
    assert meter.take() == {} and RowsRead(EchoStudio()).take() == {}
