"""Rows of a cache in pages of memory: taken when they are written, shared by forks, given back by going back.

A row of the batch is one range of addresses, whose pages are pages of a file without a name (Linux's memfd). Rows lie
one behind the other for whoever reads them, and every operator reads paged rows as it reads others, to the bit. Two
forks have the same page of the file in both their ranges until one of them writes to it. Source: PagedAttention
(arXiv 2309.06180) for what pages are good for, vAttention (arXiv 2405.04437) for leaving the table of pages to the
system. Shape letters: B batch, S rows, D row width.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dsv4.core.rows import Rows

PAGE = 65_536  # bytes; memory inside a page is taken in the system's own, smaller ones
RUN = 64  # pages of the file that are set aside for one range, so that neighbours there are neighbours here
FIXED, NORESERVE, KEEP_SIZE, PUNCH = 0x10, 0x4000, 0x1, 0x2  # of mmap and fallocate


def supported(device: torch.device | str) -> bool:
    """Whether rows can be paged: on the CPU under Linux."""
    return torch.device(device).type == "cpu" and sys.platform == "linux" and hasattr(os, "memfd_create")


@cache
def _system() -> Any:
    lib, long = ctypes.CDLL(None, use_errno=True), ctypes.c_int64
    lib.mmap.restype = ctypes.c_void_p
    lib.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, long]
    lib.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, long, long]
    return lib


def _map(address: int | None, size: int, file: int, offset: int) -> int:
    """Addresses of `size` bytes: of the file, or (file -1) of nothing yet; at `address` where one is given."""
    flags = mmap.MAP_SHARED if file >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    flags |= 0 if address is None else FIXED
    found = _system().mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, file, offset)
    if found in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"{size} bytes cannot be mapped: {os.strerror(ctypes.get_errno())}")
    return found


class PagePool:
    """The pages of a cache and of all its forks; a page has as many users as ranges hold it."""

    def __init__(self) -> None:
        self.page = PAGE
        self.file = os.memfd_create("dsv4-cache")
        weakref.finalize(self, os.close, self.file)
        self.users: dict[int, int] = {}
        self._free: list[int] = []
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the system has given for all pages."""
        return os.fstat(self.file).st_blocks * 512

    def take(self, run: list[int]) -> int:
        """A page of zeros, the next of the run, which is filled again when it is empty."""
        if not run and self._free:
            page = self._free.pop()
        else:
            if not run:
                run += range(self._end + RUN - 1, self._end - 1, -1)
                self._end += RUN
                os.ftruncate(self.file, self._end * self.page)
            page = run.pop()
        self.users[page] = 1
        return page

    def drop(self, page: int) -> None:
        """One user less; a page without any goes back to the system."""
        self.users[page] -= 1
        if not self.users[page]:
            del self.users[page]
            self._free.append(page)
            _system().fallocate(self.file, KEEP_SIZE | PUNCH, page * self.page, self.page)

    def put_back(self, run: list[int]) -> None:
        """Pages that were set aside and not taken."""
        self._free += run


class PagedRows(Rows):
    """Rows whose pages are taken when they are written. A process that is forked off shares them with its parent, so
    only one of the two may go on writing."""

    def __init__(self, pool: PagePool, like: Rows) -> None:
        self.__dict__.update({name: value for name, value in like.__dict__.items() if name != "kept_BSD"})
        self.pool, self.filled = pool, 0
        self.batch, _, width = like.kept_BSD.shape
        self.row_bytes = width * like.kept_BSD.element_size()
        self.room = (
            -(-self.size * self.row_bytes // self.pool.page) * self.pool.page
        )  # bytes of addresses of one row of the batch
        total = self.batch * self.room
        self.address = _map(None, total, -1, 0)
        self.pages: list[list[int]] = [[] for _ in range(self.batch)]
        self.run: list[int] = []
        memory = (ctypes.c_ubyte * total).from_address(self.address)
        # Whoever still reads a piece of these rows keeps `memory`, and with it the addresses.
        weakref.finalize(memory, _release, pool, self.address, total, self.pages, self.run)
        flat = torch.frombuffer(memory, dtype=torch.uint8).view(like.kept_BSD.dtype)
        stride = self.room // like.kept_BSD.element_size()
        self.kept_BSD = flat.as_strided((self.batch, self.size, width), (stride, width, 1))

    @property
    def nbytes(self) -> int:
        """Bytes of the pages that are held, alone or with others."""
        return sum(map(len, self.pages)) * self.pool.page

    def hold(self, start: int, stop: int) -> None:
        """Have pages of one's own for these places."""
        if stop <= start:
            return
        first, last = start * self.row_bytes // self.pool.page, (stop * self.row_bytes - 1) // self.pool.page
        for row, pages in enumerate(self.pages):
            for number in range(min(first, len(pages)), min(last + 1, len(pages))):
                if self.pool.users[pages[number]] > 1:
                    self._part(row, number)
            for number in range(len(pages), last + 1):
                pages.append(self.pool.take(self.run))
                self._place(row, number)
        self.filled = max(self.filled, stop)

    def put(self, places: slice | Tensor | int, new_BTD: Tensor) -> None:
        """Keep new rows at these places, a slice."""
        if not isinstance(places, slice):
            raise TypeError("paged rows are written slice by slice")
        start, stop, _ = places.indices(self.size)
        self.hold(start, stop)
        super().put(places, new_BTD)

    def cut(self, count: int) -> None:
        """Give pages back that hold none of the first `count` rows."""
        self.filled = min(self.filled, count)
        kept = -(-self.filled * self.row_bytes // self.pool.page)
        for row, pages in enumerate(self.pages):
            if len(pages) > kept:
                _map(self._at(row, kept), (len(pages) - kept) * self.pool.page, -1, 0)
                for page in pages[kept:]:
                    self.pool.drop(page)
                del pages[kept:]

    def clone(self) -> PagedRows:
        """A fork: whole pages are shared, the last one, which is being filled, is copied."""
        twin = PagedRows(self.pool, self)
        whole = self.filled * self.row_bytes // self.pool.page
        for row, pages in enumerate(self.pages):
            for page in pages[:whole]:
                self.pool.users[page] += 1
                twin.pages[row].append(page)
            twin._place_all(row)
            if self.filled * self.row_bytes > whole * self.pool.page:
                twin.pages[row].append(self.pool.take(twin.run))
                twin._place(row, whole)
                ctypes.memmove(twin._at(row, whole), self._at(row, whole), self.pool.page)
        twin.filled = self.filled
        return twin

    def _at(self, row: int, number: int) -> int:
        return self.address + row * self.room + number * self.pool.page

    def _place(self, row: int, number: int) -> None:
        _map(self._at(row, number), self.pool.page, self.pool.file, self.pages[row][number] * self.pool.page)

    def _place_all(self, row: int) -> None:
        """As many neighbours at once as are neighbours in the file."""
        pages, first = self.pages[row], 0
        for number in range(1, len(pages) + 1):
            if number == len(pages) or pages[number] != pages[number - 1] + 1:
                _map(
                    self._at(row, first),
                    (number - first) * self.pool.page,
                    self.pool.file,
                    pages[first] * self.pool.page,
                )
                first = number

    def _part(self, row: int, number: int) -> None:
        """A page of one's own instead of one that others read too."""
        held = ctypes.string_at(self._at(row, number), self.pool.page)
        old, self.pages[row][number] = self.pages[row][number], self.pool.take(self.run)
        self._place(row, number)
        ctypes.memmove(self._at(row, number), held, self.pool.page)
        self.pool.drop(old)


def _release(pool: PagePool, address: int, total: int, pages: list[list[int]], run: list[int]) -> None:
    _system().munmap(address, total)
    for page in (page for row in pages for page in row):
        pool.drop(page)
    pool.put_back(run)
