"""The model's own process: loads the studio, does one job after the other, and tells the server what happens.

It speaks in tuples over a pipe. In: `run`, `cancel`, `stop`. Out: `ready` or `broken`, then `step`, `preview`, `text`,
and `done` or `failed` for each job, `meters` after it, and `beat` once a second. When the pipe closes, the server is
gone and so is this.
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

from .kinds import DEFAULTS, perform, preview_file, smaller
from .readings import check_can
from .rows_read import RowsRead

BEAT = 1.0  # seconds between two signs of life
TEXT_EVERY, PREVIEW_EVERY = 0.04, 0.15  # seconds between two events of a kind; what comes faster is merged
PARTS = {"core": "Language core, with its Engram memory", "eyes": "Eyes", "head": "Hands for pictures and clips"}
BROKE = "Something broke inside the studio. The log of the server has the details."
FULL = "There is not enough memory on the device for it: ask for less at once (size, seconds, a smaller mode)."
log = logging.getLogger(__name__)


def main(pipe: Connection, factory: Callable[[], Any], others: Mapping[str, Callable[[], Any]] | None = None) -> None:
    """Run until told to stop or until the server is gone; `others` are loaded when a job names them."""
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
    models = _Models(studio, others or {}, out)
    while (order := work.get()) is not None:
        _one(models, order, out, cancelled)
        if hasattr(studio, "model"):
            out.send("meters", meters(studio))


def facts(studio: Any) -> dict[str, Any]:
    """What people are told of a loaded studio: its name, its fingerprint, and the size of each of its parts."""
    rows: list[tuple[str, str]] = []
    if hasattr(studio, "model") and hasattr(studio.model, "parts"):
        counts = {name: sum(one.numel() for one in part.parameters()) for name, part in studio.model.parts().items()}
        for name, count in counts.items():
            rows.append((PARTS[name] if name in PARTS else name, f"{count / 1e6:.1f} million parameters"))
        rows.append(("Together", f"{sum(counts.values()) / 1e6:.1f} million parameters"))
    about = {"name": str(studio.name), "fingerprint": fingerprint_of(studio), "parts": rows}
    head = getattr(getattr(studio, "model", None), "head", None)
    pace = forecast.pace_of(head) if head is not None else {}
    return {**about, "cannot": cannot(studio), "pid": os.getpid(), "pace": pace}


def meters(studio: Any) -> dict[str, dict[str, Any]]:
    """Hits and waits so far: of experts and rows that lie elsewhere, and of prompts that began alike."""
    from dsv4.checkpoint.placement import meters

    found = meters(studio.model.core)
    seen = studio.prefixes.meter if studio.prefixes is not None else None
    if seen is not None and seen.asked:
        found["prefixes"] = {"asked": seen.asked, "reused": seen.reused, "ram": seen.ram, "disk": seen.disk}
    return found


def cannot(studio: Any) -> dict[str, str]:
    """The kinds of jobs that this model cannot do, each with the reason in words."""
    if row := getattr(studio, "row", None):  # a preset does one kind
        return {kind: f"the model '{studio.name}' cannot do this" for kind in DEFAULTS if kind != row.kind}
    found = {}
    for kind in DEFAULTS:
        try:
            check_can(studio, kind)
        except InputError as error:
            found[kind] = str(error)
    return found


class _Models:
    """The models of this process: the first stays, and one other at a time beside it."""

    def __init__(self, first: Any, others: Mapping[str, Callable[[], Any]], out: _Out) -> None:
        self._first, self._others, self._out = first, others, out
        self._name, self._other = "", None
        self._read = {"": RowsRead(first)}

    def take(self, name: str, job: str) -> Any:
        """The model of this name ("" is the first), loaded if need be; raises InputError when that fails."""
        if not name:
            return self._first
        if name != self._name:
            if name not in self._others:  # queued by a server that had other models
                here = ", ".join(self._others) or "no other"
                raise InputError(f"the model '{name}' is not there: this server has {here}")
            self.drop()
            self._out.send("loading", job, name)
            try:
                self._other = self._others[name]()
            except (ValueError, OSError, ImportError) as error:
                raise InputError(f"the model '{name}' is not there: {error}") from error
            self._name, self._read[name] = name, RowsRead(self._other)
            self._out.send("loaded", job, name, facts(self._other))
        return self._other

    def read(self, name: str) -> dict[str, Any]:
        """What this model read of its memory since it was last asked."""
        return self._read[name].take()

    def drop(self, but: str = "") -> None:
        """Let go of the other model, unless it is called `but`, and of what the first remembers."""
        if self._name != but:
            self._read.pop(self._name or "-", None)
            self._name, self._other = "", None
        if getattr(self._first, "prefixes", None) is not None:
            from dsv4.finish import remembered

            self._first.prefixes = remembered(self._first.model, self._first.fingerprint)
        _let_go()


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


def _one(models: _Models, order: tuple[Any, ...], out: _Out, cancelled: set[str]) -> None:
    _, name, kind, params, files, path = order
    teller, chosen = _Teller(out, name), params.get("model", "")
    try:
        try:
            studio = models.take(chosen, name)
            result = perform(studio, kind, params, files, Path(path), teller, lambda: name in cancelled)
        except RuntimeError as error:
            if not device_full(error) or teller.spoke:
                raise
            less, words = smaller(kind, params)
            log.warning("job %s: the device was full; once more with less: %s", name, words or "nothing else is held")
            error.__traceback__ = None  # its frames hold the tensors that did not fit
            models.drop(but=chosen)
            studio = models.take(chosen, name)
            result = perform(studio, kind, less, files, Path(path), teller, lambda: name in cancelled)
            told = [f"The device was full, so {words}."] if words else []
            result = {**result, "warnings": [*result.get("warnings", ()), *told]}
        teller.flush()
        out.send("done", name, {**result, **models.read(chosen)}, name in cancelled)
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
