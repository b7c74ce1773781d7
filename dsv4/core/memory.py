"""Where the rows of Engram lie: on the device, in host memory, or in a file mapped into memory; plain or in FP8.

Shape letters: R rows, D row width, Y bytes a row.
Source: V4.1 stores 256 numbers as e4m3 codes with a power-of-two scale for 32 of them, 264 bytes a row. Which rows a
token reads is known from ids alone, so rows that lie elsewhere are fetched while earlier blocks compute (arXiv
2601.07372 §2.4).
"""

from __future__ import annotations

import mmap
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.ops.fp8 import RowFormat

HOMES = ("device", "host", "mapped")
ROWS = ("plain", "fp8")
TILE = 32  # numbers of a row that share a scale
PACK_ROWS = 65_536  # at a time
FEW = 0 if os.environ.get("DSV4_ENGRAM_THREAD") == "1" else 2048  # rows that the host fetches without the thread
TOGETHER, HELPERS = 64, 8  # rows of a file that one thread reads, and threads for more


def row_form(width: int) -> RowFormat:
    """How a row of `width` numbers lies in FP8."""
    return RowFormat(plain=width, rotated=0, tile=TILE, wide_scales=False)


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HELPERS, thread_name_prefix="engram-rows")


@dataclass(kw_only=True)
class RowMeter:
    """What rows that lie elsewhere have cost so far: how many were fetched, and how long the forward pass waited."""

    rows: int = 0
    bytes: int = 0
    waited: float = 0.0  # seconds


@cache
def _reader() -> ThreadPoolExecutor:
    """One thread for all tables: rows are wanted in the order in which they are asked for."""
    return ThreadPoolExecutor(1, thread_name_prefix="engram")


class MemoryTable(nn.Module):
    """An embedding table that need not live where it is used; the three homes read the same numbers.

    Rows in FP8 are bytes (codes, then scales) and cannot be trained.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width) * 0.02)
        self.home = "device"
        self.form = row_form(width)
        self.meter = RowMeter()
        self._map: mmap.mmap | None = None

    @property
    def packed(self) -> bool:
        """Whether rows are in FP8."""
        return self.weight.dtype == torch.uint8

    @property
    def away(self) -> bool:
        """Whether rows may take a while to come: from a file, or from host memory to another device."""
        return self.home == "mapped" or (self.home == "host" and torch.accelerator.is_available())

    def forward(self, rows_BTR: Tensor) -> Tensor:
        """Rows [B, T, R, D] on the device of the indices; those in FP8 come as bfloat16, which holds them exactly."""
        if self.weight.device == rows_BTR.device:
            return self._opened(F.embedding(rows_BTR, self.weight))
        found = F.embedding(rows_BTR.to(self.weight.device), self.weight)
        return self._opened(found.to(rows_BTR.device, non_blocking=True))

    def start(self, rows_BTR: Tensor) -> Future[Tensor]:
        """Begin to fetch these rows; the result is what `forward` gives. The caller goes on meanwhile."""
        self.meter.rows += rows_BTR.numel()
        self.meter.bytes += rows_BTR.numel() * self.weight.shape[1] * self.weight.element_size()
        if rows_BTR.device == self.weight.device:
            return _reader().submit(self._read, rows_BTR)
        # Copied to the host here, where the ids are at hand, so that the thread waits for nothing on the device.
        device = rows_BTR.device
        if device.type == "cuda" and rows_BTR.numel() <= FEW:
            coming: Future[Tensor] = Future()
            coming.set_result(self._at_once(rows_BTR))
            return coming
        reads = torch.cuda.current_stream(device) if device.type == "cuda" else None
        return _reader().submit(self._send, rows_BTR.to(self.weight.device), device, reads)

    def arrived(self, coming: Future[Tensor]) -> Tensor:
        """What `start` began, waiting for what is not here yet."""
        begun = time.perf_counter()
        found = coming.result()
        self.meter.waited += time.perf_counter() - begun
        return found

    @torch.no_grad()
    def _read(self, rows_BTR: Tensor) -> Tensor:
        if self.home == "mapped" and rows_BTR.numel() > TOGETHER:
            # A disk answers many at once: touch one number of each row from several threads, then read them.
            parts = rows_BTR.flatten().chunk(HELPERS)
            list(_helpers().map(lambda rows_R: F.embedding(rows_R, self.weight[:, :1]), parts))
        return self(rows_BTR)

    @torch.no_grad()
    def _at_once(self, rows_BTR: Tensor) -> Tensor:
        """A few rows, as in decoding: a thread would keep the host from launching for longer than they take to find."""
        device, rows_R = rows_BTR.device, rows_BTR.flatten().to(self.weight.device)
        shape, kind = (rows_R.shape[0], self.weight.shape[1]), self.weight.dtype
        found_RY = torch.empty(shape, dtype=kind, pin_memory=device.type == "cuda")
        torch.index_select(self.weight.detach(), 0, rows_R, out=found_RY)
        return self._opened(found_RY.to(device, non_blocking=True)).view(*rows_BTR.shape, -1)

    @torch.no_grad()
    def _send(self, rows_BTR: Tensor, device: torch.device, reads: torch.cuda.Stream | None) -> Tensor:
        """Rows through pinned memory, on a stream of their own, so that the copy runs beside the blocks.

        The stream that `reads` them is told to the allocator, or the next rows might come to the same place too early.
        """
        found = F.embedding(rows_BTR, self.weight)
        if reads is None:
            return self._opened(found.to(device))
        stream = torch.cuda.Stream(device)
        with torch.cuda.stream(stream):
            sent = self._opened(found.pin_memory().to(device, non_blocking=True))
        stream.synchronize()
        sent.record_stream(reads)
        return sent

    def _opened(self, found: Tensor) -> Tensor:
        return self.form.unpack(found, torch.bfloat16) if self.packed else found

    def pack(self) -> None:
        """Turn rows into FP8 for good; nothing to do where they are."""
        if self.packed:
            return
        data_RD = self.weight.detach()
        bytes_RY = torch.empty(data_RD.shape[0], self.form.bytes, dtype=torch.uint8, device=data_RD.device)
        for start in range(0, data_RD.shape[0], PACK_ROWS):
            bytes_RY[start : start + PACK_ROWS] = self.form.pack(data_RD[start : start + PACK_ROWS])
        self.weight = nn.Parameter(bytes_RY, requires_grad=False)

    def place(self, home: str, *, device: torch.device, file: Path | None = None) -> None:
        """Move the rows; `mapped` writes them to `file` first and can not be trained. ValueError for other homes."""
        if home not in HOMES:
            raise ValueError(f"unknown home '{home}' for memory; choose one of {', '.join(HOMES)}")
        data = self.weight.detach()
        if home == "mapped":
            if file is None:
                raise ValueError("memory-mapped rows need a folder to lie in: place_memory('mapped', folder=...)")
            data, self._map = _mapped(data, file)
        else:
            data = data.to(device if home == "device" else "cpu")
            # What was mapped must become memory of its own, or it would keep hanging on the file.
            data = data.clone() if self.home == "mapped" else data
            self._map = None
        self.weight = nn.Parameter(data, requires_grad=self.weight.requires_grad and home != "mapped")
        self.home = home

    def let_go(self) -> None:
        """Forget the pages that were read so far, where the system knows how; the rows stay in their file."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> MemoryTable:
        # `model.to(device)` must not fetch rows that were placed elsewhere on purpose.
        return super()._apply(fn, *args, **kwargs) if self.home == "device" else self


def _mapped(data_RD: Tensor, file: Path) -> tuple[Tensor, mmap.mmap]:
    data_RD = data_RD.cpu().contiguous()
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    data_RD.view(torch.uint8).numpy().tofile(beside)
    beside.replace(file)
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)  # rows lie anywhere, so what stands beside them is not wanted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the buffer is read only, which is the point
        return torch.frombuffer(mapped, dtype=data_RD.dtype).view(data_RD.shape), mapped
