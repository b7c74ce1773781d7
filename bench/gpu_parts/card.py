"""The card that is measured, or a processor that rehearses: timing, random inputs, free memory, ceilings.

Times are medians of single calls. Before each call the card's cache is overwritten, which also lets the host run ahead,
so that launching is not measured where a call is long enough to hide it.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.gpu_parts.book import Book

FLUSH = 256 * 2**20


class Card:
    """One device; `tiny` means that everything must only be seen to run."""

    def __init__(self, device: str, *, tiny: bool, seed: int, host_bytes: int = 0) -> None:
        self.host_bytes = host_bytes  # of the host, where it gives its memory only as it is used
        self.device, self.tiny = torch.device(device), tiny
        self.cuda = self.device.type == "cuda"
        self.seed = seed
        self.dtype = torch.bfloat16
        torch.manual_seed(seed)
        self._flush = torch.empty(FLUSH // 4, dtype=torch.int32, device=self.device) if self.cuda else None

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Fresh normal numbers on the device, in bfloat16 unless said otherwise."""
        return torch.randn(*shape, device=self.device, dtype=dtype or self.dtype)

    def whole(self, high: int, *shape: int) -> Tensor:
        """Whole numbers below `high`, int64."""
        return torch.randint(0, high, shape, device=self.device)

    def wait(self) -> None:
        """Until the device has done everything; raises where it is broken."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def tidy(self) -> None:
        """Give unused memory back."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def free(self) -> int:
        """Bytes that may still be taken on the device."""
        return torch.cuda.mem_get_info(self.device)[0] if self.cuda else 2**28

    def time(self, call: Callable[[], Any], *, budget: float = 0.6, warm: int = 2, most: int = 60) -> float:
        """Median seconds of a call; at least three calls (one when rehearsing), at most what fits the budget."""
        if self.tiny:
            return self._host(call)
        for _ in range(warm):
            call()
        self.wait()
        first = self._one(call)
        count = max(3, min(most, int(budget / max(first, 1e-6))))
        return statistics.median([first, *(self._one(call) for _ in range(count - 1))])

    def _one(self, call: Callable[[], Any]) -> float:
        if self._flush is None:
            return self._host(call)
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._flush.zero_()
        before.record()
        call()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1000

    def _host(self, call: Callable[[], Any]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started

    def wall(self, call: Callable[[], Any], *, runs: int = 5, warm: int = 2) -> float:
        """Median seconds on the host's clock, the device's work included: for steps in which the host takes part."""
        for _ in range(0 if self.tiny else warm):
            call()
        return statistics.median(self._host(call) for _ in range(1 if self.tiny else runs))

    def replayed(self, call: Callable[[], Any], *, warm: int = 2) -> float:
        """Median seconds of a call captured as a CUDA graph: what the card takes when the host launches nothing."""
        if not self.cuda:
            return self.time(call)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(warm):
                call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            call()
        return self.time(graph.replay)


def facts(card: Card) -> dict[str, Any]:
    """What was measured on: card, driver, versions, host."""
    found: dict[str, Any] = {
        "torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "cores": os.cpu_count(), "host_bytes": host_memory()[0], "tiny": card.tiny, "seed": card.seed,
    }  # fmt: skip
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = "none"
    if not card.cuda:
        return found | {"card": f"none: rehearsed on {platform.machine()}", "driver": "none", "cuda": "none"}
    whole = torch.cuda.get_device_properties(card.device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = "unknown"
    return found | {
        "card": whole.name, "driver": driver, "cuda": torch.version.cuda or "none", "memory": whole.total_memory,
        "multiprocessors": whole.multi_processor_count,
    }  # fmt: skip


def host_memory() -> tuple[int, int]:
    """Bytes of the host's memory, all and available."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
        total, free = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
        return total, free
    except (OSError, KeyError):
        return 0, 2**30


def ceilings(card: Card, book: Book) -> None:
    """The card's own ends: copies in its memory, over the link and on the host, and a bfloat16 product."""
    size, side = (2**16, 128) if card.tiny else (2**31, 8192)
    a = torch.ones(size, dtype=torch.uint8, device=card.device)
    b = torch.empty_like(a)
    _ceiling(book, "copy", "copy in device memory", 2 * size, lambda: card.time(lambda: b.copy_(a)))
    x, y = card.normal(side, side), card.normal(side, side)
    what = f"bfloat16 product, {side} a side"
    _ceiling(book, "products", what, 2 * side**3, lambda: card.time(lambda: x @ y, budget=1.0))
    size //= 2
    there, here = a[:size], torch.ones(size, dtype=torch.uint8, pin_memory=card.cuda)
    what = "pinned host memory to device"
    _ceiling(book, "link", what, size, lambda: card.time(lambda: there.copy_(here, non_blocking=True)))
    what = "device to pinned host memory"
    _ceiling(book, "link_back", what, size, lambda: card.time(lambda: here.copy_(there, non_blocking=True)))
    spare = torch.ones(size, dtype=torch.uint8)
    _ceiling(book, "host_copy", "copy in host memory", 2 * size, lambda: card.wall(lambda: spare.copy_(here)))


def _ceiling(book: Book, name: str, what: str, amount: float, measure: Callable[[], float]) -> None:
    seconds = book.timed(what, measure)
    if seconds:
        book.data["ceilings"][name] = amount / seconds
        book.save()
