"""Weights that stay packed in memory: products are taken from the words, a few rows of them, or opened for many.

Shape letters: M vectors, N rows (outputs), K columns (inputs), X words a row, G groups a row, S matrices of a stack.
Source: compressed-tensors, format `pack-quantized`: codes of four or eight bits with an offset of half their range, the
first in the lowest bits of a 32-bit word; one scale for each group of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.ops import native

FEW = 3  # vectors for which reading packed rows again is cheaper than opening them
BITS = (4, 8)


class PackedMatrix:
    """A weight [N, K] as it is stored; `open` is the reference that `times` is held to."""

    def __init__(self, words_NX: Tensor, scales_NG: Tensor, columns: int) -> None:
        """ValueError where words, scales and columns do not agree."""
        found = [bits for bits in BITS if words_NX.shape[-1] == -(-columns * bits // 32)]
        if words_NX.dtype != torch.int32 or not found:
            raise ValueError(f"{words_NX.shape[-1]} words cannot hold {columns} codes of 4 or 8 bits")
        groups = scales_NG.shape[-1]
        if scales_NG.shape[0] != words_NX.shape[0] or groups < 1 or columns % groups:
            raise ValueError(f"scales {tuple(scales_NG.shape)} do not fit {len(words_NX)} rows of {columns} columns")
        self.words_NX, self.scales_NG, self.bits = words_NX, scales_NG, found[0]
        self.shape, self.group = (words_NX.shape[0], columns), columns // groups
        self.nbytes = sum(one.numel() * one.element_size() for one in (words_NX, scales_NG))

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.words_NX.device

    def open(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """code · scale of its group, [N, K]."""
        rows, columns = self.shape
        lib = self._lib
        if lib is not None and dtype in native.FORMS and columns * self.bits % 32 == 0 and self.group % 2 == 0:
            made_NK = torch.empty(rows, columns, dtype=dtype)
            native.opened(self.words_NX, self.scales_NG, made_NK, bits=self.bits, lib=lib)
            return made_NK
        codes_NK = open_words(self.words_NX, self.bits, columns).float()
        spread_NGC = codes_NK.view(rows, -1, self.group) * self.scales_NG.float()[..., None]
        return spread_NGC.view(rows, columns).to(dtype)

    def times(self, x: Tensor) -> Tensor:
        """x · weightᵀ for [..., K]: [..., N] in the format of x."""
        rows, columns = self.shape
        count = x.numel() // columns
        if count > FEW or x.dtype not in native.FORMS or not self._multiplies:
            return F.linear(x, self.open(x.dtype))
        x_MK = x.reshape(count, columns).float()
        y_MN = native.times(x_MK, self.words_NX, self.scales_NG, bits=self.bits, rows=rows, group=self.group,
                            lib=self._lib)  # fmt: skip
        return y_MN.to(x.dtype).view(*x.shape[:-1], rows)

    @cached_property
    def _multiplies(self) -> bool:
        return self._lib is not None and native.takes(self.bits, *self.shape, self.group)

    def rows(self, begin: int, end: int) -> PackedMatrix:
        """Some of its rows, as a view."""
        return PackedMatrix(self.words_NX[begin:end], self.scales_NG[begin:end], self.shape[1])

    def halves(self) -> tuple[PackedMatrix, PackedMatrix]:
        """The upper and the lower half of its rows."""
        return self.rows(0, self.shape[0] // 2), self.rows(self.shape[0] // 2, self.shape[0])

    def clone(self) -> PackedMatrix:
        """A copy in memory of its own."""
        return PackedMatrix(self.words_NX.clone(), self.scales_NG.clone(), self.shape[1])

    def pin_memory(self) -> PackedMatrix:
        """A copy from which an accelerator can be fed without waiting."""
        return PackedMatrix(self.words_NX.pin_memory(), self.scales_NG.pin_memory(), self.shape[1])

    def to(self, device: torch.device | str, **options: bool) -> PackedMatrix:
        """The same elsewhere."""
        return PackedMatrix(self.words_NX.to(device, **options), self.scales_NG.to(device, **options), self.shape[1])

    @cached_property
    def _lib(self) -> Any:
        """The compiled loops, where there are any that can read this."""
        plain = self.device.type == "cpu" and self.words_NX.is_contiguous() and self.scales_NG.is_contiguous()
        return native.library() if plain and self.scales_NG.dtype in native.FORMS else None


class PackedLinear(nn.Module):
    """In the place of `Linear`, for use and not for training."""

    def __init__(self, matrix: PackedMatrix) -> None:
        super().__init__()
        self.columns = matrix.shape[1]
        self.register_buffer("words_NX", matrix.words_NX, persistent=False)
        self.register_buffer("scales_NG", matrix.scales_NG, persistent=False)

        self._made = matrix

    @property
    def matrix(self) -> PackedMatrix:
        """The weight, made anew where the buffers were moved."""
        if self._made.words_NX is not self.words_NX or self._made.scales_NG is not self.scales_NG:
            self._made = PackedMatrix(self.words_NX, self.scales_NG, self.columns)
        return self._made

    def forward(self, x: Tensor) -> Tensor:
        """x · weightᵀ."""
        return self.matrix.times(x)


class PackedStack:
    """Several packed weights in the place of one parameter [S, N, K] that is read matrix by matrix."""

    def __init__(self, matrices: Sequence[PackedMatrix]) -> None:
        self.matrices = tuple(matrices)
        self.nbytes = sum(one.nbytes for one in self.matrices)

    def unbind(self, dim: int = 0) -> tuple[PackedMatrix, ...]:
        """The matrices."""
        return self.matrices


def joined(matrices: Sequence[PackedMatrix]) -> PackedMatrix:
    """One matrix of the rows of all; ValueError where their columns or bits differ."""
    if len({(one.shape[1], one.bits) for one in matrices}) != 1:
        raise ValueError("packed weights of different columns or bits cannot be joined")
    if len(matrices) == 1:
        return matrices[0]
    words_NX, scales_NG = torch.cat([one.words_NX for one in matrices]), torch.cat([one.scales_NG for one in matrices])
    return PackedMatrix(words_NX, scales_NG, matrices[0].shape[1])


def open_words(words_NX: Tensor, bits: int, columns: int) -> Tensor:
    """Signed codes int8 [..., K] of packed words: the reference."""
    each, mask = 32 // bits, 2**bits - 1
    codes = torch.empty(*words_NX.shape[:-1], words_NX.shape[-1] * each, dtype=torch.int8, device=words_NX.device)
    for place in range(each):
        codes[..., place::each] = (((words_NX >> (bits * place)) & mask) - 2 ** (bits - 1)).to(torch.int8)
    return codes[..., :columns]
