"""A few tokens through their chosen experts in two Triton kernels, whose weights are read once, where they lie.

Shape letters: N tokens, K experts of each, E experts, F inner size, W hidden.
Source: the formula of routed.py (`few`). Memory decides here, so products are sums of loaded rows, without tensor
cores. Tested in Triton's interpreter and on an H200 (docs/gpu_h200.md); `DSV4_TRITON` switches it.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsv4.ops.switches import possible, taken_on

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WANTED = INTERPRETED or possible("DSV4_TRITON")
AVAILABLE = WANTED and importlib.util.find_spec("triton") is not None

if TYPE_CHECKING or AVAILABLE:
    import triton
    import triton.language as tl

ROWS, STEP = 16, 256  # rows of a matrix that a program multiplies, and numbers of each that a step brings in


def applies(x_NW: Tensor, weights: Tensor) -> bool:
    """Whether the kernels may be taken for these tensors."""
    ready = AVAILABLE and not torch.is_grad_enabled() and x_NW.dtype == weights.dtype != torch.float64
    return ready and (INTERPRETED or (taken_on(x_NW.device, "DSV4_TRITON") and weights.is_cuda))


if AVAILABLE:

    @triton.jit
    def _in_kernel(
        x, weights, places, inner, F, W, limit, K: tl.constexpr, LIMITED: tl.constexpr, RB: tl.constexpr,
        STEP: tl.constexpr,
    ):  # fmt: skip
        slot = tl.program_id(0)
        expert = tl.load(places + slot).to(tl.int64)
        f, w = tl.program_id(1) * RB + tl.arange(0, RB), tl.arange(0, STEP)
        at_gate = weights + (expert * 2 * F + f)[:, None] * W
        gate, up = tl.zeros((RB,), tl.float32), tl.zeros((RB,), tl.float32)
        for first in range(0, W, STEP):
            inside = (f < F)[:, None] & (first + w < W)[None, :]
            x_w = tl.load(x + (slot // K) * W + first + w, mask=first + w < W, other=0.0).to(tl.float32)[None, :]
            gate += tl.sum(tl.load(at_gate + first + w[None, :], mask=inside, other=0.0).to(tl.float32) * x_w, 1)
            row = tl.load(at_gate + F.to(tl.int64) * W + first + w[None, :], mask=inside, other=0.0)
            up += tl.sum(row.to(tl.float32) * x_w, 1)
        if LIMITED:
            gate = tl.minimum(gate, limit)
            up = tl.minimum(tl.maximum(up, -limit), limit)
        tl.store(inner + slot * F + f, gate / (1.0 + tl.exp(-gate)) * up, mask=f < F)

    @triton.jit
    def _out_kernel(inner, weights, places, shares, out, F, W, K: tl.constexpr, RB: tl.constexpr, STEP: tl.constexpr):
        n = tl.program_id(0)
        r, f = tl.program_id(1) * RB + tl.arange(0, RB), tl.arange(0, STEP)
        total = tl.zeros((RB,), tl.float32)
        for k in range(K):
            expert = tl.load(places + n * K + k).to(tl.int64)
            share = tl.load(shares + n * K + k).to(tl.float32)
            found = tl.zeros((RB,), tl.float32)
            for first in range(0, F, STEP):
                inside = (r < W)[:, None] & (first + f < F)[None, :]
                x_f = tl.load(inner + (n * K + k) * F + first + f, mask=first + f < F, other=0.0)[None, :]
                at = weights + (expert * W + r)[:, None] * F + first + f[None, :]
                found += tl.sum(tl.load(at, mask=inside, other=0.0).to(tl.float32) * x_f, 1)
            total += share * found
        tl.store(out + n * W + r, total, mask=r < W)


def few(
    x_NW: Tensor, in_E2FW: Tensor, out_EWF: Tensor, places_NK: Tensor, weights_NK: Tensor, limit: float | None
) -> Tensor:
    """Σ_k weight · expert(x) [N, W], sums in float32."""
    (N, K), (W, F) = places_NK.shape, out_EWF.shape[1:]
    inner = torch.empty(N * K, F, dtype=torch.float32, device=x_NW.device)
    out = torch.empty(N, W, dtype=x_NW.dtype, device=x_NW.device)
    places = places_NK.contiguous()
    _in_kernel[(N * K, triton.cdiv(F, ROWS))](
        x_NW.contiguous(), in_E2FW.contiguous(), places, inner, F, W, limit or 0.0, K, limit is not None, ROWS, STEP
    )
    _out_kernel[(N, triton.cdiv(W, ROWS))](
        inner, out_EWF.contiguous(), places, weights_NK.contiguous(), out, F, W, K, ROWS, STEP
    )
    return out
