"""Jobs end to end: a model process that may die, a page that may close; nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from app.house import House
from app.kinds import begun_with
from dsv4 import InputError
from dsv4._parts import part
from tests.app.studios import Calling, SlowStudio


def until(true, seconds=20):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def running(house, job):
    until(lambda: house.jobs.get(job.id).step >= 1 or house.jobs.text(job))


def test_every_kind_ends_in_a_whole_file_that_tells_how_it_was_made(house, over):
    for kind, suffix in (("svg", ".svg"), ("image", ".png"), ("video", ".mp4")):
        job = over(house, house.submit(kind, {"prompt": "a tiger", "seed": 7}, owner="me"))
        (asset,) = house.made(job)
        assert job.state == "done" and asset.name == f"a-tiger{suffix}" and asset.job == job.id
        assert part("generation.files").read_provenance(asset.path)["seed"] == 7 == asset.made_by["seed"]
    params = {"prompt": "a tiger", "provenance": False, "suffix": ".webp"}
    silent = over(house, house.submit("image", params, owner="me"))
    assert part("generation.files").read_provenance(house.made(silent)[0].path) is None
    assert list(house.media.work.iterdir()) == []


def test_bad_settings_are_refused_before_they_wait(house):
    for kind, params, words in (
        ("image", {"prompt": " "}, "empty"), ("image", {"prompt": "x", "size": 100}, "nearest"),
        ("imagee", {"prompt": "x"}, "did you mean 'image'"), ("chat", {"prompt": "x", "shown": ["file_0"]}, "no file"),
        ("video", {"prompt": "x", "suffix": ".avi"}, "unknown format"), ("chat", {"prompt": "x", "mode": "m"}, "mode"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            house.submit(kind, params, owner="me")
    assert house.jobs.list("me") == []


def test_a_running_job_stops_within_a_step_and_leaves_no_file(house, over):
    job = house.submit("image", {"prompt": "slow tiger", "steps": 60}, owner="me")
    running(house, job)
    step, begun = house.jobs.get(job.id).step, time.monotonic()
    house.cancel(job.id, "me")
    ended = over(house, job)
    assert ended.state == "cancelled" and ended.step <= step + 2 and time.monotonic() - begun < 1
    assert house.made(ended) == [] and list(house.media.work.iterdir()) == []
    assert over(house, house.submit("svg", {"prompt": "next"}, owner="me")).state == "done"


def test_nobody_has_to_look(house):
    """A follower that leaves, as a closed tab does, stops nothing."""
    job = house.submit("image", {"prompt": "slow tiger"}, owner="me")

    async def leave():
        async for event in house.follow(job.id, "me"):
            if event.kind in ("step", "preview"):
                return

    asyncio.run(leave())
    until(lambda: house.jobs.get(job.id).over)
    assert house.jobs.get(job.id).state == "done"


def test_a_defect_is_not_shown_and_the_next_job_works(house, over):
    job = over(house, house.submit("image", {"prompt": "break it"}, owner="me"))
    assert job.state == "failed" and "secret" not in job.error and "log" in job.error
    assert over(house, house.submit("image", {"prompt": "fine"}, owner="me")).state == "done"


def test_a_process_that_is_killed_is_replaced_and_its_job_done_again(house, over):
    job = house.submit("image", {"prompt": "slow tiger", "steps": 20}, owner="me")
    running(house, job)
    first = house.keeper.pid
    os.kill(first, signal.SIGKILL)
    done = over(house, job)
    assert done.state == "done" and done.attempts == 2 and house.keeper.pid != first


def test_a_job_that_kills_its_process_ends_and_others_do_not_suffer(house, over):
    deadly = house.submit("image", {"prompt": "die"}, owner="me")
    other = house.submit("image", {"prompt": "fine"}, owner="you")
    assert over(house, other).state == "done"
    ended = over(house, deadly)
    assert ended.state == "failed" and ended.attempts == 3 and "interrupted" in ended.error


def test_a_silent_process_is_given_up(house, over, monkeypatch):
    from app import keeper

    until(lambda: house.keeper.state == "ready")
    first = house.keeper.pid
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(keeper, "LEASE", 2.0)
    assert over(house, house.submit("svg", {"prompt": "a tiger"}, owner="me")).state == "done"
    assert house.keeper.pid != first


def test_an_answer_that_is_cut_off_keeps_its_words(house, over):
    talk = house.talks.begin("me")
    job = house.say(talk, "me", "one two three die five six")
    assert over(house, job).state == "failed"
    answer = house.talks.page(house.talks.get(talk.id, "me"))[-1]
    assert answer.state == "failed" and answer.text == "one two three" and "interrupted" in answer.meta["error"]


def test_conversations_branch_by_edit_and_retry(house, over):
    talk = house.talks.begin("me")
    over(house, house.say(talk, "me", "first question"))

    def page():
        return house.talks.page(house.talks.get(talk.id, "me"))

    asked, answer = page()
    assert (asked.text, answer.text) == ("first question", "first question")
    over(house, house.answer_again(talk, "me", answer))
    assert (page()[-1].branch, page()[-1].branches) == (2, 2)
    over(house, house.say(talk, "me", "edited question", parent=asked.parent))
    assert [one.text for one in page()] == ["edited question", "edited question"]
    house.talks.turn(page()[0], -1)
    assert [one.text for one in page()] == ["first question"] * 2 and page()[1].branch == 2
    house.talks.turn(page()[1], 1)
    assert page()[1].id == answer.id
    assert [found.id for found in house.talks.list("me", words="edited")] == [talk.id]
    assert house.talks.list("you") == []
    house.talks.drop(talk.id, "me")
    with pytest.raises(InputError):
        house.talks.get(talk.id, "me")


def test_something_is_made_inside_a_conversation_and_can_be_talked_about(house, over):
    talk = house.talks.begin("me")
    for command, kind in (("/image a tiger", "image"), ("/svg a tiger", "svg"), ("/video a ball", "video")):
        head = house.talks.get(talk.id, "me").head
        over(house, house.say(house.talks.get(talk.id, "me"), "me", command, parent=head))
        answer = house.talks.page(house.talks.get(talk.id, "me"))[-1]
        assert house.media.get(answer.shown[0], "me").kind == kind, answer
    head = house.talks.get(talk.id, "me").head
    job = over(house, house.say(house.talks.get(talk.id, "me"), "me", "What is in it?", parent=head))
    assert job.state == "done", job.error
    # A clip that is shown is gone on with; a drawing is changed; a picture stands in front.
    head = house.talks.get(talk.id, "me").head
    job = over(house, house.say(house.talks.get(talk.id, "me"), "me", "/video on", shown=answer.shown, parent=head))
    assert job.state == "done" and job.params["after"] == answer.shown[0], job.error
    assert [begun_with("video", kind) for kind in ("image", "svg", "document", "")] == ["first_frame"] * 3 + [""]
    assert [begun_with("svg", kind) for kind in ("svg", "image", "video")] == ["edit", "picture", ""]
    assert begun_with("image", "image") == ""


def test_a_new_server_goes_on_where_the_old_one_was_stopped(tmp_path, over):
    house = House(tmp_path, SlowStudio, name="echo")
    house.start()
    talk = house.talks.begin("me")
    clip = house.submit("video", {"prompt": "slow ball", "steps": 4}, owner="me")
    running(house, clip)
    answer = house.say(talk, "me", "one two three")
    house.close()
    again = House(tmp_path, SlowStudio, name="echo")
    assert again.jobs.get(clip.id).state == "queued" and again.jobs.get(answer.id).state == "queued"
    again.start()
    assert over(again, clip).state == "done" and over(again, answer).state == "done"
    assert again.talks.page(again.talks.get(talk.id, "me"))[-1].text == "one two three"
    again.close()


def test_a_full_disk_fails_the_job_with_its_reason(house, over, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(house.media, "keep", full)
    job = over(house, house.submit("image", {"prompt": "a tiger"}, owner="me"))
    assert job.state == "failed" and "No space left on device" in job.error
    monkeypatch.undo()
    assert over(house, house.submit("image", {"prompt": "a tiger"}, owner="me")).state == "done"
    assert list(Path(house.media.work).iterdir()) == []


def test_order_is_kept_in_the_house(house, over, monkeypatch):
    """Old events, previews and the pictures of old requests go; what was made stays."""
    job = over(house, house.submit("image", {"prompt": "slow tiger"}, owner="me"))
    given = house.media.keep(b"x", owner="me", name="a.png", suffix=".png", purpose="request")
    assert list(house.previews.iterdir()) and house.jobs.events(job)
    later = time.time() + 2 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    house._tidy()
    assert not list(house.previews.iterdir()) and not house.jobs.events(job) and house.made(house.jobs.get(job.id))
    with pytest.raises(InputError):
        house.media.get(given.id, "me")


def test_a_reply_that_calls_the_hands_shows_what_they_made(tmp_path, over):
    house = House(tmp_path / "home", Calling, name="echo")
    house.start()
    try:
        talk = house.talks.begin("me")
        over(house, house.say(talk, "me", "draw a tiger"))
        answer = house.talks.page(house.talks.get(talk.id, "me"))[-1]
        assert answer.text == "svg: a tiger" and house.media.get(answer.shown[0], "me").kind == "svg"
        over(house, house.say(talk, "me", "/image a heron", parent=answer.id))
        answer = house.talks.page(house.talks.get(talk.id, "me"))[-1]
        last = over(house, house.say(talk, "me", "now make it red", parent=answer.id))
    finally:
        house.close()
    said = [told["text"] for told in last.params["history"]]
    assert said == ["draw a tiger", "svg: a tiger", "a heron", "image: a heron"]
