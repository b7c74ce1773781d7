"""What a sequence leaves behind: entries, index keys, windows being filled, memory ids and convolution tails.

Shape letters: B batch, T new tokens, S kept tokens, D entry size, C index or projected size, L look-back, N lanes or
windows, W hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from dsv4.core.config import COMPRESSED, AttentionConfig, CoreConfig, LatentConfig
from dsv4.core.pages import PagedRows, PagePool, supported
from dsv4.core.rows import IndexKeys, Readable, Ring, Rows
from dsv4.ops.fp4 import FourBitRows
from dsv4.ops.fp8 import LARGEST, RowFormat, e4m3
from dsv4.ops.select import eight_bits

FORMATS, KEYS = ("plain", "fp8"), ("plain", "int8", "fp8")
NOISE_ROWS = 65_536  # made at a time


class Cache:
    """Room for `capacity` tokens of `batch` sequences of one length, allocated at once or (`pages`) as it is filled.

    Sliding layers keep a ring of their window, compressed layers also an entry for every few tokens. A forward pass
    with a cache appends to it; `length` is what it holds. `fork()` gives an independent copy, which is also a snapshot:
    keep it, and go on from it later, or `restore` it. `truncate` takes back up to `rewind` tokens where there are
    rings, and any number elsewhere. `rows='fp8'` packs entries (584 or 656 bytes for 512 numbers); `index_keys='int8'`
    or 'fp8' keeps keys of the indexer of sparse layers as codes of a byte with one scale each. With `pages` a fork
    shares memory with what it was forked from, and going back gives memory back.
    """

    def __init__(
        self,
        config: CoreConfig,
        *,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str,
        rows: str = "plain",
        rewind: int = 0,
        index_keys: str = "plain",
        pages: bool = False,
    ) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"a cache needs a batch and a capacity of at least 1, got {batch} and {capacity}")
        if rewind < 0:
            raise ValueError(f"rewind is a number of tokens, got {rewind}")
        self.config, self.batch, self.capacity, self.rewind = config, batch, capacity, rewind
        self.length = self._highest = 0
        self._dtype, self._device, self._form = dtype, device, _form(config, rows)
        attention = config.attention
        self.window = attention.window if isinstance(attention, AttentionConfig) else 0
        self.ring = tuple(reach == "sliding" or reach in COMPRESSED for reach in config.reach)
        ring_size = min(capacity, self.window + rewind)
        self._entries = [
            self._room(ring_size if ring else capacity, attention.entry, ring=ring, packed=True) for ring in self.ring
        ]
        if index_keys not in KEYS:
            raise ValueError(f"unknown index_keys '{index_keys}', allowed: {', '.join(KEYS)}")
        codes = {"plain": dtype, "int8": torch.int8, "fp8": torch.uint8}[index_keys]
        self._index_keys = [
            Rows(batch, capacity, attention.index_size, dtype=codes, device=device) if reach == "sparse" else None
            for reach in config.reach
        ]
        self._index_scales = [
            Rows(batch, capacity, 1, dtype=torch.float32, device=device) if rows_ and codes != dtype else None
            for rows_ in self._index_keys
        ]
        self._pending: dict[tuple[int, str], Ring] = {}
        self._windows: dict[tuple[int, str], Rows] = {}
        if isinstance(attention, AttentionConfig):
            self._make_windows(attention)
        self._memory_ids: Rows | None = None
        self._tails: dict[int, Tensor] = {}
        if config.engram is not None:
            self._memory_ids = Rows(batch, capacity, 1, dtype=torch.long, device=device)
            back = (config.engram.kernel - 1) * config.engram.max_order + rewind
            shape = (batch, back, config.lanes.count, config.hidden)
            convolved = config.engram.layers if config.engram.form == "paper" else ()
            self._tails = {layer: torch.zeros(shape, dtype=dtype, device=device) for layer in convolved}
        self.pool = self._into_pages(device) if pages else None

    def _into_pages(self, device: torch.device | str) -> PagePool:
        if not supported(device):
            raise ValueError(f"pages need memory maps of Linux and a cache on the CPU; this one is on '{device}'")
        pool = PagePool()

        def paged(rows: Rows) -> Rows:
            return rows if isinstance(rows, Ring) else PagedRows(pool, rows)

        self._entries = [paged(rows) for rows in self._entries]
        self._index_keys = [rows and paged(rows) for rows in self._index_keys]
        self._index_scales = [rows and paged(rows) for rows in self._index_scales]
        self._windows = {key: paged(rows) for key, rows in self._windows.items()}
        self._memory_ids = self._memory_ids and paged(self._memory_ids)
        return pool

    def _grown(self) -> Iterator[tuple[Rows, int]]:
        """Rows that grow with what is read, and for how many tokens one stands."""
        every_token = (*self._entries, *self._index_keys, *self._index_scales, self._memory_ids)
        yield from ((rows, 1) for rows in every_token if rows is not None and not isinstance(rows, Ring))
        yield from ((rows, self.config.ratio(layer)) for (layer, _), rows in self._windows.items())

    @property
    def packed(self) -> bool:
        """Whether entries are packed."""
        return self._form is not None

    def _room(self, size: int, width: int, *, ring: bool = False, packed: bool = False) -> Rows:
        form = self._form if packed else None
        return (Ring if ring else Rows)(self.batch, size, width, dtype=self._dtype, device=self._device, form=form)

    def _make_windows(self, attention: AttentionConfig) -> None:
        for layer, reach in enumerate(self.config.reach):
            if reach == "shared_compressed":
                self._share_windows(layer, attention)
                continue
            if reach == "compressed_sparse":
                ratio, kinds = attention.light, {"entry": attention.entry, "index": attention.index_size}
            elif reach == "heavily_compressed":
                ratio, kinds = attention.heavy, {"entry": attention.entry}
            else:
                continue
            projected = 4 if reach == "compressed_sparse" else 2  # values and gates, twice where windows overlap
            for name, width in kinds.items():
                ring = self._room(2 * ratio + self.rewind, projected * width, ring=True)
                assert isinstance(ring, Ring)
                self._pending[layer, name] = ring
                self._windows[layer, name] = self._room(max(1, self.capacity // ratio), width, packed=name == "entry")

    def _share_windows(self, layer: int, part: AttentionConfig) -> None:
        """Room for the entries and keys that a source makes; other layers keep none of their own."""
        plan, ratio = part.sharing, self.config.ratio(layer)
        if plan is None or layer not in plan.sources:
            return
        sizes = {"entry": (part.entry, plan.entry_tile, "e4m3"), "index": (part.index_size, plan.key_tile, "e8m0")}
        for name, (width, tile, scale) in sizes.items():
            form = FourBitRows(size=width, tile=tile, scale=scale) if self.packed and tile else None
            where = {"dtype": self._dtype, "device": self._device}
            self._windows[layer, name] = Rows(self.batch, max(1, self.capacity // ratio), width, form=form, **where)
        if ratio > 1:
            where["dtype"] = torch.promote_types(self._dtype, torch.float32)  # as it is pooled
            self._pending[layer, "entry"] = Ring(self.batch, 2 * ratio + self.rewind, 2 * part.entry, **where)

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated; pages that forks share are counted in each of them (`pool.nbytes` counts once)."""
        rings = [rows for rows in (*self._entries, *self._pending.values()) if isinstance(rows, Ring)]
        held = sum(rows.nbytes for rows in (*rings, *(rows for rows, _ in self._grown())))
        return held + sum(tail.numel() * tail.element_size() for tail in self._tails.values())

    def check(self, batch: int, new: int) -> None:
        """ValueError unless `new` tokens of `batch` sequences fit."""
        if batch != self.batch:
            raise ValueError(f"the cache is for a batch of {self.batch}, got {batch}")
        if self.length + new > self.capacity:
            raise ValueError(
                f"the cache holds {self.length} of {self.capacity} tokens, {new} more do not fit; make it larger"
            )

    def advance(self, new: int) -> None:
        """Count `new` tokens as held, after every layer has appended them."""
        self.length += new
        self._highest = max(self._highest, self.length)

    def truncate(self, length: int) -> None:
        """Forget the tokens from place `length` on. ValueError where what must come back is no longer held."""
        if not 0 <= length <= self.length:
            raise ValueError(f"the cache holds {self.length} tokens and cannot be cut to {length}")
        short = any(self.ring) or bool(self._tails)
        if short and 0 < length < self._highest - self.rewind:
            raise ValueError(
                f"this cache can go back {self.rewind} tokens from {self._highest}, not to {length}: sliding windows, "
                "compressed windows and memory keep only their last tokens; make it with a larger rewind, or fork it"
            )
        for layer, tail in self._tails.items():
            kept = max(0, tail.shape[1] - (self.length - length)) if length else 0
            self._tails[layer] = torch.cat((torch.zeros_like(tail[:, kept:]), tail[:, :kept]), 1)
        for rows, ratio in self._grown():
            rows.cut(length // ratio)
        self.length = length
        self._highest = self._highest if length else 0

    def append_entries(self, layer: int, new_BTD: Tensor) -> Readable:
        """Keep the new entries; return those that the new queries may see."""
        rows, T, start = self._entries[layer], new_BTD.shape[1], self.length
        if not isinstance(rows, Ring):
            rows.put(slice(start, start + T), new_BTD)
            return Readable(rows, first=0, stop=start + T)
        if T == 1 and rows.size <= self.window:
            rows.put(slice(start % rows.size, start % rows.size + 1), new_BTD)
            return Readable(rows, first=None, stop=min(start + 1, rows.size))
        behind = min(start, self.window - 1)
        return Readable(rows.extend(new_BTD, start, behind), first=start - behind, stop=start + T)

    def append_index_keys(self, layer: int, new_BTC: Tensor) -> IndexKeys:
        """Keep the new index keys and return all of them, the new ones included."""
        rows, scales = self._index_keys[layer], self._index_scales[layer]
        if rows is None:
            raise ValueError(f"layer {layer} has no indexer")
        start, stop = self.length, self.length + new_BTC.shape[1]
        if scales is None:
            rows.put(slice(start, stop), new_BTC)
            return IndexKeys(rows.get(slice(0, stop)))
        codes_BTC, scale_BT1 = (eight_bits if rows.dtype == torch.int8 else e4m3)(new_BTC)
        rows.put(slice(start, stop), codes_BTC)
        scales.put(slice(start, stop), scale_BT1)
        return IndexKeys(rows.get(slice(0, stop)), scales.get(slice(0, stop))[..., 0])

    def append_projected(self, layer: int, name: str, new_BTC: Tensor, *, ratio: int, lead: int) -> Tensor | None:
        """Keep what new tokens give to windows of `ratio`; return the tokens of the windows that are now full.

        With `lead` the window before the first of them comes first, if there is one. None when no window was filled.
        """
        ring, start, T = self._pending[layer, name], self.length, new_BTC.shape[1]
        first, last = start // ratio, (start + T) // ratio
        begin = max(0, first - lead) * ratio
        if first == last:
            ring.put(torch.arange(start, start + T, device=new_BTC.device) % ring.size, new_BTC)
            return None
        return ring.extend(new_BTC, start, start - begin)[:, : last * ratio - begin]

    def append_windows(self, layer: int, name: str, new_BND: Tensor | None, *, ratio: int, full: int) -> Readable:
        """Keep entries of windows that were filled; return the `full` ones there are now."""
        rows = self._windows[layer, name]
        if new_BND is not None:
            rows.put(slice(self.length // ratio, full), new_BND)
        return Readable(rows, first=0, stop=full)

    def append_memory_ids(self, new_BT: Tensor, look_back: int, pad: int) -> Tensor:
        """Keep the new memory ids and return the `look_back` before them [B, L], `pad` where the sequence starts."""
        if self._memory_ids is None:
            raise ValueError("this model has no memory")
        start = self.length
        before_BL = self._memory_ids.get(slice(max(0, start - look_back), start))[..., 0]
        missing = look_back - before_BL.shape[1]
        if missing:
            before_BL = torch.cat((before_BL.new_full((self.batch, missing), pad), before_BL), 1)
        self._memory_ids.put(slice(start, start + new_BT.shape[1]), new_BT[..., None])
        return before_BL

    def append_tail(self, layer: int, new_BTNW: Tensor) -> Tensor:
        """Keep the last convolution inputs; return those before the new ones, then the new ones."""
        tail = self._tails[layer]
        long = torch.cat((tail, new_BTNW.to(tail.dtype)), 1)
        self._tails[layer] = long[:, long.shape[1] - tail.shape[1] :]
        return long[:, self.rewind :]

    def fill_with_noise(self, length: int) -> None:
        """Hold `length` tokens of noise, as if they had been read: for measuring at lengths that take long to read."""
        self.check(self.batch, length - self.length)
        for scales in filter(None, self._index_scales):
            scales.hold(0, scales.size)
            scales.kept_BSD.fill_(3 / 127)
        for rows in (*self._entries, *filter(None, self._index_keys), *self._pending.values(), *self._windows.values()):
            for start in range(0, rows.size, NOISE_ROWS):
                place = slice(start, min(rows.size, start + NOISE_ROWS))
                shape = (self.batch, place.stop - start, rows.width)
                noise = torch.randn(shape, dtype=torch.float32, device=rows.kept_BSD.device)
                if rows.dtype == torch.uint8:
                    rows.put(place, (noise * (127 / 3)).to(torch.float8_e4m3fn).view(torch.uint8))
                else:
                    rows.put(place, noise if rows.dtype != torch.int8 else (noise * (127 / 3)).clamp_(-127, 127))
        self.length = self._highest = length

    def fork(self) -> Self:
        """An independent copy of everything held."""
        twin = copy.copy(self)
        twin.restore(self)
        return twin

    def restore(self, snapshot: Cache) -> None:
        """Become what `snapshot` (a fork of this cache) holds; the snapshot stays as it is."""
        if snapshot.config != self.config or (snapshot.batch, snapshot.capacity) != (self.batch, self.capacity):
            raise ValueError("a cache can only be restored from a fork of its own")
        self.length, self._highest = snapshot.length, snapshot._highest
        self._entries = [rows.clone() for rows in snapshot._entries]
        self._index_keys = [None if rows is None else rows.clone() for rows in snapshot._index_keys]
        self._index_scales = [None if rows is None else rows.clone() for rows in snapshot._index_scales]
        self._pending = {key: rows.clone() for key, rows in snapshot._pending.items()}
        self._windows = {key: rows.clone() for key, rows in snapshot._windows.items()}
        self._memory_ids = None if snapshot._memory_ids is None else snapshot._memory_ids.clone()
        self._tails = {layer: tail.clone() for layer, tail in snapshot._tails.items()}


def _form(config: CoreConfig, rows: str) -> RowFormat | None:
    if rows not in FORMATS:
        raise ValueError(f"unknown rows '{rows}', allowed: {', '.join(FORMATS)}")
    part = config.attention
    if rows == "plain":
        return None
    if isinstance(part, AttentionConfig) and part.grid:  # as rounded already, so nothing is lost
        return RowFormat(plain=part.entry, rotated=0, tile=part.grid, wide_scales=False, least=1e-4 / LARGEST)
    if isinstance(part, AttentionConfig):
        return RowFormat.shared(part.entry, part.rotated)
    if isinstance(part, LatentConfig):
        return RowFormat.latent(part.latent, part.rotated)
    raise ValueError("rows='fp8' is for latent and shared entries; keys and values of every head are kept plain")
