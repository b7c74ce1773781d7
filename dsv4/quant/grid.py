"""Symmetric integers in groups of columns, and how compressed-tensors packs them into words of 32 bits.

Shape letters: E experts or any leading axes, N rows, K columns, G groups of a row.
Source: compressed-tensors, format `pack-quantized`: codes are stored with an offset of half their range, as many to a
word as fit, the first in the lowest bits; one scale for each group of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dsv4.ops.packed import open_words

BITS = (4, 8)
SHRINKS = tuple(1 - step / 20 for step in range(10))  # how far a clip search lowers the peak of a group


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How weights are rounded: `bits` a code, `group` columns a scale, scales kept in `dtype`."""

    bits: int
    group: int
    dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"weights are packed in {' or '.join(map(str, BITS))} bits, got {self.bits}")
        if self.group < 1:
            raise ValueError(f"a group has at least one column, got {self.group}")

    @property
    def bits_a_weight(self) -> float:
        """Storage, the scales included."""
        return self.bits + 8 * self.dtype.itemsize / self.group

    def scales(self, weight_NK: Tensor) -> Tensor:
        """One scale a group, float32 but rounded to `dtype` [N, G]: the peak lies half a step beyond the last code."""
        return self._scale(self.grouped(weight_NK).abs().amax(-1))

    def grouped(self, weight_NK: Tensor) -> Tensor:
        """[N, G, columns of a group]; ValueError when groups do not divide the columns."""
        if weight_NK.shape[-1] % self.group:
            raise ValueError(f"{weight_NK.shape[-1]} columns do not divide into groups of {self.group}")
        return weight_NK.float().unflatten(-1, (-1, self.group))

    def codes(self, weight_NK: Tensor, scales_NG: Tensor) -> Tensor:
        """The nearest codes, int8 [N, K]."""
        half = 2 ** (self.bits - 1)
        steps = torch.round(self.grouped(weight_NK) / scales_NG[..., None])
        return steps.clamp(-half, half - 1).to(torch.int8).flatten(-2)

    def open(self, codes_NK: Tensor, scales_NG: Tensor) -> Tensor:
        """code · scale of its group: float32 [N, K]."""
        return (self.grouped(codes_NK) * scales_NG.float()[..., None]).flatten(-2)

    def searched(
        self, weight_NK: Tensor, hessian_GCC: Tensor | None = None, diagonal_K: Tensor | None = None
    ) -> Tensor:
        """Scales [N, G] whose clipped peak costs least, group by group.

        The cost is the output's squared error within the group under `hessian_GCC` (second moments of the group's
        inputs), or with `diagonal_K` alone under independent inputs; leading axes of these are those of the weight.
        """
        given = self.grouped(weight_NK)
        peak_NG = given.abs().amax(-1)
        best_NG, least_NG = self._scale(peak_NG), torch.full_like(peak_NG, float("inf"))
        for shrink in SHRINKS:
            scales_NG = self._scale(peak_NG * shrink)
            apart = self.open(self.codes(weight_NK, scales_NG), scales_NG).sub_(weight_NK)
            apart_NGC = apart.unflatten(-1, (-1, self.group))
            if hessian_GCC is not None:
                cost_NG = torch.einsum("...ngc,...gcd,...ngd->...ng", apart_NGC, hessian_GCC, apart_NGC)
            else:
                assert diagonal_K is not None
                cost_NG = (apart_NGC.square() * diagonal_K.unflatten(-1, (-1, self.group)).unsqueeze(-3)).sum(-1)
            better = cost_NG < least_NG
            best_NG, least_NG = torch.where(better, scales_NG, best_NG), torch.where(better, cost_NG, least_NG)
        return best_NG

    def _scale(self, peak_NG: Tensor) -> Tensor:
        scale_NG = (2 * peak_NG / (2**self.bits - 1)).to(self.dtype).float()
        return torch.where(scale_NG > 0, scale_NG, torch.ones_like(scale_NG))


def round_to(weight_NK: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Rounding to nearest: codes int8 [N, K] and scales [N, G]. The baseline that the other methods must beat."""
    scales_NG = grid.scales(weight_NK)
    return grid.codes(weight_NK, scales_NG), scales_NG


def pack_words(codes_NK: Tensor, bits: int) -> Tensor:
    """Signed codes int8 [N, K] as int32 words [N, ceil(K · bits / 32)], the first code in the lowest bits."""
    each = 32 // bits
    spare = -codes_NK.shape[-1] % each
    shifted = codes_NK.to(torch.int32) + 2 ** (bits - 1)
    if spare:
        shifted = torch.nn.functional.pad(shifted, (0, spare))
    words = torch.zeros(*shifted.shape[:-1], shifted.shape[-1] // each, dtype=torch.int32)
    for place in range(each):
        words |= shifted[..., place::each] << (bits * place)
    return words


def packed_bits(words: int, columns: int) -> int:
    """Bits a code of rows of `columns` codes in so many words; ValueError when none fits."""
    for bits in BITS:
        if words == -(-columns * bits // 32):
            return bits
    raise ValueError(f"{words} words cannot hold {columns} codes of {' or '.join(map(str, BITS))} bits")


def open_packed(words_NX: Tensor, scales_NG: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The weight of `shape` that packed codes and scales stand for, float32; ValueError when they do not agree."""
    columns = shape[-1]
    if scales_NG.shape[-1] < 1 or columns % scales_NG.shape[-1]:
        raise ValueError(f"{scales_NG.shape[-1]} scales a row do not divide {columns} columns")
    bits = packed_bits(words_NX.shape[-1], columns)
    grid = Grid(bits=bits, group=columns // scales_NG.shape[-1])
    opened = grid.open(open_words(words_NX, bits, columns), scales_NG)
    if tuple(opened.shape) != shape:
        raise ValueError(f"packed codes make {tuple(opened.shape)}, the shape beside them says {shape}")
    return opened
