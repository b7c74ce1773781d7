"""The studio as the page and the API see it: one object that owns store, media, queue, conversations and model process.

Whoever asks only submits a job and follows it; the job goes on when they leave.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsv4.chat_format import TASKS
from dsv4.errors import InputError
from dsv4.limits import HISTORY_MESSAGES, KEPT_DAYS

from . import kinds, presets
from .jobs import ENDED, SPOKEN, Event, Job, Jobs
from .keeper import Keeper
from .media import MADE, READ, Asset, Media, file_name
from .retention import let_go
from .shelf import Choice, Shelf
from .store import Store
from .talks import Said, Talk, Talks

DAY = 24 * 3600.0
EVENTS_KEPT, TIDY_EVERY = DAY, 3600.0
COMMANDS = {"/svg": "svg", "/image": "image", "/video": "video", "/read": "read"}  # inside a conversation
log = logging.getLogger(__name__)


class House:
    """Open a data folder and keep a model for it; `start` loads the model, `close` ends it all."""

    def __init__(
        self, folder: Path, factory: Callable[[], Any], *, name: str = "nano", keep_days: int = 0, keep_gb: int = 0,
        others: Sequence[Choice] = (), weights: Path | None = None,
    ) -> None:  # fmt: skip
        """Raises InputError when the folder cannot be used; jobs that a dead server left are queued again or ended.

        `keep_days` and `keep_gb` are the limits of `retention`; 0 is none. `others` are models that can be chosen
        beside the one of `factory`; `weights` is the folder where presets are looked for.
        """
        self.weights = weights
        self.keep_days, self.keep_gb = keep_days, keep_gb
        self.store = Store(folder)
        self.media, self.jobs, self.talks = Media(self.store), Jobs(self.store), Talks(self.store)
        self.previews = folder / "previews"
        self.previews.mkdir(exist_ok=True)
        loads = {one.name: one.factory for one in others}
        self.keeper = Keeper(factory, name=name, house=self, others=loads)
        self.shelf = Shelf(lambda: self.keeper.name, others)
        self.batches: Any = None  # set by the server, which has the routes that their lines ask
        self.started = time.time()
        self.open = True
        self._tidy_timer: threading.Timer | None = None
        self._wake_up()

    def start(self) -> None:
        """Load the model behind the page."""
        self.keeper.start()
        self._tidy()

    def close(self) -> None:
        """Take nothing more, end the process, close the files."""
        self.open = False
        if self._tidy_timer is not None:
            self._tidy_timer.cancel()
        self.keeper.close()
        self.store.close()

    def submit(
        self, kind: str, params: Mapping[str, Any], *, owner: str, lane: str = "", source: str = "api",
        priority: int = 0,
    ) -> Job:  # fmt: skip
        """Check and queue a job; raises InputError for what cannot be done, QueueFull when too many wait.

        `model` in `params` names one of the models that can be chosen; without it, it is the one that is always there.
        """
        choice = self.shelf.find(params.get("model"))
        if choice is not None and choice.preset:
            checked = presets.check(choice.name, kind, params)
        else:
            checked = kinds.check(kind, params)
        if choice is not None:
            checked["model"] = choice.name
        for name in kinds.files_of(checked):
            self.media.get(name, owner)
        if self.keeper.state == "failed":
            raise InputError(f"the model '{self.keeper.name}' is not there: {self.keeper.reason}")
        facts = self.keeper.facts if choice is None else self.keeper.others.get(choice.name, {})
        if reason := facts.get("cannot", {}).get(kind):
            raise InputError(reason)
        job = self.jobs.submit(kind, checked, owner=owner, lane=lane, source=source, priority=priority)
        self.keeper.wake()
        return job

    def cancel(self, name: str, owner: str) -> Job:
        """Stop a job of this owner: now, or at its next step."""
        job = self.jobs.cancel(name, owner)
        if job.over:
            self._settle(job)
        self.keeper.wake()
        return job

    def follow(self, name: str, owner: str, after: int = 0) -> AsyncIterator[Event]:
        """All events of a job after number `after`, up to its end."""
        return self.jobs.follow(self.jobs.get(name, owner), after)

    async def over(self, name: str, owner: str) -> Job:
        """Wait for the end of a job."""
        async for _ in self.follow(name, owner):
            pass
        return self.jobs.get(name)

    def made(self, job: Job) -> list[Asset]:
        """The files that a job made and that are still there."""
        found = []
        for name in job.result.get("files", ()):
            with contextlib.suppress(InputError):
                found.append(self.media.get(name, job.owner))
        return found

    # Conversations ---------------------------------------------------------------------------------------------------

    def say(
        self, talk: Talk, owner: str, text: str, shown: Sequence[str] = (), *, parent: str | None = None,
        lane: str = "", mode: str = "tiny", model: str = "",
    ) -> Job:  # fmt: skip
        """Say something below `parent` (the root, when None) and have it answered; returns the job of the answer.

        A text that begins with /svg, /image or /video makes that instead of an answer in words, and /read reads the one
        file that is shown; /svg with a drawing that is shown changes it as the words say.
        """
        with self.store.change():
            before = self._way_to(talk, parent)
            asked = self.talks.add(talk, "user", text, parent=parent, shown=shown)
            return self._answer(talk, owner, asked, before, lane, mode, model)

    def answer_again(
        self, talk: Talk, owner: str, answer: Said, *, lane: str = "", mode: str = "tiny", model: str = ""
    ) -> Job:
        """Another answer beside this one."""
        with self.store.change():
            assert answer.parent is not None
            asked = self.talks.message(answer.parent)
            return self._answer(talk, owner, asked, self._way_to(talk, asked.parent), lane, mode, model)

    def _answer(self, talk: Talk, owner: str, asked: Said, before: list[Said], lane: str, mode: str, model: str) -> Job:
        first, _, rest = asked.text.partition(" ")
        kind = COMMANDS.get(first, "chat")
        params: dict[str, Any] = {"prompt": rest if kind != "chat" else asked.text, "model": model}
        if kind == "read":
            return self._read_in(talk, owner, asked, rest, lane, mode, model)
        tries = len(self.store.rows("SELECT 1 FROM message WHERE parent = ?", (asked.id,)))
        if kind == "chat":
            history = [
                {"role": one.role, "text": _told(one), "shown": list(one.shown)}
                for one in before
                if one.text or one.shown
            ]
            params |= {"shown": list(asked.shown), "history": history[-HISTORY_MESSAGES:], "mode": mode}
            if tries:  # the same question, asked again, may be answered otherwise
                params |= {"temperature": 0.7, "seed": tries}
        else:
            params["seed"] = secrets.randbelow(100_000) if tries else 0
            given = self.media.get(asked.shown[0], owner).kind if asked.shown else ""
            if begun := kinds.begun_with(kind, given):
                params[begun] = asked.shown[0]
        return self._begin(talk, owner, asked, kind, params, lane)

    def _read_in(self, talk: Talk, owner: str, asked: Said, words: str, lane: str, mode: str, model: str) -> Job:
        """Read what is shown; with words after /read, look for them on the page."""
        shown = list(asked.shown)
        if not shown:
            raise InputError("/read reads a file: add a PDF or a picture to your message")
        looked = {"task": "locate", "find": words} if words.strip() else {}
        params = {"prompt": words.strip() or f"read {self.media.get(shown[0], owner).name}", "shown": shown, **looked}
        return self._begin(talk, owner, asked, "read", {**params, "mode": mode, "model": model}, lane)

    def _begin(self, talk: Talk, owner: str, asked: Said, kind: str, params: dict[str, Any], lane: str) -> Job:
        job = self.submit(kind, params, owner=owner, lane=lane, source="chat")
        self.talks.add(talk, "assistant", "", parent=asked.id, job=job.id, state="running")
        return job

    def _way_to(self, talk: Talk, message: str | None) -> list[Said]:
        return self.talks.page(Talk(id=talk.id, title=talk.title, head=message, created=talk.created))

    # What the keeper tells -------------------------------------------------------------------------------------------

    def paths(self, job: Job) -> dict[str, str]:
        """The paths of the files that a job names; raises InputError when one is gone."""
        return {name: str(self.media.get(name, job.owner).path) for name in kinds.files_of(job.params)}

    def show(self, job: Job, step: int, total: int, content: bytes, suffix: str) -> None:
        """Keep a preview and say where it is."""
        path = self.previews / f"{job.id}.{step}{suffix}"
        path.write_bytes(content)
        self.jobs.tell(job, "preview", {"step": step, "total": total, "file": path.name})

    def end(self, job: Job, state: str, *, result: dict[str, Any], error: str, seconds: float) -> None:
        """Take in what a job made, and end it, both or neither."""
        told = {key: value for key, value in result.items() if key not in ("file", "files")}
        paths = [Path(name) for name in [*filter(None, [result.get("file")]), *result.get("files", ())]]
        with self.store.change():
            if paths and state == "done":
                told["files"] = [self._keep(job, path, result.get("made_by")).id for path in paths]
            self.jobs.end(job, state, result=told, error=error, seconds=seconds)
            self._settle(self.jobs.get(job.id))

    def _keep(self, job: Job, path: Path, made_by: Any) -> Asset:
        purpose = READ if job.kind == "read" else MADE
        seen = made_by.get("prompt", "") if isinstance(made_by, dict) else ""  # a picture may be redrawn without words
        name = file_name(job.params["prompt"] or str(seen), path.suffix)
        return self.media.keep(
            path, owner=job.owner, name=name, suffix=path.suffix, purpose=purpose, made_by=made_by, job=job.id
        )

    def cut_off(self, job: Job, *, closing: bool = False) -> None:
        """The process died, or is ended, in the middle of a job."""
        now = self.jobs.get(job.id)
        if now.cancel:
            self.jobs.end(now, "cancelled", result={"text": self.jobs.text(now)})
        elif closing and job.kind != "chat":
            with self.store.change() as change:  # a clean stop is no fault of the job: it costs it no attempt
                change.execute("UPDATE job SET state = 'queued', attempts = attempts - 1 WHERE seq = ?", (job.seq,))
        else:
            self.jobs.again(now)
        self._settle(self.jobs.get(job.id))

    def fail_all(self, reason: str) -> None:
        """There is no model: nobody waits in vain."""
        for row in self.store.rows("SELECT id FROM job WHERE state IN ('queued', 'running')"):
            job = self.jobs.get(row["id"])
            self.jobs.end(job, "failed", error=reason)
            self._settle(self.jobs.get(job.id))

    def _settle(self, job: Job) -> None:
        if job.state not in ENDED:
            return
        result = job.result
        text = result.get("text", "") or (self.jobs.text(job) if job.kind in SPOKEN and job.state != "done" else "")
        meta = {key: result[key] for key in ("usage", "thought", "stopped", "made_by", "warnings") if result.get(key)}
        self.talks.finish(
            job.id, state=job.state, text=text, shown=result.get("files", ()),
            meta={**meta, "error": job.error, "seconds": job.seconds},
        )  # fmt: skip

    # Order -----------------------------------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        shutil.rmtree(self.media.work, ignore_errors=True)
        self.media.work.mkdir(exist_ok=True)
        for job in self.jobs.recover():
            self._settle(self.jobs.get(job.id))
        self.media.sweep()

    def _tidy(self) -> None:
        """Once an hour: drop what is no longer asked for."""
        if not self.open:
            return
        try:
            now = time.time()
            self.jobs.forget(events_before=now - EVENTS_KEPT, jobs_before=now - KEPT_DAYS * DAY)
            old = "SELECT id, owner FROM media WHERE purpose = 'request' AND created < ?"
            for row in self.store.rows(old, (now - EVENTS_KEPT,)):  # pictures inside requests to the API
                self.media.drop(row["id"], row["owner"])
            for path in self.previews.iterdir():
                if now - path.stat().st_mtime > EVENTS_KEPT:
                    path.unlink(missing_ok=True)
            let_go(self, days=self.keep_days, gigabytes=self.keep_gb)
        except (sqlite3.Error, OSError):
            log.exception("tidying up")
        self._tidy_timer = threading.Timer(TIDY_EVERY, self._tidy)
        self._tidy_timer.daemon = True
        self._tidy_timer.start()


def _told(said: Said) -> str:
    """A message as a model is told of it: a command without its word, and what was made as the call it was."""
    if said.role == "user":
        first, _, rest = said.text.partition(" ")
        return rest if first in COMMANDS else said.text
    made = said.meta.get("made_by") or {}
    called = made.get("task") in TASKS and made.get("prompt")
    return said.text or (f"{made['task']}: {made['prompt']}" if called else "")
