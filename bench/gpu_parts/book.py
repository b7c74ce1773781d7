"""The book of a run: checks and measurements, written to disk after each one, so that a killed run keeps what it has.

A row's share is the least time that the card could take, from counted bytes and operations, over the time it took.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROKEN = 3  # exit status of a worker whose card no longer answers; the next worker goes on behind the job


class CardBroken(Exception):
    """The accelerator refuses all further work in this process."""


def fresh() -> dict[str, Any]:
    """An empty book."""
    return {"meta": {}, "ceilings": {}, "checks": [], "rows": [], "jobs": {}}


def read(path: Path) -> dict[str, Any]:
    """The book in a file, an empty one where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else fresh()


def write(path: Path, data: dict[str, Any]) -> None:
    """Replace the file at once, so that a reader never sees half of it."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def short(error: BaseException) -> str:
    """An error in one line of a table."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


class Book:
    """What one job after another adds to; `ends` is the time (of time.time) at which the program must have ended."""

    def __init__(self, path: Path, *, ends: float, probe: Callable[[], None] = lambda: None) -> None:
        self.path, self.ends, self.probe = path, ends, probe
        self.data = read(path)
        self.job = ""

    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.time()

    def save(self) -> None:
        """Write everything."""
        write(self.path, self.data)

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """A job's turn: its state and seconds are kept; what it raises becomes a row."""
        self.job = name
        state = self.data["jobs"][name] = {"state": "running", "started": time.time()}
        self.save()
        try:
            yield
            state["state"] = "done"
        except CardBroken:
            state["state"] = "card broken"
            raise
        except Exception as error:  # a job that cannot be set up must not end the others
            state["state"] = "failed"
            self.failed("(setting up)", error)
        finally:
            state["seconds"] = round(time.time() - state["started"], 1)
            self.save()

    def add(self, what: str, **facts: Any) -> None:
        """One row; `error` and `skipped` are words instead of figures."""
        row = {"job": self.job, "what": what, **{key: value for key, value in facts.items() if value is not None}}
        self.data["rows"].append(row)
        self.save()
        print(json.dumps(row), flush=True)

    def failed(self, what: str, error: BaseException) -> None:
        """A row with the error's text; CardBroken where the card answers nothing any more."""
        print(traceback.format_exc(limit=6), flush=True)
        self.add(what, error=short(error))
        try:
            self.probe()
        except Exception as broken:
            raise CardBroken(short(broken)) from error

    def check(self, what: str, call: Callable[[], tuple[float, float]]) -> None:
        """Run a comparison that gives (how far apart, the most that is allowed); NaN and errors are failures."""
        try:
            apart, most = call()
            found: dict[str, Any] = {"apart": float(apart), "most": float(most), "passed": bool(apart <= most)}
        except Exception as error:
            print(traceback.format_exc(limit=6), flush=True)
            found = {"passed": False, "error": short(error)}
        self.data["checks"].append({"job": self.job, "what": what, **found})
        self.save()
        print(json.dumps(self.data["checks"][-1]), flush=True)
        if "error" in found:
            try:
                self.probe()
            except Exception as broken:
                raise CardBroken(short(broken)) from broken

    def timed(
        self,
        what: str,
        measure: Callable[[], float],
        *,
        bytes: float = 0,
        flops: float = 0,
        link: float = 0,
        per: tuple[float, str] | None = None,
        needs: float = 3,
        **facts: Any,
    ) -> float | None:
        """A row from `measure`, which gives seconds; None where it failed or no longer fitted.

        bytes: of device memory that must move. flops: operations that must be done. link: bytes between host and
        device. per: how many of what one call makes, for a rate.
        """
        if self.left() < needs:
            self.add(what, skipped="no time was left")
            return None
        try:
            seconds = measure()
        except CardBroken:
            raise
        except Exception as error:
            self.failed(what, error)
            return None
        self.add(what, **self.figures(seconds, bytes, flops, link), **_rate(seconds, per), **facts)
        return seconds

    def figures(self, seconds: float, bytes: float, flops: float, link: float) -> dict[str, Any]:
        """Milliseconds, what moved and was done in a second, and the share of the nearest ceiling."""
        tops = self.data["ceilings"]
        least = {
            "memory": bytes / tops.get("copy", float("inf")),
            "products": flops / tops.get("products", float("inf")),
            "link": link / tops.get("link", float("inf")),
        }
        bound = max(least, key=lambda name: least[name])
        found: dict[str, Any] = {"ms": seconds * 1000}
        for name, amount in (("bytes", bytes), ("flops", flops), ("link_bytes", link)):
            if amount:
                found[name] = amount
        if least[bound] > 0:
            found |= {"share": least[bound] / seconds, "bound": bound}
        return found


def _rate(seconds: float, per: tuple[float, str] | None) -> dict[str, Any]:
    return {} if per is None else {"rate": per[0] / seconds, "unit": f"{per[1]}/s"}
