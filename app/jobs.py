"""The durable queue: who asked for what, whose turn it is, and every event of a job under a number that never changes.

A job is queued, running, and then done, failed or cancelled. Its events (`state`, `step`, `preview`, `text`, and one
that ends it) are kept, so whoever comes back says the last number that they saw and gets the rest. Turns go round
robin over lanes (one a person and browser): a lane with five hundred jobs delays another lane by one job.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from dsv4.errors import InputError
from dsv4.limits import QUEUED_JOBS

from .store import Store, new_id

ENDED = ("done", "failed", "cancelled")
SPOKEN = ("chat", "read")  # kinds whose words are kept when they are cut off
ATTEMPTS = 3  # how often a job is begun, when the process that worked on it keeps dying
INTERRUPTED = "It was interrupted: the studio stopped in the middle of it. Try again."


class QueueFull(InputError):
    """This person has too many jobs waiting."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as it stands."""

    seq: int
    id: str
    owner: str
    lane: str
    source: str
    kind: str
    params: dict[str, Any]
    state: str
    step: int
    total: int
    attempts: int
    cancel: bool
    seconds: float
    created: float
    ended: float | None
    error: str
    result: dict[str, Any]

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job; `seq` counts from 1 within the job."""

    seq: int
    kind: str
    data: dict[str, Any]


class Jobs:
    """The queue of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changed = threading.Condition()
        self.version = 0  # grows with every event: a follower that has seen this version has seen everything

    def submit(
        self, kind: str, params: Mapping[str, Any], *, owner: str, lane: str = "", source: str = "api",
        priority: int = 0,
    ) -> Job:  # fmt: skip
        """Queue a job; raises QueueFull when this owner has QUEUED_JOBS waiting. A lower priority number goes first."""
        name = new_id("job")
        with self.store.change() as change:
            (waiting,) = change.execute(
                "SELECT count(*) FROM job WHERE owner = ? AND state IN ('queued', 'running')", (owner,)
            ).fetchone()
            if waiting >= QUEUED_JOBS:
                raise QueueFull(f"{waiting} jobs of yours are waiting, which is the most; wait for some of them")
            change.execute(
                "INSERT INTO job (id, owner, lane, source, kind, params, priority, state, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
                (name, owner, lane or owner, source, kind, json.dumps(dict(params)), priority, time.time()),
            )
        job = self.get(name)
        self.tell(job, "state", {"state": "queued"})
        return job

    def get(self, name: str, owner: str | None = None) -> Job:
        """A job by its id; raises InputError when there is none, or it is somebody else's."""
        row = self.store.row("SELECT * FROM job WHERE id = ?", (name,))
        if row is None or owner not in (None, row["owner"]):
            raise InputError(f"there is no job '{name[:80]}'")
        return _job(row)

    def list(self, owner: str, *, active: bool = False, source: str = "", kind: str = "", limit: int = 50) -> list[Job]:
        """This owner's jobs, newest first."""
        states = "AND state IN ('queued', 'running')" if active else ""
        found = self.store.rows(
            f"SELECT * FROM job WHERE owner = ? {states} AND (? = '' OR source = ?) AND (? = '' OR kind = ?) "
            "ORDER BY seq DESC LIMIT ?",
            (owner, source, source, kind, kind, limit),
        )
        return [_job(row) for row in found]

    def claim(self, holder: str) -> Job | None:
        """Take the job whose turn it is, for `holder`; None when nothing waits."""
        with self.store.change() as change:
            row = change.execute(
                "SELECT job.* FROM job LEFT JOIN turn ON turn.lane = job.lane WHERE job.state = 'queued' "
                "ORDER BY coalesce(turn.served, 0), job.priority, job.seq LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            change.execute(
                "INSERT INTO turn SELECT ?, coalesce(max(served), 0) + 1 FROM turn WHERE true "
                "ON CONFLICT (lane) DO UPDATE SET served = excluded.served",
                (row["lane"],),
            )
            change.execute(
                "UPDATE job SET state = 'running', holder = ?, attempts = attempts + 1, step = 0, total = 0 "
                "WHERE seq = ?",
                (holder, row["seq"]),
            )
            job = self.get(row["id"])
        self.tell(job, "state", {"state": "running"})
        return job

    def tell(self, job: Job, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event, and wake whoever follows."""
        with self.store.change() as change:
            change.execute(
                "INSERT INTO event SELECT ?, coalesce(max(seq), 0) + 1, ?, ? FROM event WHERE job = ?",
                (job.seq, kind, json.dumps(dict(data)), job.seq),
            )
            if kind in ("step", "preview") and data.get("total"):
                change.execute(
                    "UPDATE job SET step = ?, total = ? WHERE seq = ?", (data["step"], data["total"], job.seq)
                )
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def end(
        self, job: Job, state: str, *, result: Mapping[str, Any] | None = None, error: str = "", seconds: float = 0.0
    ) -> bool:
        """End a job in one of ENDED; False when it had ended before, which changes nothing."""
        with self.store.change() as change:
            done = change.execute(
                "UPDATE job SET state = ?, result = ?, error = ?, seconds = ?, ended = ?, holder = NULL "
                "WHERE seq = ? AND state IN ('queued', 'running')",
                (state, json.dumps(dict(result or {})), error, seconds, time.time(), job.seq),
            ).rowcount
            if done:
                self.tell(job, state, {"error": error} if error else {})
        return bool(done)

    def again(self, job: Job) -> bool:
        """Queue a job again that was cut off; False when it was tried too often and has failed now."""
        if job.attempts >= ATTEMPTS or job.kind in SPOKEN:
            self.end(job, "failed", error=INTERRUPTED, result={"text": self.text(job)} if job.kind in SPOKEN else None)
            return False
        with self.store.change() as change:
            change.execute("UPDATE job SET state = 'queued', holder = NULL WHERE seq = ?", (job.seq,))
            self.tell(job, "state", {"state": "queued", "again": True})
        return True

    def cancel(self, name: str, owner: str) -> Job:
        """Ask for its end: at once while it waits, within a step while it runs, not at all once it is over."""
        job = self.get(name, owner)
        with self.store.change() as change:
            change.execute("UPDATE job SET cancel = 1 WHERE seq = ? AND state = 'running'", (job.seq,))
            if job.state == "queued":
                self.end(job, "cancelled")
        with self.changed:
            self.version += 1
            self.changed.notify_all()
        return self.get(name)

    def events(self, job: Job, after: int = 0) -> list[Event]:
        """What happened after event number `after`."""
        found = self.store.rows(
            "SELECT seq, kind, data FROM event WHERE job = ? AND seq > ? ORDER BY seq", (job.seq, after)
        )
        return [Event(seq=row["seq"], kind=row["kind"], data=json.loads(row["data"])) for row in found]

    def text(self, job: Job) -> str:
        """The words that a job has said so far."""
        return "".join(event.data["delta"] for event in self.events(job) if event.kind == "text")

    async def follow(self, job: Job, after: int = 0, *, patience: float = 0.03) -> AsyncIterator[Event]:
        """Every event after number `after`, those that were missed first; ends with the one that ends the job."""
        while True:
            seen = self.version
            for event in self.events(job, after):
                after = event.seq
                yield event
                if event.kind in ENDED:
                    return
            now = self.get(job.id)
            if now.over and not self.events(job, after):  # its events were forgotten after a while, its end was not
                yield Event(seq=after + 1, kind=now.state, data={"error": now.error} if now.error else {})
                return
            while self.version == seen:
                await asyncio.sleep(patience)

    def wait(self, job: Job, stop: threading.Event | None = None) -> Job:
        """Block until a job is over, or `stop` is set; for threads."""
        while not (now := self.get(job.id)).over and not (stop is not None and stop.is_set()):
            with self.changed:
                self.changed.wait(0.2)
        return now

    def place(self, job: Job) -> int:
        """How many jobs go before it: 0 when it is next or running."""
        if job.state != "queued":
            return 0
        served = {row["lane"]: row["served"] for row in self.store.rows("SELECT lane, served FROM turn")}
        waiting = self.store.rows("SELECT seq, lane FROM job WHERE state = 'queued' ORDER BY priority, seq LIMIT 2000")
        lanes: dict[str, list[int]] = {}
        for row in waiting:
            lanes.setdefault(row["lane"], []).append(row["seq"])
        clock, before = max(served.values(), default=0), 0
        while lanes:
            lane = min(lanes, key=lambda name: (served.get(name, 0), lanes[name][0]))
            if lanes[lane].pop(0) == job.seq:
                return before
            clock, before = clock + 1, before + 1
            served[lane] = clock
            if not lanes[lane]:
                del lanes[lane]
        return before

    def seconds_left(self, job: Job) -> float | None:
        """A guess from what jobs of these kinds took lately; None while nothing is known."""
        means = {
            row["kind"]: row["mean"]
            for row in self.store.rows(
                "SELECT kind, avg(seconds) AS mean FROM (SELECT kind, seconds FROM job WHERE state = 'done' "
                "ORDER BY seq DESC LIMIT 40) GROUP BY kind"
            )
        }
        if job.kind not in means:
            return None
        mine = means[job.kind]
        if job.state == "running":
            return max(0.0, mine * (1 - job.step / job.total)) if job.total else mine
        typical = sum(means.values()) / len(means)
        return mine + typical * (self.place(job) + 0.5)

    def recover(self) -> list[Job]:
        """At the start, when nobody can hold a job yet: queue again, or end, what a dead server left running."""
        found = self.store.rows(
            "SELECT * FROM job WHERE state = 'running' OR (state = 'queued' AND source = 'batch') ORDER BY seq"
        )
        orphans = [_job(row) for row in found]
        for job in orphans:
            if job.cancel or job.source == "batch":  # a batch asks again by itself for the rows that it lacks
                self.end(job, "cancelled")
            else:
                self.again(job)
        return orphans

    def forget(self, *, events_before: float, jobs_before: float) -> int:
        """Drop the events, and the rows, of jobs that ended before these times; returns how many jobs went."""
        with self.store.change() as change:
            change.execute(
                "DELETE FROM event WHERE job IN (SELECT seq FROM job WHERE ended IS NOT NULL AND ended < ?)",
                (events_before,),
            )
            return change.execute("DELETE FROM job WHERE ended IS NOT NULL AND ended < ?", (jobs_before,)).rowcount


def _job(row: Mapping[str, Any]) -> Job:
    return Job(
        seq=row["seq"], id=row["id"], owner=row["owner"], lane=row["lane"], source=row["source"], kind=row["kind"],
        params=json.loads(row["params"]), state=row["state"], step=row["step"], total=row["total"],
        attempts=row["attempts"], cancel=bool(row["cancel"]), seconds=row["seconds"], created=row["created"],
        ended=row["ended"], error=row["error"] or "", result=json.loads(row["result"] or "{}"),
    )  # fmt: skip
