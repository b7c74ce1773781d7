"""Four-bit floats (e2m1): rounding to them as DeepSeek-V4.1 does in its forward pass, and cache rows made of them.

Shape letters: D numbers a row, T tiles, Y bytes a row.
Source: the V4.1 report (arXiv 2609.19969) §2.3: compressed entries share an e4m3 scale in sixteen numbers, keys and
queries of the indexer a power of two in 32; order of operations as in NeMo Automodel's deepseek_v41. Magnitudes are
0, 0.5, 1, 1.5, 2, 3, 4 and 6; a number in the middle of two goes to the one with an even code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MIDDLES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
SCALES = ("e4m3", "e8m0")


def on_four_bits(x_D: Tensor, tile: int, scale: str) -> Tensor:
    """`x` rounded to e2m1 codes, `tile` numbers of the last dimension sharing a scale; the gradient passes.

    `scale` is `e4m3` (a rounded sixth of the largest number, at least 2^-9) or `e8m0` (the power of two at or above
    it). Limit cases: zeros stay; with `e8m0`, rounding twice is rounding once.
    """
    codes, scales_T = four_bits(x_D.detach(), tile, scale)
    rounded_D = (_numbers(codes, torch.float32) * scales_T[..., None]).flatten(-2)[..., : x_D.shape[-1]].to(x_D.dtype)
    return x_D + (rounded_D - x_D).detach() if x_D.requires_grad else rounded_D


def four_bits(x_D: Tensor, tile: int, scale: str) -> tuple[Tensor, Tensor]:
    """Codes 0 to 15 (uint8 [..., T, tile], the sign in bit 3) and scales [..., T] in float32."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale '{scale}', allowed: {', '.join(SCALES)}")
    tiled = F.pad(x_D.float(), (0, -x_D.shape[-1] % tile)).unflatten(-1, (-1, tile))
    largest_T = tiled.abs().amax(-1)
    if scale == "e4m3":
        scales_T = (largest_T.clamp_min(6 * 2.0**-9) / 6).to(torch.float8_e4m3fn).float()
    else:
        part, exponent = torch.frexp(largest_T.clamp_min(6 * 2.0**-126) * (1 / 6))
        scales_T = torch.ldexp(torch.ones_like(part), exponent - (part == 0.5).to(exponent.dtype))
    within = (tiled / scales_T[..., None]).clamp(-LEVELS[-1], LEVELS[-1])
    middles = torch.tensor(MIDDLES, device=x_D.device)
    size = within.abs()
    lower = torch.bucketize(size, middles)
    tied = (size == middles[lower.clamp(max=len(MIDDLES) - 1)]) & (lower % 2 == 1)
    codes = (lower + tied.to(lower.dtype)).to(torch.uint8)
    return codes | (torch.signbit(within).to(torch.uint8) << 3), scales_T


def _numbers(codes: Tensor, dtype: torch.dtype) -> Tensor:
    table = torch.tensor([*LEVELS, *(-level for level in LEVELS)], dtype=dtype, device=codes.device)
    return table[codes.int()]


@dataclass(frozen=True, kw_only=True)
class FourBitRows:
    """How a row of `size` numbers is packed: two codes a byte, the even place in the low half, then a scale a tile.

    What `unpack` gives for packed rows is what `on_four_bits` makes of them, to the bit.
    """

    size: int
    tile: int
    scale: str

    @property
    def tiles(self) -> int:
        """How many scales a row has."""
        return -(-self.size // self.tile)

    @property
    def bytes(self) -> int:
        """Bytes a row: 288 for entries of 512 numbers in tiles of 16, 68 for keys of 128 in tiles of 32."""
        return (self.size + 1) // 2 + self.tiles

    def pack(self, rows_BSD: Tensor) -> Tensor:
        """uint8 [B, S, Y]."""
        codes, scales_BST = four_bits(rows_BSD, self.tile, self.scale)
        codes = F.pad(codes.flatten(-2)[..., : self.size], (0, self.size % 2))
        stored = torch.float8_e4m3fn if self.scale == "e4m3" else torch.float8_e8m0fnu
        return torch.cat((codes[..., ::2] | (codes[..., 1::2] << 4), scales_BST.to(stored).view(torch.uint8)), -1)

    def unpack(self, packed_BSY: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows [B, S, D] in `dtype`."""
        both, scale_bytes = packed_BSY[..., : -self.tiles], packed_BSY[..., -self.tiles :].contiguous()
        codes = torch.stack((both & 15, both >> 4), -1).flatten(-2)[..., : self.size]
        stored = torch.float8_e4m3fn if self.scale == "e4m3" else torch.float8_e8m0fnu
        scales = scale_bytes.view(stored).float().repeat_interleave(self.tile, -1)[..., : self.size]
        return (_numbers(codes, torch.float32) * scales).to(dtype)
