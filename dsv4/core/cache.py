"""What a sequence leaves behind: entries, index keys, memory ids and convolution tails, all preallocated.

Shape letters: B batch, T new tokens, S kept tokens, D entry size, C index size, L look-back, N lanes, W hidden.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from dsv4.core.config import CoreConfig


class Cache:
    """Room for `capacity` tokens of `batch` sequences of one length; sliding layers keep a ring of their window.

    A forward pass with a cache appends to it. `length` is what it holds. `fork()` gives an independent copy, which is
    also a snapshot: keep it, and go on from it later.
    """

    def __init__(
        self, config: CoreConfig, *, batch: int, capacity: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"a cache needs a batch and a capacity of at least 1, got {batch} and {capacity}")
        attention = config.attention
        self.batch, self.capacity, self.length = batch, capacity, 0
        self.window = attention.window
        self.ring = tuple(reach == "sliding" for reach in config.reach)

        def room(*shape: int, of: torch.dtype = dtype) -> Tensor:
            return torch.zeros(batch, *shape, dtype=of, device=device)

        sizes = [min(capacity, attention.window) if ring else capacity for ring in self.ring]
        self._entries = [room(size, attention.entry) for size in sizes]
        self._index_keys = [
            room(capacity, attention.index_size) if reach == "sparse" else None for reach in config.reach
        ]
        self._memory_ids: Tensor | None = None
        self._tails: dict[int, Tensor] = {}
        if config.engram is not None:
            self._memory_ids = room(capacity, of=torch.long)
            back = (config.engram.kernel - 1) * config.engram.max_order
            self._tails = {layer: room(back, config.lanes.count, config.hidden) for layer in config.engram.layers}

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

    def append_entries(self, layer: int, new_BTD: Tensor) -> tuple[Tensor, int | None]:
        """Keep the new entries; return those the new queries may see and the place of the first of them.

        The place is None where order is lost and nothing need be hidden: one query on a ring sees the whole ring.
        """
        kept_BSD, T, start = self._entries[layer], new_BTD.shape[1], self.length
        if not self.ring[layer]:
            kept_BSD[:, start : start + T] = new_BTD
            return kept_BSD[:, : start + T], 0
        size = kept_BSD.shape[1]
        if T == 1:
            kept_BSD[:, start % size] = new_BTD[:, 0]
            return kept_BSD[:, : min(start + 1, size)], None
        behind = min(start, self.window - 1)
        places = torch.arange(start - behind, start, device=kept_BSD.device) % size
        seen_BSD = torch.cat((kept_BSD[:, places], new_BTD.to(kept_BSD.dtype)), 1)
        last = min(T, size)
        places = torch.arange(start + T - last, start + T, device=kept_BSD.device) % size
        kept_BSD[:, places] = new_BTD[:, T - last :].to(kept_BSD.dtype)
        return seen_BSD, start - behind

    def append_index_keys(self, layer: int, new_BTC: Tensor) -> Tensor:
        """Keep the new index keys and return all of them, the new ones included."""
        kept_BSC = self._index_keys[layer]
        if kept_BSC is None:
            raise ValueError(f"layer {layer} has no indexer")
        stop = self.length + new_BTC.shape[1]
        kept_BSC[:, self.length : stop] = new_BTC
        return kept_BSC[:, :stop]

    def append_memory_ids(self, new_BT: Tensor, look_back: int, pad: int) -> Tensor:
        """Keep the new memory ids and return the `look_back` before them [B, L], `pad` where the sequence starts."""
        if self._memory_ids is None:
            raise ValueError("this model has no memory")
        start = self.length
        before_BL = self._memory_ids[:, max(0, start - look_back) : start]
        missing = look_back - before_BL.shape[1]
        if missing:
            before_BL = torch.cat((before_BL.new_full((self.batch, missing), pad), before_BL), 1)
        self._memory_ids[:, start : start + new_BT.shape[1]] = new_BT
        return before_BL

    def append_tail(self, layer: int, new_BTNW: Tensor) -> Tensor:
        """Keep the last convolution inputs; return those before the new ones, then the new ones."""
        tail = self._tails[layer]
        long = torch.cat((tail, new_BTNW.to(tail.dtype)), 1)
        self._tails[layer] = long[:, long.shape[1] - tail.shape[1] :]
        return long

    def fork(self) -> Self:
        """An independent copy of everything held."""
        twin = copy.copy(self)
        twin._entries = [kept.clone() for kept in self._entries]
        twin._index_keys = [None if kept is None else kept.clone() for kept in self._index_keys]
        twin._memory_ids = None if self._memory_ids is None else self._memory_ids.clone()
        twin._tails = {layer: tail.clone() for layer, tail in self._tails.items()}
        return twin
