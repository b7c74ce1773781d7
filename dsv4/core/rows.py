"""Rows that one layer keeps: plain or packed numbers, in order or in a ring, and what may be read of them.

Shape letters: B batch, S kept rows, T new rows, D row width, Q queries, K chosen.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from dsv4.ops.fp4 import FourBitRows
from dsv4.ops.fp8 import RowFormat
from dsv4.ops.gather import gather_rows
from dsv4.ops.select import index_scores, index_scores_fp8, index_scores_int8


class Rows:
    """Room for `size` rows of each of `batch` sequences; with a `form` they are packed into bytes."""

    def __init__(
        self,
        batch: int,
        size: int,
        width: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        form: RowFormat | FourBitRows | None = None,
    ) -> None:
        self.size, self.width, self.dtype, self.form = size, width, dtype, form
        kept = (batch, size, width) if form is None else (batch, size, form.bytes)
        self.kept_BSD = torch.zeros(kept, dtype=dtype if form is None else torch.uint8, device=device)

    def put(self, places: slice | Tensor | int, new_BTD: Tensor) -> None:
        """Keep new rows at these places."""
        self.kept_BSD[:, places] = new_BTD.to(self.dtype) if self.form is None else self.form.pack(new_BTD)

    def get(self, places: slice | Tensor) -> Tensor:
        """Rows [B, S, D] at these places."""
        found = self.kept_BSD[:, places]
        return found if self.form is None else self.form.unpack(found, self.dtype)

    def gather(self, places_BQK: Tensor) -> Tensor:
        """Rows [B, Q, K, D]; only these are unpacked."""
        if isinstance(self.form, RowFormat):
            return self.form.gather(self.kept_BSD, places_BQK, self.dtype)
        found = gather_rows(self.kept_BSD, places_BQK)
        return found if self.form is None else self.form.unpack(found, self.dtype)

    def rounded(self, new_BTD: Tensor) -> Tensor:
        """What new rows will be when they are read again."""
        return new_BTD.to(self.dtype) if self.form is None else self.form.unpack(self.form.pack(new_BTD), self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return self.kept_BSD.numel() * self.kept_BSD.element_size()

    def hold(self, start: int, stop: int) -> None:
        """Have memory for these places, of these rows' own; plain rows always have it."""

    def cut(self, count: int) -> None:
        """Only the first `count` rows are needed any more; plain rows keep the memory of all."""

    def clone(self) -> Self:
        """An independent copy."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.kept_BSD = self.kept_BSD.clone()
        return twin


class Ring(Rows):
    """Rows of which only the last `size` are kept: row p lies in slot p mod size."""

    def extend(self, new_BTD: Tensor, start: int, behind: int) -> Tensor:
        """Keep new rows from place `start` on; return the `behind` rows before them, then the new ones."""
        T, device = new_BTD.shape[1], self.kept_BSD.device
        before_BSD = self.get(torch.arange(start - behind, start, device=device) % self.size)
        last = min(T, self.size)
        self.put(torch.arange(start + T - last, start + T, device=device) % self.size, new_BTD[:, T - last :])
        return torch.cat((before_BSD, self.rounded(new_BTD)), 1)


class Readable:
    """The entries that new queries may read; places count from the start of the sequence.

    `first` is the place of the first row, or None where order is lost and nothing need be hidden: one query on a ring
    of its window sees the whole ring.
    """

    def __init__(self, held: Rows | Tensor, *, first: int | None, stop: int) -> None:
        self.held, self.first, self.stop = held, first, stop

    def read(self, low: int, high: int) -> Tensor:
        """Rows [B, S, D] of the places from `low` to before `high`."""
        low, high = low - (self.first or 0), high - (self.first or 0)
        return self.held.get(slice(low, high)) if isinstance(self.held, Rows) else self.held[:, low:high]

    def all(self) -> Tensor:
        """Every row that may be read."""
        return self.read(self.first or 0, self.stop)

    def plain(self) -> Tensor | None:
        """Everything that is held [B, S, D], where it is neither packed nor begins later than place 0."""
        if self.first != 0 or (isinstance(self.held, Rows) and self.held.form is not None):
            return None
        return self.held.kept_BSD if isinstance(self.held, Rows) else self.held

    def gather(self, places_BQK: Tensor) -> Tensor:
        """Rows [B, Q, K, D] of these places."""
        places_BQK = places_BQK - (self.first or 0)
        return self.held.gather(places_BQK) if isinstance(self.held, Rows) else gather_rows(self.held, places_BQK)


class IndexKeys:
    """Keys of an indexer, plain or as int8 or e4m3 (uint8) codes with one scale each; `scores` reads the first."""

    def __init__(self, keys_BSC: Tensor, scales_BS: Tensor | None = None) -> None:
        self.keys_BSC, self.scales_BS = keys_BSC, scales_BS

    def scores(self, q_BQIC: Tensor, weights_BQI: Tensor, stop: int) -> Tensor:
        """Scores [B, Q, S] of the lightning indexer."""
        if self.scales_BS is None:
            return index_scores(q_BQIC, weights_BQI, self.keys_BSC[:, :stop].to(q_BQIC.dtype))
        scored = index_scores_fp8 if self.keys_BSC.dtype == torch.uint8 else index_scores_int8
        return scored(q_BQIC, weights_BQI, self.keys_BSC[:, :stop], self.scales_BS[:, :stop])

    def first(self, stop: int) -> tuple[Tensor, Tensor | None]:
        """Keys [S, C] and scales [S] of the first `stop` places of the first sequence, as they lie."""
        return self.keys_BSC[0, :stop], None if self.scales_BS is None else self.scales_BS[0, :stop]
