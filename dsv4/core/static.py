"""One token of every sequence in shapes that never change: its place is a number on the device, masks hide free rows.

Nothing is read back to the host, so that a CUDA graph can hold the whole step (`engine.replay`). It goes on where a
prompt was read into an ordinary cache, whose rows it shares. The same step done twice at one place changes nothing.
Shape letters: B batch, N lanes, W hidden, H heads, D entry size, R reach: entries that are looked at, C index size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsv4.core.cache import Cache
from dsv4.core.config import COMPRESSED, CoreConfig
from dsv4.core.frame import Frame, make_frame
from dsv4.core.hyper import collapse, first_lane
from dsv4.core.reading import EntryAttention
from dsv4.core.rows import IndexKeys, Readable, Ring, Rows
from dsv4.ops.hashing import blocked
from dsv4.ops.rank import ranked_places
from dsv4.ops.select import eight_bits

if TYPE_CHECKING:
    from dsv4.core.model import LanguageCore


def can_be_static(config: CoreConfig) -> bool:
    """Whether this step exists for a configuration: shared entries, read whole, by choice, or in a window."""
    return config.attention.kind == "shared" and not set(config.reach) & set(COMPRESSED)


class StaticCache(Cache):
    """A view of `cache` at a place that lies on the device; `reach` entries are looked at, those behind it unseen.

    Rows and memory ids are shared with `cache`. Tails are rings of one row more than are read; `begin` fills them,
    `settle` gives them back.
    """

    def __init__(self, cache: Cache, place_1: Tensor) -> None:
        if cache.rewind:
            raise ValueError("a cache that can go back keeps longer rings; make it with rewind=0 to step in one shape")
        if not can_be_static(cache.config):
            raise ValueError("steps of one shape are for shared entries without compressed windows")
        if any(scales and keys and keys.dtype != torch.int8 for keys, scales in _pairs(cache)):
            raise ValueError("steps of one shape keep index keys plainly or as int8 codes")
        self.__dict__.update(cache.__dict__)
        self.shared, self.place_1, self.reach = cache, place_1, cache.capacity
        self._tails = {layer: _longer(tail) for layer, tail in cache._tails.items()}

    def begin(self) -> None:
        """Go on from where the shared cache stands."""
        for layer, tail_BLNW in self.shared._tails.items():
            self._tails[layer].index_copy_(1, self._slots(layer, self.shared.length), tail_BLNW)

    def settle(self) -> None:
        """Give the shared cache, advanced to its present length, the tails that go with it."""
        for layer, ring in self._tails.items():
            self.shared._tails[layer] = ring.index_select(1, self._slots(layer, self.shared.length))

    def _slots(self, layer: int, stop: int | Tensor) -> Tensor:
        """Where the rows before place `stop` lie in a layer's tail."""
        ring = self._tails[layer]
        size = ring.shape[1]
        return (stop - size + 1 + torch.arange(size - 1, device=ring.device)) % size

    def append_tail(self, layer: int, new_BTNW: Tensor) -> Tensor:
        ring, new_BTNW = self._tails[layer], new_BTNW.to(self._dtype)
        before_BLNW = ring.index_select(1, self._slots(layer, self.place_1))
        ring.index_copy_(1, self.place_1 % ring.shape[1], new_BTNW)
        return torch.cat((before_BLNW, new_BTNW), 1)

    def keep(self, rows: Rows, new_B1D: Tensor) -> None:
        """Put one row of every sequence at the place, in a ring at its slot."""
        slot_1 = self.place_1 % rows.size if isinstance(rows, Ring) else self.place_1
        packed = new_B1D.to(rows.dtype) if rows.form is None else rows.form.pack(new_B1D)
        rows.kept_BSD.index_copy_(1, slot_1, packed)

    def seen(self, size: int) -> Tensor:
        """Which of the first `size` rows hold something [1, 1, R]; also of a ring, which is full from its size on."""
        return (torch.arange(size, device=self.place_1.device) <= self.place_1)[None, None]

    def shifts(self, known_B1: Tensor, orders: int, pad: int) -> list[Tensor]:
        """Keep the memory ids of the new tokens; those 0, 1, … places back, `pad` before the start."""
        assert self._memory_ids is not None
        kept_BS = self._memory_ids.kept_BSD[..., 0]
        kept_BS.index_copy_(1, self.place_1, known_B1)
        found = [known_B1]
        for back in range(1, orders):
            earlier_B1 = kept_BS.index_select(1, (self.place_1 - back).clamp_min(0))
            found.append(torch.where(self.place_1 >= back, earlier_B1, pad))
        return found


def _pairs(cache: Cache) -> Iterable[tuple[Rows | None, Rows | None]]:
    return zip(cache._index_keys, cache._index_scales, strict=True)


def _longer(tail_BLNW: Tensor) -> Tensor:
    return torch.cat((tail_BLNW, torch.zeros_like(tail_BLNW[:, :1])), 1)


def read_static(
    layer: EntryAttention, x_B1W: Tensor, latent_B1R: Tensor, q_B1HD: Tensor, new_B1D: Tensor, frame: Frame
) -> Tensor:
    """What `SharedAttention` reads at the cache's place [B, 1, H, D]: a ring, all entries, or the chosen ones."""
    cache = frame.cache
    assert isinstance(cache, StaticCache)
    rows = cache._entries[layer.layer]
    cache.keep(rows, new_B1D)
    if isinstance(rows, Ring):
        return layer._attend(q_B1HD, rows.get(slice(0, rows.size)), cache.seen(rows.size))
    reach = min(cache.reach, rows.size)
    seen_11R, source = cache.seen(reach), Readable(rows, first=0, stop=reach)
    if layer.indexer is not None:
        keys = _kept_keys(cache, layer.layer, layer.indexer.keys(x_B1W, frame), reach)
        if frame.sparse and reach > layer.top_k:
            scores_B1R = keys.scores(*layer.indexer.queries(x_B1W, latent_B1R, frame), reach)
            return layer._attend_places(q_B1HD, source, *ranked_places(scores_B1R, seen_11R, layer.top_k))
    return layer._attend(q_B1HD, source.all(), seen_11R)


def _kept_keys(cache: StaticCache, layer: int, new_B1C: Tensor, reach: int) -> IndexKeys:
    rows, scales = cache._index_keys[layer], cache._index_scales[layer]
    assert rows is not None
    if scales is None:
        cache.keep(rows, new_B1C)
        return IndexKeys(rows.get(slice(0, reach)))
    codes_B1C, scale_B11 = eight_bits(new_B1C)
    cache.keep(rows, codes_B1C)
    cache.keep(scales, scale_B11)
    return IndexKeys(rows.get(slice(0, reach)), scales.get(slice(0, reach))[..., 0])


class StaticStep:
    """The step in two halves: `front` as far as the first block whose memory lies elsewhere, `back` from there on.

    `rows` holds what such blocks will read [B, 1, R, Y], by layer; it must be filled before `back`. Without such blocks
    `front` is everything but the head.
    """

    def __init__(self, core: LanguageCore, cache: StaticCache, rows: Mapping[int, Tensor]) -> None:
        self.core, self.cache, self.rows = core, cache, rows
        self.cut = min(rows, default=core.config.layers)

    @torch.inference_mode()
    def front(self, ids_B1: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor] | None, Frame]:
        """Lanes, the weights by which a single pass reads on, memory ids and the frame, for `back`."""
        core, cache = self.core, self.cache
        positions = cache.place_1[None]
        frame = make_frame(core.config, positions_BT=positions, batch=cache.batch, segments_BT=None, cache=cache,
                           sparse=core.sparse and not core.training, index_loss=None, token_ids_BT=ids_B1)  # fmt: skip
        x_B1NW = core._lanes(core.embedding(ids_B1))
        part, shifts = core.config.engram, None
        if part is not None and core._memory_open:
            shifts = cache.shifts(core.canonical_ids[ids_B1], part.max_order, core.pad_id)
            shifts = blocked(shifts, core.pad_id) if part.form == "fused" else shifts
        pre_B1N = first_lane(x_B1NW) if core.single_pass else None
        return *self._through(x_B1NW, pre_B1N, shifts, frame, range(self.cut)), shifts, frame

    @torch.inference_mode()
    def back(self, x_B1NW: Tensor, pre_B1N: Tensor | None, shifts: list[Tensor] | None, frame: Frame) -> Tensor:
        """Logits [B, 1, V]."""
        core = self.core
        for layer, found in self.rows.items():
            coming: Future[Tensor] = Future()
            coming.set_result(core.blocks[layer].engram.table._opened(found))  # type: ignore[union-attr]
            frame.coming[layer] = coming
        x_B1NW, pre_B1N = self._through(x_B1NW, pre_B1N, shifts, frame, range(self.cut, core.config.layers))
        if pre_B1N is not None:
            x_B1NW = collapse(x_B1NW, pre_B1N)[:, :, None]
        return core.logits(core._collapsed(x_B1NW))

    def _through(
        self, x_B1NW: Tensor, pre_B1N: Tensor | None, shifts: list[Tensor] | None, frame: Frame, layers: Sequence[int]
    ) -> tuple[Tensor, Tensor | None]:
        for layer in layers:
            x_B1NW, _, _, _, pre_B1N = self.core.blocks[layer](x_B1NW, shifts, frame, pre_B1N)
        return x_B1NW, pre_B1N
