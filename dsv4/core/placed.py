"""Experts that do not lie where the rest of the model does: in host memory with a hot cache, or mapped from files.

Only the chosen experts of a token are touched, and they are computed where they lie. Shape letters: B batch, T tokens,
N tokens in a row, W hidden, E experts, F inner size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dsv4.core.moe import Experts, gated
from dsv4.ops.linear import linear
from dsv4.ops.packed import PackedMatrix

Matrix = Tensor | PackedMatrix
Matrices = tuple[Matrix, Matrix, Matrix]  # gate [F, W], up [F, W], down [W, F]


@dataclass(kw_only=True)
class PlaceMeter:
    """What placed experts have cost so far; a hit is one that was where it is fastest already."""

    used: int = 0
    hits: int = 0
    bytes_used: int = 0
    bytes_fetched: int = 0
    waited: float = 0.0  # seconds

    @property
    def hit_rate(self) -> float:
        """Share of uses that fetched nothing."""
        return self.hits / max(1, self.used)


class ExpertStore(Protocol):
    """One layer's experts wherever they are."""

    meter: PlaceMeter

    def want(self, experts: Sequence[int]) -> None:
        """These will be asked for next, in this order: begin to fetch what is not here."""
        ...

    def get(self, expert: int) -> Matrices:
        """The three matrices, ready to multiply with."""
        ...


class PlacedExperts(nn.Module):
    """In the place of `Experts`: router and shared expert as they were, routed ones from a store."""

    def __init__(self, experts: Experts, store: ExpertStore) -> None:
        super().__init__()
        self.limit, self.router = experts.limit, experts.router
        self.shared_in, self.shared_out = experts.shared_in, experts.shared_out
        self.count, self.store = experts.experts_out.shape[0], store

    def forward(self, x_BTW: Tensor, token_ids_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What `Experts` gives: output [B, T, W], loads [E] and the balance loss."""
        weights_BTE, chosen_BTE, shares_BTE = self.router(x_BTW, token_ids_BT)
        wanted = chosen_BTE.flatten(0, 1).any(0).nonzero()[:, 0].tolist()
        self.store.want(wanted)  # files are read while the shared expert computes
        gate, up = self.shared_in(x_BTW).chunk(2, -1)
        out_NW = self.shared_out(gated(gate, up, self.limit)).flatten(0, 1)
        x_NW, weights_NE, chosen_NE = x_BTW.flatten(0, 1), weights_BTE.flatten(0, 1), chosen_BTE.flatten(0, 1)
        if len(x_NW) == 1:
            out_NW = self._one(x_NW, weights_NE[0].tolist(), wanted, out_NW)
        else:
            for expert in wanted:
                rows = chosen_NE[:, expert].nonzero()[:, 0]
                part_RW = self._unit(x_NW if len(rows) == len(x_NW) else x_NW[rows], expert)
                out_NW = out_NW.index_add(0, rows, part_RW * weights_NE[rows, expert, None].to(part_RW.dtype))
        load_BE = chosen_BTE.to(shares_BTE.dtype).sum(1)
        often_BE = load_BE * (self.count / (x_BTW.shape[1] * self.router.chosen))
        return out_NW.view_as(x_BTW), load_BE.sum(0), (often_BE * shares_BTE.mean(1)).sum(-1).mean()

    def _one(self, x_1W: Tensor, weights: list[float], wanted: Sequence[int], out_1W: Tensor) -> Tensor:
        """The same for a single token, whose experts need no sorting."""
        for expert in wanted:
            out_1W = torch.add(out_1W, self._unit(x_1W, expert), alpha=weights[expert])
        return out_1W

    def _unit(self, x_RW: Tensor, expert: int) -> Tensor:
        gate_FW, up_FW, down_WF = self.store.get(expert)
        return linear(gated(linear(x_RW, gate_FW), linear(x_RW, up_FW), self.limit), down_WF)


class HereStore:
    """Experts that lie where they are computed, packed."""

    def __init__(self, experts: Sequence[Matrices]) -> None:
        self.experts, self.meter = experts, PlaceMeter()

    def want(self, experts: Sequence[int]) -> None:
        """Nothing to fetch."""

    def get(self, expert: int) -> Matrices:
        """The three matrices."""
        return self.experts[expert]


class HostStore:
    """Experts in host memory, the lately used ones also on the device, within a budget that layers may share."""

    def __init__(self, layer: int, experts: Sequence[Matrices], device: torch.device, hot: HotCache) -> None:
        pin = device.type not in ("cpu", "mps")  # mps computes in the machine's own memory
        self.experts = [tuple(one.pin_memory() if pin else one for one in three) for three in experts]
        self.layer, self.device, self.hot, self.meter = layer, device, hot, hot.meter

    def want(self, experts: Sequence[int]) -> None:
        """Begin to copy what the device lacks."""
        for expert in experts:
            self.hot.fetch((self.layer, expert), lambda expert=expert: self._copied(expert))

    def get(self, expert: int) -> Matrices:
        """The matrices on the device."""
        return self.hot.take((self.layer, expert), lambda: self._copied(expert))

    def _copied(self, expert: int) -> Matrices:
        gate, up, down = (one.to(self.device, non_blocking=True, copy=True) for one in self.experts[expert])
        return gate, up, down


class HotCache:
    """Copies of experts on the device, the longest unused out first; `room` bytes for all layers together."""

    def __init__(self, room: int) -> None:
        self.room, self.held, self.meter = room, 0, PlaceMeter()
        self._here: OrderedDict[tuple[int, int], Matrices] = OrderedDict()

    def fetch(self, key: tuple[int, int], copy: Callable[[], Matrices]) -> None:
        """Have it here before it is asked for, if it can be kept at all."""
        self.meter.used += 1
        if key in self._here:
            self.meter.hits += 1
            self._here.move_to_end(key)
            return
        made = copy()
        size = nbytes(made)
        self.meter.bytes_fetched += size
        self._here[key] = made
        self.held += size
        while self.held > self.room and len(self._here) > 1:
            self.held -= nbytes(self._here.popitem(last=False)[1])

    def take(self, key: tuple[int, int], copy: Callable[[], Matrices]) -> Matrices:
        """The copy on the device; made again if others of its layer pushed it out."""
        made = self._here.get(key)
        if made is None:
            made = copy()
            self.meter.bytes_fetched += nbytes(made)
        self.meter.bytes_used += nbytes(made)
        return made


def nbytes(matrices: Matrices) -> int:
    """Bytes of the three."""
    return sum(one.nbytes for one in matrices)
