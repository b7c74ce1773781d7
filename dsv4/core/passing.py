"""What layers with shared compressed entries hand to those behind them in one forward pass.

Shape letters: B batch, T queries, K chosen entries, J blocks of a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dsv4.core.rows import Readable


class Picks(NamedTuple):
    """Places [B, T, K] in order, and which of them are real [B, T, K]."""

    places: Tensor
    real: Tensor

    def part(self, begin: int, end: int) -> Picks:
        """Those of some queries."""
        return Picks(self.places[:, begin:end], self.real[:, begin:end])

    def mask(self, size: int) -> Tensor:
        """Boolean [B, T, size]."""
        nothing = torch.zeros(*self.places.shape[:-1], size + 1, dtype=torch.bool, device=self.places.device)
        return nothing.scatter(-1, torch.where(self.real, self.places, size), True)[..., :size]

    @classmethod
    def joined(cls, parts: list[Picks]) -> Picks:
        """Those of neighbouring queries together."""
        return cls(torch.cat([one.places for one in parts], 1), torch.cat([one.real for one in parts], 1))


@dataclass(kw_only=True, eq=False)
class Shared:
    """Made empty for every pass; sources put entries and keys in, choosers what they chose.

    `picks` is None where everything that is seen is read, `blocks` where every block may be chosen from.
    """

    entries: Readable | None = None
    keys: Readable | None = None
    picks: Picks | None = None
    blocks: Picks | None = None
