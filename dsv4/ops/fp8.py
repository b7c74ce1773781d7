"""Eight-bit floats (e4m3): reading them quickly on a CPU, and cache rows that are mostly made of them.

Shape letters: B batch, S rows, D numbers a row, Y bytes a row.
Source: the row layouts of DeepSeek's FlashMLA: 656 bytes (512 numbers, four float32 scales, 64 bfloat16 numbers) and
584 bytes (448 numbers, 64 bfloat16 numbers, seven power-of-two scales, one spare byte). Here a row's scales lie in the
row itself. Rotated numbers stay bfloat16, since errors there are errors of position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dsv4.ops import native, rows_triton
from dsv4.ops.gather import gather_rows

LARGEST = 448.0
PIECE = 2**18  # numbers that are opened at a time


def read_e4m3(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of float8_e4m3fn codes (uint8), exactly, for formats that hold them; not-a-number codes are not kept.

    The bits are moved into a float16, whose exponent counts from 8 lower: a few integer operations, where the library's
    conversion goes number by number. Compiled loops do it at once, where there are any.
    """
    lib = native.library() if codes.device.type == "cpu" and not torch.compiler.is_compiling() else None
    if lib is not None and dtype in native.E4M3_FORMS:
        found = torch.empty(codes.shape, dtype=dtype)
        native.opened_e4m3(codes.contiguous(), found, lib=lib)
        return found
    if codes.numel() > PIECE and codes.device.type == "cpu":
        return _read_pieces(codes, dtype)
    bits = codes.view(torch.int8).to(torch.int16)
    return (((bits << 7) & 0x3F80) | (bits & -32768)).view(torch.float16).to(dtype) * 256.0


def _read_pieces(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """The same in place, a piece that stays in the processor's cache at a time."""
    bits = torch.empty(codes.shape, dtype=torch.int16)
    found = bits.view(dtype) if dtype == torch.float16 else torch.empty(codes.shape, dtype=dtype)
    sign = torch.empty(PIECE, dtype=torch.int16)
    pieces = zip(codes.reshape(-1).view(torch.int8).split(PIECE), bits.view(-1).split(PIECE), strict=True)
    for (code, bit), out in zip(pieces, found.view(-1).split(PIECE), strict=True):
        torch.bitwise_and(bit.copy_(code), -32768, out=sign[: bit.numel()])
        bit.bitwise_left_shift_(7).bitwise_and_(0x3F80).bitwise_or_(sign[: bit.numel()])
        (out if dtype == torch.float16 else out.copy_(bit.view(torch.float16))).mul_(256.0)
    return found


def on_grid(x_D: Tensor, tile: int) -> Tensor:
    """`x` rounded to e4m3 codes, `tile` numbers of the last dimension sharing a scale; the gradient passes.

    Source: V4.1 rounds its entries so in training too; the scale is the least power of two that keeps codes finite.
    """
    size = x_D.shape[-1]
    tiled = F.pad(x_D.detach().float(), (0, -size % tile)).unflatten(-1, (-1, tile))
    part, exponent = torch.frexp(tiled.abs().amax(-1, keepdim=True).clamp_min(1e-4) * (1 / LARGEST))
    scale = torch.ldexp(torch.ones_like(part), exponent - (part == 0.5).to(exponent.dtype))
    codes = (tiled / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    rounded_D = (codes.float() * scale).flatten(-2)[..., :size].to(x_D.dtype)
    return x_D + (rounded_D - x_D).detach() if x_D.requires_grad else rounded_D


def e4m3(x_D: Tensor) -> tuple[Tensor, Tensor]:
    """e4m3 codes (uint8) of the last dimension and its scale [..., 1] in float32, a power of two: x is nearly
    code · scale."""
    part, exponent = torch.frexp(x_D.float().abs().amax(-1, keepdim=True).clamp_min(2.0**-100) * (1 / LARGEST))
    scale_1 = torch.ldexp(torch.ones_like(part), exponent - (part == 0.5).to(exponent.dtype))
    return (x_D.float() / scale_1).to(torch.float8_e4m3fn).view(torch.uint8), scale_1


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """How a row of `plain` numbers followed by `rotated` ones is packed; `tile` numbers share a scale.

    Scales are powers of two, as float32 where `wide_scales`, else as exponents of one byte.
    """

    plain: int
    rotated: int
    tile: int
    wide_scales: bool
    least: float = 1e-4  # of a tile's largest number over 448, below which its scale grows no finer

    @classmethod
    def latent(cls, latent: int, rotated: int) -> RowFormat:
        """Rows of latent attention: 656 bytes for 512 and 64 numbers."""
        return cls(plain=latent, rotated=rotated, tile=128, wide_scales=True)

    @classmethod
    def shared(cls, entry: int, rotated: int) -> RowFormat:
        """Rows of shared entries: 584 bytes for 512 numbers, 64 of them rotated."""
        return cls(plain=entry - rotated, rotated=rotated, tile=64, wide_scales=False)

    @property
    def tiles(self) -> int:
        """How many scales a row has."""
        return -(-self.plain // self.tile)

    @property
    def bytes(self) -> int:
        """Bytes a row, rounded up to a multiple of eight."""
        scales = self.tiles * (4 if self.wide_scales else 1)
        return -(-(self.plain + 2 * self.rotated + scales) // 8) * 8

    def pack(self, rows_BSD: Tensor) -> Tensor:
        """uint8 [B, S, Y]."""
        if rows_triton.applies(rows_BSD, self._layout, rows_BSD.dtype):
            return rows_triton.pack(rows_BSD, self._layout)
        lead = rows_BSD.shape[:-1]
        plain = F.pad(rows_BSD[..., : self.plain].float(), (0, self.tiles * self.tile - self.plain))
        tiled = plain.unflatten(-1, (self.tiles, self.tile))
        # The least power of two by which 448 is not below the largest number: 448 is 0.875 of 2 to the ninth.
        part, exponent = torch.frexp(tiled.abs().amax(-1).clamp_min(self.least * LARGEST))
        exponents = (exponent - 9 + (part > 0.875).to(exponent.dtype)).float()
        codes = (tiled * torch.exp2(-exponents)[..., None]).to(torch.float8_e4m3fn).view(torch.uint8)
        turned = rows_BSD[..., self.plain :].to(torch.bfloat16).contiguous().view(torch.uint8)
        if self.wide_scales:
            scales = torch.exp2(exponents).view(torch.uint8)
        else:
            scales = (exponents + 127).to(torch.uint8)
        packed = torch.cat((codes.flatten(-2)[..., : self.plain], turned.reshape(*lead, -1), scales), -1)
        return F.pad(packed, (0, self.bytes - packed.shape[-1]))

    def join(self, codes_RD: Tensor, scales_RS: Tensor) -> Tensor:
        """Rows of bytes [R, Y] from e4m3 codes and exponents of two as they are stored apart; ValueError for other
        shapes."""
        if codes_RD.shape[-1] != self.plain or scales_RS.shape != (codes_RD.shape[0], self.tiles):
            raise ValueError(
                f"rows of {self.plain} numbers have {self.tiles} scales each, got codes {tuple(codes_RD.shape)} and "
                f"scales {tuple(scales_RS.shape)}"
            )
        bytes_RY = torch.zeros(codes_RD.shape[0], self.bytes, dtype=torch.uint8, device=codes_RD.device)
        bytes_RY[:, : self.plain] = codes_RD.view(torch.uint8)
        bytes_RY[:, self.plain : self.plain + self.tiles] = scales_RS.view(torch.uint8)
        return bytes_RY

    def part(self, bytes_RY: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [R, D] and scales [R, S] of what `join` made."""
        codes_RD, scales_RS = bytes_RY[:, : self.plain], bytes_RY[:, self.plain : self.plain + self.tiles]
        return codes_RD.contiguous().view(torch.float8_e4m3fn), scales_RS.contiguous().view(torch.float8_e8m0fnu)

    def unpack(self, packed_BSY: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows [B, S, D] in `dtype`."""
        if rows_triton.applies(packed_BSY, self._layout, dtype):
            return rows_triton.unpack(packed_BSY, self._layout, dtype)
        turned_at = self.plain + 2 * self.rotated
        turned = packed_BSY[..., self.plain : turned_at].contiguous().view(torch.bfloat16).to(dtype)
        scale_bytes = packed_BSY[..., turned_at : turned_at + self.tiles * (4 if self.wide_scales else 1)].contiguous()
        if self.wide_scales:
            scales = scale_bytes.view(torch.float32)
        else:
            scales = torch.exp2(scale_bytes.float() - 127)
        spread = scales.to(dtype).repeat_interleave(self.tile, -1)[..., : self.plain]
        return torch.cat((read_e4m3(packed_BSY[..., : self.plain].contiguous(), dtype) * spread, turned), -1)

    def gather(self, packed_BSY: Tensor, places_BQK: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows [B, Q, K, D] at these places in `dtype`; only these are opened."""
        if rows_triton.applies(packed_BSY, self._layout, dtype):
            return rows_triton.gather(packed_BSY, places_BQK, self._layout, dtype)
        return self.unpack(gather_rows(packed_BSY, places_BQK), dtype)

    @property
    def _layout(self) -> rows_triton.Layout:
        scale = 4 if self.wide_scales else 1
        return rows_triton.Layout(self.plain, self.rotated, self.tile, scale, self.bytes, self.least)
