"""Counts the rows of Engram that a job read, and the seconds that reading took, without touching the core.

Where rows lie elsewhere they are read beside other work, so these seconds are not all waited for.
"""

from __future__ import annotations

import time
from typing import Any


class RowsRead:
    """Listens to the memory tables of a studio's core; `take` tells what came together since it was last asked."""

    def __init__(self, studio: Any) -> None:
        self.rows, self.seconds = 0, 0.0
        core = getattr(getattr(studio, "model", None), "core", None)
        tables = [one for one in core.modules() if type(one).__name__ == "MemoryTable"] if core is not None else []
        for table in tables:
            begun: list[float] = []  # a table is asked once at a time
            table.register_forward_pre_hook(lambda *_, begun=begun: begun.append(time.perf_counter()))
            table.register_forward_hook(lambda _, given, __, begun=begun: self._add(given[0].numel(), begun.pop()))
        self.there = bool(tables)

    def _add(self, rows: int, begun: float) -> None:
        self.rows += rows
        self.seconds += time.perf_counter() - begun

    def take(self) -> dict[str, Any]:
        """{"engram": {"rows", "seconds"}}, or nothing where there is no such memory or none of it was read."""
        rows, seconds = self.rows, self.seconds
        self.rows, self.seconds = 0, 0.0
        return {"engram": {"rows": rows, "seconds": round(seconds, 4)}} if self.there and rows else {}
