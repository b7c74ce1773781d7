"""Products with a weight matrix, and a quicker way for one row of bfloat16 on a CPU.

Shape letters: N leading dimensions, I numbers in, O numbers out; B batch, M rows, K inner, N columns.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.ops import native
from dsv4.ops.packed import PackedMatrix

MANY = 2**16  # float32 weights from which on the loops are quicker; smaller ones lie in the processor's cache


def linear(x_NI: Tensor, weight_OI: Tensor | PackedMatrix) -> Tensor:
    """x · weightᵀ: [N, O]. One row on a CPU goes through the compiled loops, where there are any."""
    if isinstance(weight_OI, PackedMatrix):
        return weight_OI.times(x_NI)
    bits = native.ROW_BITS.get(weight_OI.dtype)
    if (
        bits is not None
        and x_NI.dtype == weight_OI.dtype
        and x_NI.numel() == x_NI.shape[-1]
        and x_NI.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    ):
        rows, columns = weight_OI.shape
        lib = native.wide_library() if bits == 16 or rows * columns >= MANY else None
        if lib is not None and native.takes(bits, rows, columns, columns) and weight_OI.is_contiguous():
            x_1I = x_NI.reshape(1, columns).float()
            made_1O = native.times(x_1I, weight_OI, None, bits=bits, rows=rows, group=columns, lib=lib)
            return made_1O.to(x_NI.dtype).view(*x_NI.shape[:-1], rows)
        if bits == 16 and not _has_bfloat16():
            return torch.mv(weight_OI, x_NI.reshape(-1)).view(*x_NI.shape[:-1], -1)
    return F.linear(x_NI, weight_OI)


@cache
def _has_bfloat16() -> bool:
    """Whether the library multiplies bfloat16 by the processor's own instructions: they beat its loop for one row."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def batched(a_BMK: Tensor, b_BKN: Tensor) -> Tensor:
    """a · b for each of B: [B, M, N]. A single bfloat16 pair on a CPU is multiplied as two plain matrices.

    A slice of a cache is not what the library's batched kernels take; they fall back to one that is ten times slower.
    """
    if a_BMK.shape[0] == 1 and a_BMK.dtype == torch.bfloat16 and a_BMK.device.type == "cpu":
        return torch.mm(a_BMK[0], b_BKN[0])[None]
    return torch.bmm(a_BMK, b_BKN)


class Linear(nn.Linear):
    """`linear` with a learned weight [O, I] and no bias."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__(size_in, size_out, bias=False)

    def forward(self, x_NI: Tensor) -> Tensor:
        return linear(x_NI, self.weight)
