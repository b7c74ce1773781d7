"""The queue: fair turns, events that are never lost, ends that happen once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from app import jobs as queue
from app.jobs import ATTEMPTS, Jobs, QueueFull
from app.store import Store
from dsv4 import InputError


@pytest.fixture
def jobs(tmp_path):
    store = Store(tmp_path / "home")
    yield Jobs(store)
    store.close()


def ask(jobs, owner="me", kind="image", **more):
    return jobs.submit(kind, {"prompt": "a tiger"}, owner=owner, **more)


def test_turns_go_round_and_places_say_so(jobs):
    many = [ask(jobs, "many") for _ in range(5)]
    few = ask(jobs, "few")
    assert [jobs.place(job) for job in (*many, few)] == [0, 2, 3, 4, 5, 1]
    order = []
    while (job := jobs.claim("w")) is not None:
        order.append(job.id)
        jobs.end(job, "done")
    assert order == [many[0].id, few.id, *(job.id for job in many[1:])]


def test_two_browsers_of_one_person_are_two_lanes_and_batches_yield(jobs):
    first = [ask(jobs, lane="me/a") for _ in range(3)]
    second = ask(jobs, lane="me/b")
    low, high = ask(jobs, lane="you", priority=1), ask(jobs, lane="you")
    claimed = [jobs.claim("w").id for _ in range(6)]
    assert claimed.index(second.id) == 1 and claimed.index(high.id) < claimed.index(low.id)
    assert set(claimed) == {job.id for job in (*first, second, low, high)}


def test_the_queue_of_one_person_has_an_end(jobs, monkeypatch):
    monkeypatch.setattr(queue, "QUEUED_JOBS", 3)
    for _ in range(3):
        ask(jobs)
    with pytest.raises(QueueFull, match="wait for some"):
        ask(jobs)
    ask(jobs, "you")


def follow(jobs, job, after=0):
    async def all_of():
        return [event async for event in jobs.follow(job, after)]

    return asyncio.run(asyncio.wait_for(all_of(), 10))


def test_events_are_replayed_from_any_number_with_none_lost_or_twice(jobs):
    job = ask(jobs, kind="chat")
    job = jobs.claim("w")

    def speak():
        for number in range(60):
            jobs.tell(job, "text", {"delta": f"{number} "})
            time.sleep(0.002)
        jobs.end(job, "done", result={"text": "all"})

    speaker = threading.Thread(target=speak)
    speaker.start()
    live = follow(jobs, job)
    speaker.join()
    assert [event.seq for event in live] == list(range(1, 64))
    assert "".join(event.data.get("delta", "") for event in live) == "".join(f"{n} " for n in range(60))
    for after in (0, 1, 30, 62):
        assert follow(jobs, job, after) == live[after:]
    assert follow(jobs, job, 63)[-1].kind == "done"


def test_a_job_whose_events_were_forgotten_still_ends(jobs):
    job = ask(jobs)
    jobs.end(jobs.claim("w"), "failed", error="no")
    jobs.forget(events_before=time.time() + 1, jobs_before=0)
    (last,) = follow(jobs, job)
    assert last.kind == "failed" and last.data == {"error": "no"}
    assert jobs.forget(events_before=0, jobs_before=time.time() + 1) == 1


def test_cancelling_is_idempotent(jobs):
    waiting = ask(jobs)
    assert jobs.cancel(waiting.id, "me").state == "cancelled"
    assert jobs.cancel(waiting.id, "me").state == "cancelled"
    running = ask(jobs)
    running = jobs.claim("w")
    assert jobs.cancel(running.id, "me").cancel
    assert jobs.end(running, "cancelled") and not jobs.end(running, "done")
    assert jobs.cancel(running.id, "me").state == "cancelled"
    with pytest.raises(InputError, match="there is no job"):
        jobs.cancel(waiting.id, "you")


def test_a_restart_queues_again_but_not_for_ever_and_not_answers(jobs):
    picture, answer, batch = ask(jobs), ask(jobs, kind="chat"), ask(jobs, source="batch")
    for _ in range(3):
        jobs.claim("dead")
    jobs.tell(jobs.get(answer.id), "text", {"delta": "half a"})
    jobs.recover()
    assert jobs.get(picture.id).state == "queued"
    assert jobs.get(batch.id).state == "cancelled", "its batch asks again"
    cut = jobs.get(answer.id)
    assert cut.state == "failed" and "interrupted" in cut.error and cut.result["text"] == "half a"
    for _ in range(ATTEMPTS - 1):
        jobs.claim("dead")
        jobs.recover()
    assert jobs.get(picture.id).state == "failed"


def test_time_left_is_never_negative_and_unknown_at_first(jobs, monkeypatch):
    job = ask(jobs)
    assert jobs.seconds_left(job) is None
    jobs.end(jobs.claim("w"), "done", seconds=4.0)
    waiting = ask(jobs)
    assert jobs.seconds_left(waiting) == pytest.approx(6.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock jumps back by decades
    running = jobs.claim("w")
    jobs.tell(running, "step", {"step": 3, "total": 4})
    assert jobs.seconds_left(jobs.get(running.id)) == pytest.approx(1.0)
