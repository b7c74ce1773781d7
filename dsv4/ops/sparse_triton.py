"""Sparse reading as Triton kernels: entries gathered and attended to at once, and the indexer's scores of all keys.

Shape letters: N queries of all rows of a batch, S entries or keys, K chosen, H heads, D entry size, V numbers that are
value, I index heads, C index size, B rows of the batch.
Source: the formulas of attend.py (`attend_chosen`) and select.py (`index_scores`). Gathered rows are never written to
memory, and the scores of single heads neither. Tested in Triton's interpreter; not yet timed on a card, so they are
only taken where DSV4_TRITON=1 asks for them.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WANTED = INTERPRETED or (os.environ.get("DSV4_TRITON") == "1" and torch.cuda.is_available())
AVAILABLE = WANTED and importlib.util.find_spec("triton") is not None

if TYPE_CHECKING or AVAILABLE:
    import triton
    import triton.language as tl

KEYS = 64  # keys or chosen entries of one step


def applies(*tensors: Tensor) -> bool:
    """Whether the kernels may be taken for these tensors."""
    return AVAILABLE and not torch.is_grad_enabled() and (INTERPRETED or all(tensor.is_cuda for tensor in tensors))


if AVAILABLE:

    @triton.jit
    def _attend_kernel(
        q, entries, places, real, sink, out, per_row, size, K, H, scale,
        D: tl.constexpr, V: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, SINK: tl.constexpr, STEP: tl.constexpr,
    ):  # fmt: skip
        n = tl.program_id(0)
        h, d, s = tl.arange(0, HP), tl.arange(0, DP), tl.arange(0, STEP)
        inside = (h < H)[:, None] & (d < D)[None, :]
        q_hd = tl.load(q + (n * H + h)[:, None] * D + d[None, :], mask=inside, other=0.0).to(tl.float32)
        if SINK:
            top = tl.load(sink + h, mask=h < H, other=0.0).to(tl.float32)
            total = tl.full((HP,), 1.0, tl.float32)
        else:
            top = tl.full((HP,), -1e30, tl.float32)
            total = tl.zeros((HP,), tl.float32)
        kept = tl.zeros((HP, DP), tl.float32)
        row = (n // per_row).to(tl.int64) * size
        for first in range(0, K, STEP):
            k = first + s
            at = tl.load(places + n * K + k, mask=k < K, other=0).to(tl.int64)
            seen = (tl.load(real + n * K + k, mask=k < K, other=0) != 0) & (k < K)
            mask = seen[:, None] & (d < D)[None, :]
            entry = tl.load(entries + (row + at)[:, None] * D + d[None, :], mask=mask, other=0.0).to(tl.float32)
            score = tl.dot(q_hd, tl.trans(entry), input_precision="ieee") * scale
            score = tl.where(seen[None, :], score, -1e30)
            higher = tl.maximum(top, tl.max(score, 1))
            power = tl.where(seen[None, :], tl.exp(score - higher[:, None]), 0.0)
            shrink = tl.exp(top - higher)
            total = total * shrink + tl.sum(power, 1)
            kept = kept * shrink[:, None] + tl.dot(power, entry, input_precision="ieee")
            top = higher
        valued = (h < H)[:, None] & (d < V)[None, :]
        tl.store(out + (n * H + h)[:, None] * V + d[None, :], kept / total[:, None], mask=valued)

    @triton.jit
    def _scores_kernel(
        q, weights, keys, out, per_row, S, stride, heads, size,
        IP: tl.constexpr, CP: tl.constexpr, STEP: tl.constexpr,
    ):  # fmt: skip
        n = tl.program_id(0)
        i, c = tl.arange(0, IP), tl.arange(0, CP)
        s = tl.program_id(1) * STEP + tl.arange(0, STEP)
        inside = (i < heads)[:, None] & (c < size)[None, :]
        q_ic = tl.load(q + (n * heads + i)[:, None] * size + c[None, :], mask=inside, other=0.0)
        weight = tl.load(weights + n * heads + i, mask=i < heads, other=0.0).to(tl.float32)
        at = (n // per_row).to(tl.int64) * stride + s.to(tl.int64)[:, None] * size + c[None, :]
        key = tl.load(keys + at, mask=(s < S)[:, None] & (c < size)[None, :], other=0.0)
        dots = tl.dot(q_ic.to(tl.float32), tl.trans(key.to(tl.float32)), input_precision="ieee")
        tl.store(out + n.to(tl.int64) * S + s, tl.sum(tl.maximum(dots, 0.0) * weight[:, None], 0), mask=s < S)


def attend_places(
    q_BQHD: Tensor,
    entries_BSD: Tensor,
    places_BQK: Tensor,
    real_BQK: Tensor,
    sink_H: Tensor | None,
    *,
    scale: float,
    value: int | None = None,
) -> Tensor:
    """`attend.attend_chosen` over entries at these places, without a copy of them: [B, Q, H, V]."""
    B, Q, H, D = q_BQHD.shape
    V = D if value is None else value
    out = torch.empty(B, Q, H, V, dtype=q_BQHD.dtype, device=q_BQHD.device)
    _attend_kernel[(B * Q,)](
        q_BQHD.contiguous(), entries_BSD.contiguous(), places_BQK.contiguous(), real_BQK.to(torch.uint8).contiguous(),
        q_BQHD if sink_H is None else sink_H, out, Q, entries_BSD.shape[1], places_BQK.shape[-1], H, scale,
        D, V, max(16, triton.next_power_of_2(H)), triton.next_power_of_2(D), sink_H is not None, KEYS,
    )  # fmt: skip
    return out


def scores(q_BQIC: Tensor, weights_BQI: Tensor, keys_BSC: Tensor) -> Tensor:
    """Σ_i w_i · ReLU(q_i · k) [B, Q, S] in float32; rows of keys must lie one behind the other."""
    B, Q, heads, size = q_BQIC.shape
    S = keys_BSC.shape[1]
    out = torch.empty(B, Q, S, dtype=torch.float32, device=q_BQIC.device)
    keys = keys_BSC if keys_BSC.stride()[1:] == (size, 1) else keys_BSC.contiguous()
    _scores_kernel[(B * Q, triton.cdiv(S, KEYS))](
        q_BQIC.contiguous(), weights_BQI.contiguous(), keys, out, Q, S, keys.stride(0), heads, size,
        max(16, triton.next_power_of_2(heads)), max(16, triton.next_power_of_2(size)), KEYS,
    )  # fmt: skip
    return out
