"""Sinkhorn as one Triton kernel forward and one backward, a compiler-opaque operator on CUDA.

Shape letters: M matrices, N lanes, S normalisation steps = 2 · iterations - 1 (even: columns, odd: rows).
Source: the formula of sinkhorn.py; backward of y = c / (Σc + eps) is (g - Σ g·y) / (Σc + eps).
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

# Only used on CUDA (or in Triton's interpreter, for tests), and slow to import.
WANTED = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
AVAILABLE = WANTED and importlib.util.find_spec("triton") is not None

if TYPE_CHECKING or AVAILABLE:
    import triton
    import triton.language as tl

BLOCK = 128


if AVAILABLE:

    @triton.jit
    def _forward_kernel(x, y, matrices, N: tl.constexpr, STEPS: tl.constexpr, EPS: tl.constexpr, SIZE: tl.constexpr):
        m = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
        i, j = tl.arange(0, N), tl.arange(0, N)
        at = m[:, None, None] * (N * N) + i[None, :, None] * N + j[None, None, :]
        inside = (m < matrices)[:, None, None] & (i[None, :, None] < N) & (j[None, None, :] < N)
        c = tl.load(x + at, mask=inside, other=0.0)
        c = tl.exp(c - tl.max(c, 2, keep_dims=True))
        c = c / tl.sum(c, 2, keep_dims=True) + EPS
        c = c / (tl.sum(c, 1, keep_dims=True) + EPS)
        for _ in range(STEPS // 2):
            c = c / (tl.sum(c, 2, keep_dims=True) + EPS)
            c = c / (tl.sum(c, 1, keep_dims=True) + EPS)
        tl.store(y + at, c, mask=inside)

    @triton.jit
    def _backward_kernel(
        x, g, dx, kept, matrices, N: tl.constexpr, STEPS: tl.constexpr, EPS: tl.constexpr, SIZE: tl.constexpr
    ):
        m = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
        i, j = tl.arange(0, N), tl.arange(0, N)
        at = m[:, None, None] * (N * N) + i[None, :, None] * N + j[None, None, :]
        inside = (m < matrices)[:, None, None] & (i[None, :, None] < N) & (j[None, None, :] < N)
        c = tl.load(x + at, mask=inside, other=0.0)
        c = tl.exp(c - tl.max(c, 2, keep_dims=True))
        soft = c / tl.sum(c, 2, keep_dims=True)
        c = soft + EPS
        stride = matrices.to(tl.int64) * (N * N)
        c = c / (tl.sum(c, 1, keep_dims=True) + EPS)
        for s in range(STEPS // 2):
            tl.store(kept + (2 * s) * stride + at, c, mask=inside)
            c = c / (tl.sum(c, 2, keep_dims=True) + EPS)
            tl.store(kept + (2 * s + 1) * stride + at, c, mask=inside)
            c = c / (tl.sum(c, 1, keep_dims=True) + EPS)
        grad = tl.load(g + at, mask=inside, other=0.0)
        for r in range(STEPS // 2):
            s = STEPS // 2 - 1 - r
            c = tl.load(kept + (2 * s + 1) * stride + at, mask=inside, other=1.0)
            total = tl.sum(c, 1, keep_dims=True) + EPS
            grad = (grad - tl.sum(grad * c / total, 1, keep_dims=True)) / total
            c = tl.load(kept + (2 * s) * stride + at, mask=inside, other=1.0)
            total = tl.sum(c, 2, keep_dims=True) + EPS
            grad = (grad - tl.sum(grad * c / total, 2, keep_dims=True)) / total
        c = soft + EPS
        total = tl.sum(c, 1, keep_dims=True) + EPS
        grad = (grad - tl.sum(grad * c / total, 1, keep_dims=True)) / total
        grad = soft * (grad - tl.sum(soft * grad, 2, keep_dims=True))
        tl.store(dx + at, grad, mask=inside)


@torch.library.custom_op("dsv4::sinkhorn", mutates_args=())
def sinkhorn(logits_MNN: Tensor, iterations: int, eps: float) -> Tensor:
    """`sinkhorn.reference` for CUDA float32 [..., N, N]."""
    x = logits_MNN.contiguous()
    out = torch.empty_like(x)
    lanes = x.shape[-1]
    count = x.numel() // (lanes * lanes)
    _forward_kernel[(triton.cdiv(count, BLOCK),)](x, out, count, lanes, 2 * iterations - 1, eps, BLOCK)
    return out


@sinkhorn.register_fake
def _(logits_MNN: Tensor, iterations: int, eps: float) -> Tensor:
    return torch.empty_like(logits_MNN, memory_format=torch.contiguous_format)


@torch.library.custom_op("dsv4::sinkhorn_backward", mutates_args=())
def sinkhorn_backward(logits_MNN: Tensor, grad_MNN: Tensor, iterations: int, eps: float) -> Tensor:
    """Gradient with respect to the logits; the steps are computed again rather than kept from the forward pass."""
    x, g = logits_MNN.contiguous(), grad_MNN.contiguous()
    out = torch.empty_like(x)
    lanes = x.shape[-1]
    count = x.numel() // (lanes * lanes)
    kept = torch.empty(2 * iterations * x.numel(), device=x.device, dtype=x.dtype)
    _backward_kernel[(triton.cdiv(count, BLOCK),)](x, g, out, kept, count, lanes, 2 * iterations - 1, eps, BLOCK)
    return out


@sinkhorn_backward.register_fake
def _(logits_MNN: Tensor, grad_MNN: Tensor, iterations: int, eps: float) -> Tensor:
    return torch.empty_like(logits_MNN, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output) -> None:  # noqa: ANN001 - signature given by torch.library
    ctx.save_for_backward(inputs[0])
    ctx.iterations, ctx.eps = inputs[1], inputs[2]


def _gradient(ctx, grad_MNN):  # noqa: ANN001, ANN202 - signature given by torch.library
    (logits_MNN,) = ctx.saved_tensors
    return sinkhorn_backward(logits_MNN, grad_MNN, ctx.iterations, ctx.eps), None, None


sinkhorn.register_autograd(_gradient, setup_context=_save)
