"""A corrected request says so at every door: page, API, client, command line and files; and can be sent as typed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from app import kinds
from app.cli import main
from app.commands import make
from app.house import House
from app.page import talk_view
from app.page.kit import progress_line
from dsv4 import InputError, Studio
from dsv4._parts import part
from tests.app.studios import Reading
from tests.browser.walk import served

SAID = "I read “srimp” as “shrimp”. Put a word in quotes to keep it as it is."
CHAT, IMAGE, VIDEO = "/v1/chat/completions", "/v1/images/generations", "/v1/videos"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(Reading) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def asked(text: str, **more) -> dict:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_an_answer_says_what_it_read_and_may_be_asked_as_typed(client):
    answer = client.post(CHAT, json=asked("a srimp")).json()
    assert answer["choices"][0]["message"]["content"] == "a shrimp"
    assert answer["corrected"] == {"srimp": "shrimp"} and answer["warnings"] == [SAID]
    plain = client.post(CHAT, json=asked("a srimp", correct=False)).json()
    assert plain["choices"][0]["message"]["content"] == "a srimp"
    assert "corrected" not in plain and "warnings" not in plain
    refused = client.post(CHAT, json=asked("a srimp", correct="no"))
    assert refused.status_code == 400 and "correct must be true or false" in refused.json()["error"]["message"]


def test_a_stream_says_it_at_its_end(client):
    text = client.post(CHAT, json=asked("a srimp", stream=True)).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert events[-1]["corrected"] == {"srimp": "shrimp"} and not any("corrected" in event for event in events[:-1])


def test_what_was_never_taught_is_said_whole_in_a_stream_and_to_our_own_client(client, address):
    answer = client.post(CHAT, json=asked("what is a zebra")).json()
    assert answer["untaught"] == ["zebra"] and "corrected" not in answer
    assert answer["warnings"] == ["“zebra” is not in the dictionary that I learnt: what I say of it may be made up."]
    text = client.post(CHAT, json=asked("what is a zebra", stream=True)).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert events[-1]["untaught"] == ["zebra"] and not any("untaught" in event for event in events[:-1])
    assert Studio.connect(f"{address}/v1").chat("what is a zebra").reply.untaught == ("zebra",)


def test_what_a_reply_makes_the_hands_make_remembers_it(client):
    answer = client.post(CHAT, json=asked("draw a srimp")).json()
    made_by = client.get(f"/v1/files/{answer['choices'][0]['message']['files'][0]}").json()["made_by"]
    assert (made_by["prompt"], made_by["corrected"]) == ("a shrimp", {"srimp": "shrimp"})


@pytest.mark.parametrize("form", ["svg", "png"])
def test_pictures_and_drawings_say_it(client, form):
    made = client.post(IMAGE, json={"prompt": "a srimp", "output_format": form, "n": 2}).json()
    assert made["warnings"] == [SAID]
    plain = client.post(IMAGE, json={"prompt": "a srimp", "output_format": form, "correct": False}).json()
    assert "warnings" not in plain


def test_a_clip_says_it_when_it_is_there(client):
    job = client.post(VIDEO, json={"prompt": "a srimp", "seconds": 0.25, "steps": 1}).json()
    while job["status"] not in ("completed", "failed"):
        job = client.get(f"{VIDEO}/{job['id']}").json()
    assert job["warnings"] == [SAID]


def test_our_client_hears_it_and_can_ask_as_typed(address):
    studio = Studio.connect(f"{address}/v1")
    assert studio.chat("a srimp").reply.corrected == {"srimp": "shrimp"}
    plain = studio.chat("a srimp", correct=False).reply
    assert (plain.text, plain.corrected) == ("a srimp", {})
    with pytest.raises(InputError, match="correct must be true or false"):
        studio.image("a srimp", correct=1)


def test_the_page_shows_it_below_the_answer(tmp_path, over):
    house = House(tmp_path / "home", Reading, name="echo")
    house.start()
    try:
        talk = house.talks.begin("me")
        over(house, house.say(talk, "me", "a srimp"))
        shown = talk_view.conversation(house, "me", house.talks.page(house.talks.get(talk.id, "me")))
        job = over(house, house.say(talk, "me", "/svg a srimp"))
    finally:
        house.close()
    assert f'<p class="told">{SAID}</p>' in shown and "a srimp" in shown
    assert SAID.rstrip(".") in progress_line(house, job)


def test_a_job_of_an_earlier_version_is_corrected_as_usual(tmp_path):
    params = kinds.check("svg", {"prompt": "a srimp"})
    assert "correct" not in params and kinds.check("svg", {"prompt": "a srimp", "correct": False})["correct"] is False
    made = kinds.perform(Reading(), "svg", params, {}, tmp_path / "out", lambda now: None, lambda: False)
    assert made["corrected"] == {"srimp": "shrimp"} and made["warnings"] == [SAID]
    with pytest.raises(InputError, match="correct must be true or false, got 'no'"):
        kinds.check("chat", {"prompt": "x", "correct": "no"})


@pytest.fixture
def here(monkeypatch) -> None:
    monkeypatch.setattr(make, "_load", lambda args: Reading())


def test_the_command_line_says_it_beside_the_answer(here, tmp_path, capsys):
    assert main(["chat", "a srimp"]) == 0
    assert capsys.readouterr() == ("a shrimp\n", f"{SAID}\n")
    assert main(["chat", "a srimp", "--as-typed"]) == 0
    assert capsys.readouterr() == ("a srimp\n", "")
    assert main(["chat", "a srimp", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["chat", "a srimp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made_by"]["corrected"] == {"srimp": "shrimp"}


@pytest.mark.parametrize(
    ("verb", "name"), [("svg", "a.svg"), ("image", "a.png"), ("video", "a.gif"), ("chat", "b.svg")]
)
def test_files_remember_it(here, tmp_path, capsys, verb, name):
    more = ["--seconds", "0.25"] if verb == "video" else []
    prompt = "draw a srimp" if verb == "chat" else "a srimp"
    assert main([verb, prompt, "-o", str(tmp_path / name), *more]) == 0
    assert SAID in capsys.readouterr().err
    assert part("generation.files").read_provenance(tmp_path / name)["corrected"] == {"srimp": "shrimp"}
    assert main([verb, prompt, "-o", str(tmp_path / name), "--as-typed", *more]) == 0
    assert "corrected" not in part("generation.files").read_provenance(tmp_path / name)


def test_a_held_conversation_is_told_which_words_were_read_as_others(here, tmp_path, capsys):
    (tmp_path / "asked.txt").write_text("a srimp\nhello\n")
    assert main(["chat", "--turns", str(tmp_path / "asked.txt")]) == 0
    assert f"1. **a srimp**\n   a shrimp\n   ({SAID})\n2. **hello**" in capsys.readouterr().out
