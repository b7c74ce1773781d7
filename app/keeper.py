"""Keeps the model's process: starts it, gives it the job whose turn it is, writes down what it tells, starts it again.

One thread does all of this. When the process dies, the server stays up: the job is queued again (or, for an answer,
ends with the words that were said), and a new process is started. A process that shows no sign of life within LEASE
seconds is ended and treated the same.
"""

from __future__ import annotations

import logging
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from . import worker
from .jobs import Job

State = Literal["waiting", "loading", "ready", "failed"]
LEASE = 60.0  # seconds of silence after which the process is given up; it beats once a second
LAST_WORDS = 5.0  # seconds that a process has to end by itself
QUICK_DEATHS = 3  # processes that die in a row before they are ready, until nobody tries again
OTHER_WEIGHTS = "its weights were changed while the server ran; start the server again if that was meant"
log = logging.getLogger(__name__)


class Keeper:
    """One model process and the thread that looks after it."""

    def __init__(
        self,
        factory: Callable[[], Any],
        *,
        name: str,
        house: Any,
        others: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        """`factory` can be pickled and makes the studio, in the process; so do `others`. `house` has the queue."""
        self.name, self.reason, self.facts = name, "", dict[str, Any]()
        self.others = dict[str, dict[str, Any]]()  # the facts of other models that were loaded once
        self._others = dict(others or {})
        self.meters = dict[str, dict[str, Any]]()  # hits and waits of what does not lie with the rest of the model
        self.state: State = "waiting"
        self._factory, self._house = factory, house
        self._context = multiprocessing.get_context("spawn")  # a forked child would inherit locks that threads hold
        self._ear, self._bell = self._context.Pipe(duplex=False)
        self._process: Any = None
        self._pipe: Connection | None = None
        self._job: Job | None = None
        self._begun = self._heard = 0.0
        self._told_to_stop, self._deaths = False, 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        if self.state == "waiting":
            self.state = "loading"
            self._thread.start()

    def wake(self) -> None:
        """Say that there is something to do: a new job, or a wish to cancel one."""
        if not self._closing.is_set():
            self._bell.send_bytes(b"!")

    def close(self) -> None:
        """End the process; what it was doing is queued again, for the next start."""
        self._closing.set()
        if self._thread.is_alive():
            self._bell.send_bytes(b"!")
            self._thread.join()

    @property
    def pid(self) -> int | None:
        """The process that has the model, if one is alive."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def _run(self) -> None:
        self._launch()
        while not self._closing.is_set():
            try:
                self._look()
            except (sqlite3.Error, OSError):  # a full disk, most of all; jobs go on when there is room again
                log.exception("the queue could not be written")
                time.sleep(1)
        self._finish()

    def _look(self) -> None:
        heard = wait([self._ear, *([self._pipe] if self._pipe else [])], timeout=0.5)
        if self._ear in heard:
            while self._ear.poll():
                self._ear.recv_bytes()
        if self._pipe in heard:
            try:
                while self._pipe is not None and self._pipe.poll():
                    self._take(self._pipe.recv())
            except (EOFError, OSError, ConnectionError):
                self._mourn()
        elif self._pipe and time.monotonic() - self._heard > LEASE:
            log.error("the model's process does not answer and is ended")
            self._process.kill()
            self._mourn()
        self._order()

    def _order(self) -> None:
        """Give the idle process its next job, or pass on that the running one is to stop."""
        if self._job is not None and not self._told_to_stop and self._house.jobs.get(self._job.id).cancel:
            self._told_to_stop = True
            self._send("cancel", self._job.id)
        if self._job is None and self.state == "ready" and self._pipe:
            job = self._house.jobs.claim(self.name)
            if job is None:
                return
            self._job, self._begun, self._told_to_stop = job, time.monotonic(), False
            try:
                files = self._house.paths(job)
            except ValueError as error:  # what it shows was deleted while it waited
                self._end("failed", error=str(error))
                return
            self._send("run", job.id, job.kind, job.params, files, str(self._out(job)))

    def _take(self, message: tuple[Any, ...]) -> None:
        self._heard = time.monotonic()
        kind, *rest = message
        if kind == "ready":
            before, (self.facts,) = self.facts, rest
            if before and before["fingerprint"] != self.facts["fingerprint"]:
                self._give_up(OTHER_WEIGHTS)
                return
            self.name, self.state, self._deaths = self.facts["name"], "ready", 0
        elif kind == "broken":
            self._give_up(rest[0])
        elif kind == "meters":
            (self.meters,) = rest
        elif self._job is not None and rest and rest[0] == self._job.id:
            self._happened(kind, *rest[1:])

    def _happened(self, kind: str, *rest: Any) -> None:
        job, house = self._job, self._house
        assert job is not None
        if kind == "step":
            house.jobs.tell(job, "step", {"step": rest[0], "total": rest[1]})
        elif kind == "preview":
            step, total, content, suffix = rest
            house.show(job, step, total, content, suffix)
        elif kind == "text":
            house.jobs.tell(job, "text", {"delta": rest[0]})
        elif kind == "loading":
            house.jobs.tell(job, "loading", {"model": rest[0]})
        elif kind == "loaded":
            self._loaded(*rest)
        elif kind == "failed":
            self._end("failed", error=rest[0], result={"theirs": rest[1]})
        elif kind == "done":
            result, stopped = rest
            self._end("cancelled" if stopped else "done", result=result)

    def _loaded(self, name: str, facts: dict[str, Any]) -> None:
        """Another model was loaded; weights that are not those of before are not used."""
        before = self.others.setdefault(name, facts)
        if before["fingerprint"] != facts["fingerprint"]:
            self._end("failed", error=f"the model '{name}' is not there: {OTHER_WEIGHTS}", result={"theirs": True})
            self._process.kill()

    def _end(self, state: str, *, result: dict[str, Any] | None = None, error: str = "") -> None:
        job, self._job = self._job, None
        assert job is not None
        seconds = time.monotonic() - self._begun
        try:
            self._house.end(job, state, result=result or {}, error=error, seconds=seconds)
        except (sqlite3.Error, OSError) as trouble:
            reason = getattr(trouble, "strerror", None) or str(trouble)
            self._house.end(job, "failed", result={}, error=f"The result could not be kept: {reason}.", seconds=seconds)
        for left in self._out(job).parent.glob(f"{self._out(job).name}*"):
            left.unlink(missing_ok=True)

    def _mourn(self) -> None:
        """The process is gone: save what it was doing, and start another one."""
        self._drop_process()
        job, self._job = self._job, None
        if job is not None:
            self._house.cut_off(job)
        if self.state == "failed" or self._closing.is_set():
            return
        self._deaths = self._deaths + 1 if self.state == "loading" else 0
        if self._deaths >= QUICK_DEATHS:
            self._give_up("its process ended again and again; the log of the server has the details")
            return
        self._launch()

    def _give_up(self, reason: str) -> None:
        self.state, self.reason = "failed", reason
        self._house.fail_all(f"the model '{self.name}' is not there: {reason}")

    def _launch(self) -> None:
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=worker.main, args=(theirs, self._factory, self._others), name="model", daemon=True
        )
        self._process.start()
        theirs.close()  # so that its death closes the pipe
        self._pipe, self.state, self._heard = ours, "loading", time.monotonic()

    def _finish(self) -> None:
        self._send("stop")
        if self._job is not None:
            self._house.cut_off(self._job, closing=True)
            self._process.terminate()
        self._process.join(LAST_WORDS)
        self._drop_process()

    def _drop_process(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None
        if self._process.is_alive() and self._closing.is_set():
            self._process.kill()
        self._process.join(LAST_WORDS)

    def _send(self, *order: Any) -> None:
        if self._pipe is not None:
            try:
                self._pipe.send(order)
            except OSError:
                log.warning("the model's process is gone")  # the next look finds the closed pipe

    def _out(self, job: Job) -> Path:
        return self._house.media.work / f"out.{job.id}"
