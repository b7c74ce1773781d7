"""Safetensors mapped into memory: tensors as views of files, experts read ahead and let go within a page budget.

Linux lets go of pages when it is told to; elsewhere the budget is only counted. Shape letters: as in `core.placed`.
Source: the safetensors format: eight bytes of header length, a JSON header, then the tensors.
"""

from __future__ import annotations

import json
import mmap
import os
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from dsv4.core.placed import Matrices, PlaceMeter
from dsv4.errors import InputError

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32,
          "F64": torch.float64}  # fmt: skip
READERS = 3  # threads that read ahead
PIECE = 4 << 20
PAGE = mmap.PAGESIZE


class MappedFile:
    """One safetensors file; nothing of it is read until a tensor's numbers are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        size = int.from_bytes(os.pread(self.descriptor, 8, 0), "little")
        self.start = 8 + size
        self.header = json.loads(os.pread(self.descriptor, size, 8))
        self.header.pop("__metadata__", None)
        self.map = mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ)

    def where(self, name: str) -> tuple[int, int]:
        """First byte and length of a tensor in the file."""
        begin, end = self.header[name]["data_offsets"]
        return self.start + begin, end - begin

    def tensor(self, name: str) -> Tensor:
        """A tensor as a view of the file; it must not be written to."""
        about = self.header[name]
        if about["dtype"] not in DTYPES:
            raise InputError(f"{self.path}: '{name}' is stored as {about['dtype']} and must be opened, not mapped")
        dtype, (begin, length) = DTYPES[about["dtype"]], self.where(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the buffer is read only, which is the point
            flat = torch.frombuffer(self.map, dtype=dtype, count=length // dtype.itemsize, offset=begin)
        return flat.view(about["shape"])


class MappedFolder:
    """All tensors of a folder by name."""

    def __init__(self, folder: Path) -> None:
        self.files = [MappedFile(path) for path in sorted(folder.glob("*.safetensors"))]
        self._file = {name: file for file in self.files for name in file.header}

    def let_go(self) -> None:
        """Forget the pages that were read so far, where the system knows how; the files stay mapped."""
        for file in self.files:
            if hasattr(mmap, "MADV_DONTNEED"):
                file.map.madvise(mmap.MADV_DONTNEED)

    def tensor(self, name: str) -> Tensor:
        """A view of one tensor."""
        return self._file[name].tensor(name)

    def range(self, name: str, row: int | None = None) -> Range:
        """The bytes of a tensor, or of one entry of a stack."""
        file = self._file[name]
        begin, length = file.where(name)
        if row is not None:
            length //= file.header[name]["shape"][0]
            begin += row * length
        return file, begin, length


Range = tuple[MappedFile, int, int]


class Pages:
    """Which experts' pages may stay in memory: `room` bytes, the longest unused are let go."""

    def __init__(self, room: int) -> None:
        self.room, self.held, self.meter = room, 0, PlaceMeter()
        self._here: OrderedDict[object, list[Range]] = OrderedDict()
        self._coming: dict[object, Future[None]] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dsv4-pages")
        self._tells = hasattr(os, "posix_fadvise") and hasattr(mmap, "MADV_DONTNEED")

    def want(self, key: object, ranges: list[Range]) -> None:
        """Begin to read what is not here, after letting go of what has no room beside it."""
        size = sum(length for _, _, length in ranges)
        self.meter.used += 1
        self.meter.bytes_used += size
        if key in self._here:
            self.meter.hits += 1
            self._here.move_to_end(key)
            return
        while self._here and self.held + size > self.room:
            self._let_go(self._here.popitem(last=False))
        self._here[key] = ranges
        self.held += size
        self.meter.bytes_fetched += size
        self._coming[key] = self._readers.submit(_read, ranges)

    def wait(self, key: object) -> None:
        """Until it is here."""
        coming = self._coming.pop(key, None)
        if coming is not None:
            begun = time.perf_counter()
            coming.result()
            self.meter.waited += time.perf_counter() - begun

    def _let_go(self, item: tuple[object, list[Range]]) -> None:
        key, ranges = item
        self.wait(key)
        for file, begin, length in ranges:
            self.held -= length
            first, last = -(-begin // PAGE) * PAGE, (begin + length) // PAGE * PAGE
            if self._tells and last > first:
                file.map.madvise(mmap.MADV_DONTNEED, first, last - first)
                os.posix_fadvise(file.descriptor, first, last - first, os.POSIX_FADV_DONTNEED)


def _read(ranges: list[Range]) -> None:
    """Bring ranges into the page cache by reading them; what is read goes nowhere else."""
    scratch = bytearray(PIECE)
    for file, begin, length in ranges:
        for start in range(begin, begin + length, PIECE):
            size = min(PIECE, begin + length - start)
            os.preadv(file.descriptor, [memoryview(scratch)[:size]], start)


class MappedStore:
    """One layer's experts as views of files."""

    def __init__(self, layer: int, experts: Sequence[Matrices], ranges: Sequence[list[Range]], pages: Pages) -> None:
        self.layer, self.experts, self.ranges, self.pages, self.meter = layer, experts, ranges, pages, pages.meter

    def want(self, experts: Sequence[int]) -> None:
        """Begin to read the first ones; as many as there is room for at once, the others when they are asked for."""
        room = self.pages.room
        for expert in experts:
            room -= sum(length for _, _, length in self.ranges[expert])
            if room < 0:
                return
            self.pages.want((self.layer, expert), self.ranges[expert])

    def get(self, expert: int) -> Matrices:
        """The matrices where they lie."""
        key = self.layer, expert
        if key not in self.pages._here:
            self.pages.want(key, self.ranges[expert])
        self.pages.wait(key)
        return self.experts[expert]
