"""The model's own process: loads the studio, does one job after the other, and tells the server what happens.

It speaks in tuples over a pipe. In: `run`, `cancel`, `stop`. Out: `ready` or `broken`, then `step`, `preview`, `text`,
and `done` or `failed` for each job, and `beat` once a second. When the pipe closes, the server is gone and so is this.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dsv4 import forecast
from dsv4.batch.reading import fingerprint_of
from dsv4.errors import InputError
from dsv4.results import Progress

from .kinds import DEFAULTS, perform, preview_file
from .readings import check_can

BEAT = 1.0  # seconds between two signs of life
TEXT_EVERY, PREVIEW_EVERY = 0.04, 0.15  # seconds between two events of a kind; what comes faster is merged
PARTS = {"core": "Language core, with its Engram memory", "eyes": "Eyes", "head": "Hands for pictures and clips"}
BROKE = "Something broke inside the studio. The log of the server has the details."
FULL = "There is not enough memory on the device for it: ask for less at once (size, seconds, a smaller mode)."
log = logging.getLogger(__name__)


def main(pipe: Connection, factory: Callable[[], Any]) -> None:
    """Run until told to stop or until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides what it means
    out = _Out(pipe)
    threading.Thread(target=_beat, args=(out,), daemon=True).start()
    begun = time.monotonic()
    try:
        studio = factory()
        told = facts(studio)
    except ValueError as error:  # InputError and bad files: the words are meant for people
        out.send("broken", str(error))
        return
    except Exception as error:
        log.exception("the model could not be loaded")
        out.send("broken", f"{type(error).__name__}; the log of the server has the details")
        return
    work, cancelled = queue.SimpleQueue[tuple[Any, ...] | None](), set[str]()
    threading.Thread(target=_listen, args=(pipe, work, cancelled), daemon=True).start()
    out.send("ready", {**told, "seconds": time.monotonic() - begun})
    while (order := work.get()) is not None:
        _one(studio, order, out, cancelled)


def facts(studio: Any) -> dict[str, Any]:
    """What people are told of a loaded studio: its name, its fingerprint, and the size of each of its parts."""
    rows: list[tuple[str, str]] = []
    if hasattr(studio, "model"):
        counts = {name: sum(one.numel() for one in part.parameters()) for name, part in studio.model.parts().items()}
        for name, count in counts.items():
            rows.append((PARTS[name] if name in PARTS else name, f"{count / 1e6:.1f} million parameters"))
        rows.append(("Together", f"{sum(counts.values()) / 1e6:.1f} million parameters"))
    about = {"name": str(studio.name), "fingerprint": fingerprint_of(studio), "parts": rows}
    head = getattr(getattr(studio, "model", None), "head", None)
    pace = forecast.pace_of(head) if head is not None else {}
    return {**about, "cannot": cannot(studio), "pid": os.getpid(), "pace": pace}


def cannot(studio: Any) -> dict[str, str]:
    """The kinds of jobs that this model cannot do, each with the reason in words."""
    found = {}
    for kind in DEFAULTS:
        try:
            check_can(studio, kind)
        except InputError as error:
            found[kind] = str(error)
    return found


class _Out:
    """The way back, for several threads."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, *message: Any) -> None:
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:
            os._exit(0)  # nobody is there to hear what comes of it


def _beat(out: _Out) -> None:
    while True:
        time.sleep(BEAT)
        out.send("beat")


def _listen(pipe: Connection, work: queue.SimpleQueue[tuple[Any, ...] | None], cancelled: set[str]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while (order := pipe.recv())[0] != "stop":
            if order[0] == "cancel":
                cancelled.add(order[1])
            else:
                work.put(order)
        work.put(None)
        return
    os._exit(0)


def _one(studio: Any, order: tuple[Any, ...], out: _Out, cancelled: set[str]) -> None:
    _, name, kind, params, files, path = order
    teller = _Teller(out, name)
    try:
        try:
            result = perform(studio, kind, params, files, Path(path), teller, lambda: name in cancelled)
        except RuntimeError as error:
            if not device_full(error) or teller.spoke:
                raise
            log.warning("job %s: the device was full; once more with what was held let go of", name)
            _let_go()
            result = perform(studio, kind, params, files, Path(path), teller, lambda: name in cancelled)
        teller.flush()
        out.send("done", name, result, name in cancelled)
    except InputError as error:
        out.send("failed", name, without_paths(str(error), files), True)
    except (MemoryError, OSError) as error:
        log.exception("job %s", name)
        reason = getattr(error, "strerror", None) or "there is not enough memory for it"
        out.send("failed", name, f"The studio could not do it: {reason}.", False)
    except ValueError as error:
        log.exception("job %s", name)
        out.send("failed", name, without_paths(str(error), files), True)
    except Exception as error:  # whatever breaks inside, a person reads a sentence and the log keeps the rest
        log.exception("job %s", name)
        out.send("failed", name, FULL if device_full(error) else BROKE, False)
        _let_go()
        if device_lost(error):
            os._exit(1)  # nothing that is asked of it works any more; a new process may find the device again
    cancelled.discard(name)


def device_full(error: Exception) -> bool:
    """Whether an accelerator had no room left; torch's own class, by name, since this process may have no torch."""
    return type(error).__name__ == "OutOfMemoryError"


def device_lost(error: Exception) -> bool:
    """Whether an accelerator is gone or can no longer be used by this process."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)


def _let_go() -> None:
    """Give back what the memory pools of an accelerator hold."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()


def without_paths(words: str, files: Mapping[str, str]) -> str:
    """A complaint about a file without the path that only the server knows."""
    for path in files.values():
        words = words.replace(f"'{path}'", "the file").replace(path, "the file")
    return words


class _Teller:
    """Turns progress into messages, merged so that a fast model floods nothing; no word waits for the next."""

    def __init__(self, out: _Out, name: str) -> None:
        self._out, self._name = out, name
        self._text, self._told, self._shown = "", 0.0, 0.0
        self.spoke = False  # whether words went out, which could not be taken back
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if now.text_delta:
            self.spoke = True
            self._say(now.text_delta, clock)
        if now.preview is not None and (clock - self._shown >= PREVIEW_EVERY or now.step == now.total):
            self._shown = clock
            content, suffix = preview_file(now.preview)
            self._out.send("preview", self._name, now.step, now.total, content, suffix)
        elif now.total:
            self._out.send("step", self._name, now.step, now.total)

    def flush(self) -> None:
        """Send the words that have gathered."""
        with self._lock:
            self._timer = None
            if self._text:
                self._out.send("text", self._name, self._text)
                self._text, self._told = "", time.monotonic()

    def _say(self, delta: str, clock: float) -> None:
        with self._lock:
            self._text += delta
            wait = TEXT_EVERY - (clock - self._told)
            if self._timer is None and wait > 0:
                self._timer = threading.Timer(wait, self.flush)
                self._timer.daemon = True
                self._timer.start()
        if wait <= 0:
            self.flush()
