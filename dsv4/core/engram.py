"""Engram: memory of hashed n-grams, added to the residual lanes before attention.

Shape letters: B batch, T tokens, N lanes, W hidden, O orders, R rows a token, D row width, M numbers read a token.
Source: arXiv 2601.07372 and its official demonstration: one key projection a lane, one shared value, a gate from the
agreement of lane and key, then a short causal convolution that starts as zero. V4.1's form has one projection for all
keys and the value, and no convolution; order of operations as in NeMo Automodel's deepseek_v41.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.core.config import CoreConfig
from dsv4.core.frame import Frame
from dsv4.core.memory import MemoryTable
from dsv4.ops.hashing import DEAD, multipliers, ngram_rows, prime_sizes, same_segment
from dsv4.ops.linear import Linear
from dsv4.ops.norm import rms_norm
from dsv4.ops.numbers import wide


class Engram(nn.Module):
    """One layer's memory; `vocabulary` is the number of canonical ids that the hashes were made for."""

    def __init__(self, config: CoreConfig, layer: int, *, vocabulary: int) -> None:
        super().__init__()
        part = config.engram
        assert part is not None
        self.layer, self.part, self.eps = layer, part, config.norm_eps
        sizes = prime_sizes(part.layers, [part.rows] * part.orders, part.heads)
        self.primes = sizes[layer]
        self.multipliers = multipliers(layer, count=part.max_order, vocabulary=vocabulary, seed=part.seed)
        lanes, hidden = config.lanes.count, config.hidden
        self.table = MemoryTable(sum(map(sum, self.primes)), part.width)
        self.key = nn.Parameter(torch.empty(lanes, hidden, part.read))
        self.value = Linear(part.read, hidden)
        self.key_norm = nn.Parameter(torch.ones(lanes, hidden))
        self.lane_norm = nn.Parameter(torch.ones(lanes, hidden))
        self.conv_norm = nn.Parameter(torch.ones(lanes, hidden))
        self.conv = nn.Parameter(torch.zeros(part.kernel, lanes, hidden))

    def forward(self, x_BTNW: Tensor, shifts: list[Tensor], frame: Frame) -> Tensor:
        """What to add to the lanes [B, T, N, W]; `shifts` are the memory ids 0, 1, … places back."""
        gate_BTN, value_BT1W = self.look_up(x_BTNW, shifts, frame)
        gated_BTNW = gate_BTN[..., None].to(value_BT1W.dtype) * value_BT1W
        return gated_BTNW + self._convolve(gated_BTNW, shifts[0] != DEAD, frame)

    def look_up(self, x_BTNW: Tensor, shifts: list[Tensor], frame: Frame) -> tuple[Tensor, Tensor]:
        """How far every lane opens to what is found, 0 to 1 [B, T, N], and what is found, [B, T, 1, W]."""
        rows_BTR, open_BTO = ngram_rows(shifts, self.multipliers, self.primes)
        found_BTRD = fetched(self, rows_BTR, frame).to(x_BTNW.dtype)
        open_BTR = open_BTO.repeat_interleave(self.part.heads, -1)
        read_BTM = (found_BTRD * open_BTR[..., None].to(x_BTNW.dtype)).flatten(-2)
        lanes, hidden = self.conv_norm.shape
        both = F.linear(read_BTM, torch.cat((self.key.flatten(0, 1), self.value.weight)))
        key_BTNW = both[..., : lanes * hidden].unflatten(-1, (lanes, hidden))
        key_BTNW = rms_norm(key_BTNW, eps=self.eps) * self.key_norm.to(key_BTNW.dtype)
        lane_BTNW = rms_norm(x_BTNW, eps=self.eps) * self.lane_norm.to(x_BTNW.dtype)
        agree_BTN = wide(key_BTNW * lane_BTNW).sum(-1) / math.sqrt(hidden)
        gate_BTN = torch.sigmoid(torch.sign(agree_BTN) * agree_BTN.abs().clamp_min(1e-6).sqrt())
        return gate_BTN * (shifts[0] != DEAD)[..., None], both[..., None, lanes * hidden :]

    def _convolve(self, gated_BTNW: Tensor, open_BT: Tensor, frame: Frame) -> Tensor:
        """Depthwise causal convolution with steps of `max_order`, SiLU after it; closed at closed places."""
        part, T = self.part, gated_BTNW.shape[1]
        normed_BTNW = rms_norm(gated_BTNW, eps=self.eps) * self.conv_norm.to(gated_BTNW.dtype)
        back = (part.kernel - 1) * part.max_order
        if frame.cache is None:
            long = F.pad(normed_BTNW, (0, 0, 0, 0, back, 0))
        else:
            long = frame.cache.append_tail(self.layer, normed_BTNW).to(normed_BTNW.dtype)
        weights = self.conv.to(gated_BTNW.dtype)
        total_BTNW = normed_BTNW * weights[-1]
        for tap in range(part.kernel - 1):
            ago = (part.kernel - 1 - tap) * part.max_order
            piece_BTNW = long[:, back - ago : back - ago + T] * weights[tap]
            if frame.segments_BT is not None:
                piece_BTNW = piece_BTNW * same_segment(frame.segments_BT, ago)[:, :, None, None].to(piece_BTNW.dtype)
            total_BTNW = total_BTNW + piece_BTNW
        return F.silu(total_BTNW) * open_BT[:, :, None, None].to(total_BTNW.dtype)


class FusedEngram(nn.Module):
    """One layer's memory as V4.1 has it; closed places stop look-backs (`ops.hashing.blocked`) instead of n-grams."""

    def __init__(self, config: CoreConfig, layer: int, *, vocabulary: int) -> None:
        super().__init__()
        part = config.engram
        assert part is not None
        self.layer, self.part, self.eps = layer, part, config.norm_eps
        self.primes = prime_sizes(part.layers, [part.rows] * part.orders, part.heads)[layer]
        self.multipliers = multipliers(layer, count=part.max_order, vocabulary=vocabulary, seed=part.seed)
        self.lanes = config.lanes.count
        self.table = MemoryTable(sum(map(sum, self.primes)), part.width)
        self.both = Linear(part.read, config.hidden * (self.lanes + 1))  # a key for each lane, then the value
        self.key_norm = nn.Parameter(torch.ones(self.lanes, config.hidden))
        self.lane_norm = nn.Parameter(torch.ones(self.lanes, config.hidden))

    def forward(self, x_BTNW: Tensor, shifts: list[Tensor], frame: Frame) -> Tensor:
        """What to add to the lanes [B, T, N, W]; `shifts` are the memory ids 0, 1, … places back."""
        gate_BTN, value_BT1W = self.look_up(x_BTNW, shifts, frame)
        return (gate_BTN[..., None] * value_BT1W).to(x_BTNW.dtype)

    def look_up(self, x_BTNW: Tensor, shifts: list[Tensor], frame: Frame) -> tuple[Tensor, Tensor]:
        """How far every lane opens to what is found, 0 to 1 [B, T, N], and what is found, [B, T, 1, W]."""
        rows_BTR, _ = ngram_rows(shifts, self.multipliers, self.primes)
        found_BTRD = fetched(self, rows_BTR, frame).to(x_BTNW.dtype)
        both = self.both(found_BTRD.flatten(-2)).unflatten(-1, (self.lanes + 1, -1))
        key_BTNW, value_BT1W, lane_BTNW = wide(both[..., :-1, :]), wide(both[..., -1:, :]), wide(x_BTNW)
        weights_NW = wide(self.key_norm) * wide(self.lane_norm)
        scale_BTN = torch.rsqrt(lane_BTNW.square().mean(-1) + self.eps) * torch.rsqrt(
            key_BTNW.square().mean(-1) + self.eps
        )
        agree_BTN = (lane_BTNW * weights_NW * key_BTNW).sum(-1) * scale_BTN * lane_BTNW.shape[-1] ** -0.5
        gate_BTN = torch.sigmoid(torch.copysign(agree_BTN.abs().clamp_min(1e-6).sqrt(), agree_BTN))
        return gate_BTN * (shifts[0] >= 0)[..., None], value_BT1W


def prefetch(module: Engram | FusedEngram, shifts: list[Tensor], frame: Frame) -> None:
    """Begin to fetch the rows that a layer will read, where they lie elsewhere; the layer takes them from the frame."""
    if module.table.away and not torch.is_grad_enabled():
        rows_BTR, _ = ngram_rows(shifts, module.multipliers, module.primes)
        frame.coming[module.layer] = module.table.start(rows_BTR)


def fetched(module: Engram | FusedEngram, rows_BTR: Tensor, frame: Frame) -> Tensor:
    """Rows [B, T, R, D], those under way if there are any."""
    coming = frame.coming.pop(module.layer, None) if frame.coming else None
    return module.table(rows_BTR) if coming is None else module.table.arrived(coming)
