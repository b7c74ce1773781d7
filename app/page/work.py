"""Run one verb of the studio in a thread and follow it: newest progress, then the result; stop within one step."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dsv4.errors import InputError
from dsv4.results import Progress

from .loading import StudioLoader

PATIENCE = 0.1  # seconds between two looks at a running job; also the shortest time between two updates
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The model is still being loaded."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """It could not be done; `message` is for people, and `theirs` says whether they can mend it."""

    message: str
    theirs: bool


@dataclass(frozen=True, kw_only=True)
class Done:
    """It is over; `stopped` if somebody asked for that before the end."""

    result: Any
    stopped: bool


Event = Waiting | Progress | Failed | Done
Work = Callable[[Any, Callable[[Progress], None], Callable[[], bool]], Any]


class StopButtons:
    """Who asked to stop what: one flag a browser session and tab."""

    def __init__(self) -> None:
        self._flags: dict[tuple[str, str], threading.Event] = {}

    def fresh(self, session: str, tab: str) -> threading.Event:
        """A flag for a job that is about to be queued; it takes the place of the last one."""
        self._flags[session, tab] = threading.Event()
        return self._flags[session, tab]

    def get(self, session: str, tab: str) -> threading.Event:
        """The flag of the newest job, made when there is none."""
        return self._flags.get((session, tab)) or self.fresh(session, tab)

    def forget(self, session: str) -> None:
        """Drop what a closed tab left, and stop what it started."""
        for key in [key for key in self._flags if key[0] == session]:
            self._flags.pop(key).set()


def follow(loader: StudioLoader, work: Work, stop: threading.Event) -> Iterator[Event]:
    """Yield what happens to `work(studio, on_progress, cancelled)`; ends with Failed or Done.

    Progress that comes faster than it is read is merged: the newest step with its preview, and all of the text.
    Closing this iterator (a closed browser tab) sets `stop`, and returns when the work has noticed.
    """
    if loader.state != "ready":
        yield Waiting()
    while not loader.wait(PATIENCE):
        if stop.is_set():
            yield Done(result=None, stopped=True)
            return
        yield Waiting()
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def run() -> None:
        try:
            if stop.is_set():
                events.put(Done(result=None, stopped=True))
                return
            result = work(loader.studio, events.put, stop.is_set)
            events.put(Done(result=result, stopped=stop.is_set()))
        except InputError as error:
            events.put(Failed(message=str(error), theirs=True))
        except Exception:  # whatever breaks inside, a person reads a sentence and the log keeps the rest
            log.exception("a job failed")
            message = "Something broke inside the studio. The log of the server has the details."
            events.put(Failed(message=message, theirs=False))

    thread = threading.Thread(target=run, name="studio-job", daemon=True)
    thread.start()
    try:
        yield from _merged(events)
    finally:
        stop.set()
        thread.join()


def _merged(events: queue.SimpleQueue[Event]) -> Iterator[Event]:
    while True:
        event = events.get()
        text: list[str] = []
        with contextlib.suppress(queue.Empty):
            while isinstance(event, Progress):
                text.append(event.text_delta)
                newest = event
                event = events.get(timeout=PATIENCE) if len(text) == 1 else events.get_nowait()
        if text:
            yield Progress(
                step=newest.step,
                total=newest.total,
                preview=newest.preview,
                text_delta="".join(text),
                usage=newest.usage,
            )
        if not isinstance(event, Progress):
            yield event
            return
