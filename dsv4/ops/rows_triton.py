"""Rows in FP8 packed, opened, and gathered and opened, each in one Triton kernel: the bytes of fp8.py, moved once.

Shape letters: B rows of the batch, S kept rows, R rows, Q queries, K chosen, D numbers a row, Y bytes a row.
Source: the layouts of fp8.py (`RowFormat`), the reference bit by bit. Codes are rounded by their bits, to nearest and
of two as near to the even one, so that it does not matter what a card knows of eight-bit floats. Tested in the
interpreter and on an H200 (docs/gpu_h200.md); `DSV4_TRITON` switches it.
"""

from __future__ import annotations

import importlib.util
import math
import os
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dsv4.ops.switches import possible, taken_on

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WANTED = INTERPRETED or possible("DSV4_TRITON")
AVAILABLE = WANTED and importlib.util.find_spec("triton") is not None

if TYPE_CHECKING or AVAILABLE:
    import triton
    import triton.language as tl

ROWS = 4  # that a program takes


class Layout(NamedTuple):
    """Numbers of a `RowFormat`: plain and rotated ones, how many share a scale, bytes of a scale and of a row, and the
    least scale."""

    plain: int
    rotated: int
    tile: int
    scale: int
    bytes: int
    least: float


def applies(given: Tensor, layout: Layout, dtype: torch.dtype) -> bool:
    """Whether the kernels may be taken: whole tiles of a power of two, and numbers that hold every code exactly."""
    if not AVAILABLE or dtype not in (torch.bfloat16, torch.float32):
        return False
    if not (INTERPRETED or taken_on(given.device, "DSV4_TRITON")):
        return False
    plain, rotated, tile, scale, size, _ = layout
    return plain % 4 == size % 4 == (2 * rotated) % 4 == tile & (tile - 1) == 0 and scale in (1, 4)


if AVAILABLE:

    @triton.jit
    def _pack_kernel(
        rows, codes, halves, words, R, D, Y, PLAIN: tl.constexpr, ROTATED: tl.constexpr, TILES: tl.constexpr,
        TP: tl.constexpr, TILE: tl.constexpr, SCALE: tl.constexpr, RP: tl.constexpr, SPARE: tl.constexpr,
        SP: tl.constexpr, RB: tl.constexpr, LEAST: tl.constexpr,
    ):  # fmt: skip
        r = tl.program_id(0).to(tl.int64) * RB + tl.arange(0, RB)
        i, j = tl.arange(0, TP), tl.arange(0, TILE)
        column = i[None, :, None] * TILE + j[None, None, :]
        inside = (r < R)[:, None, None] & (column < PLAIN)
        x = tl.load(rows + r[:, None, None] * D + column, mask=inside, other=0.0).to(tl.float32)
        # The least power of two by which 448, which is 1.75 of 2 to the eighth, is not below the largest of a tile.
        top = tl.max(tl.abs(x), 2).to(tl.int32, bitcast=True)
        exponent = tl.maximum((top >> 23) - 8 + tl.where((top & 0x7FFFFF) > 0x600000, 1, 0), LEAST)
        x = x * ((254 - exponent) << 23).to(tl.float32, bitcast=True)[:, :, None]
        bits = x.to(tl.int32, bitcast=True)
        size = bits & 0x7FFFFFFF
        normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - 960
        small = (size.to(tl.float32, bitcast=True) + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
        code = tl.where(size < 0x3C800000, small, normal) | ((bits >> 24) & 0x80)
        tl.store(codes + r[:, None, None] * Y + column, code.to(tl.uint8), mask=inside)
        real = (r < R)[:, None] & (i < TILES)[None, :]
        first = PLAIN + 2 * ROTATED
        if SCALE == 4:
            tl.store(words + r[:, None] * (Y // 4) + first // 4 + i[None, :], exponent << 23, mask=real)
        else:
            tl.store(codes + r[:, None] * Y + first + i[None, :], exponent.to(tl.uint8), mask=real)
        if ROTATED > 0:
            p = tl.arange(0, RP)
            turned = (r < R)[:, None] & (p < ROTATED)[None, :]
            kept = tl.load(rows + r[:, None] * D + PLAIN + p[None, :], mask=turned, other=0.0).to(tl.float32)
            bits = kept.to(tl.int32, bitcast=True)
            bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # bfloat16, as the interpreter does not round to it
            tl.store(halves + r[:, None] * (Y // 2) + PLAIN // 2 + p[None, :], bits.to(tl.int16), mask=turned)
        if SPARE > 0:
            s = tl.arange(0, SP)
            last = (r < R)[:, None] & (s < SPARE)[None, :]
            tl.store(codes + r[:, None] * Y + (Y - SPARE) + s[None, :], tl.zeros((RB, SP), tl.uint8), mask=last)

    @triton.jit
    def _open_kernel(
        codes, halves, words, places, out, R, each, stride, D, Y, GATHERS: tl.constexpr, PLAIN: tl.constexpr,
        ROTATED: tl.constexpr, TILES: tl.constexpr, TP: tl.constexpr, TILE: tl.constexpr, SCALE: tl.constexpr,
        RP: tl.constexpr, RB: tl.constexpr,
    ):  # fmt: skip
        r = tl.program_id(0).to(tl.int64) * RB + tl.arange(0, RB)
        i, j = tl.arange(0, TP), tl.arange(0, TILE)
        at = (r // each) * stride  # in bytes, then of the row
        if GATHERS:
            at += tl.load(places + r, mask=r < R, other=0) * Y
        else:
            at += (r % each) * Y
        column = i[None, :, None] * TILE + j[None, None, :]
        inside = (r < R)[:, None, None] & (column < PLAIN)
        code = tl.load(codes + at[:, None, None] + column, mask=inside, other=0).to(tl.int32)
        size = code & 0x7F
        normal = ((size << 20) + 0x3C000000).to(tl.float32, bitcast=True)
        found = tl.where(size < 8, size.to(tl.float32) * 0.001953125, normal)
        found = tl.where(code >= 128, -found, found)
        real = (r < R)[:, None] & (i < TILES)[None, :]
        first = PLAIN + 2 * ROTATED
        if SCALE == 4:
            scale = tl.load(words + at[:, None] // 4 + first // 4 + i[None, :], mask=real, other=0)
        else:
            scale = tl.load(codes + at[:, None] + first + i[None, :], mask=real, other=0).to(tl.int32) << 23
        found *= scale.to(tl.float32, bitcast=True)[:, :, None]
        tl.store(out + r[:, None, None] * D + column, found, mask=inside)
        if ROTATED > 0:
            p = tl.arange(0, RP)
            turned = (r < R)[:, None] & (p < ROTATED)[None, :]
            kept = tl.load(halves + at[:, None] // 2 + PLAIN // 2 + p[None, :], mask=turned, other=0.0)
            tl.store(out + r[:, None] * D + PLAIN + p[None, :], kept, mask=turned)


def _shape(layout: Layout) -> tuple[int, int, int, int, int, int, int]:
    plain, rotated, tile, scale, _, _ = layout
    tiles = -(-plain // tile)
    return plain, rotated, tiles, triton.next_power_of_2(tiles), tile, scale, triton.next_power_of_2(max(1, rotated))


def pack(rows_BSD: Tensor, layout: Layout) -> Tensor:
    """`RowFormat.pack`: uint8 [B, S, Y]."""
    flat = rows_BSD.reshape(-1, rows_BSD.shape[-1]).contiguous()
    out = torch.empty(*rows_BSD.shape[:-1], layout.bytes, dtype=torch.uint8, device=flat.device)
    plain, rotated, tiles, *rest = _shape(layout)
    spare = layout.bytes - plain - 2 * rotated - tiles * layout.scale
    if flat.shape[0]:
        words = out if layout.scale != 4 else out.view(torch.int32)
        _pack_kernel[(triton.cdiv(flat.shape[0], ROWS),)](
            flat, out, out.view(torch.int16), words, flat.shape[0], flat.shape[1], layout.bytes, plain, rotated,
            tiles, *rest, spare, triton.next_power_of_2(max(1, spare)), ROWS,
            math.ceil(math.log2(layout.least)) + 127,
        )  # fmt: skip
    return out


def unpack(packed_BSY: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
    """`RowFormat.unpack` of rows that may be a slice of more: [B, S, D]."""
    lead, packed_BSY = packed_BSY.shape[:-1], packed_BSY.reshape(-1, *packed_BSY.shape[-2:])
    return _opened(packed_BSY, None, layout, dtype, packed_BSY.shape[1]).view(*lead, -1)


def gather(packed_BSY: Tensor, places_BQK: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
    """Rows at these places, opened: [B, Q, K, D]."""
    found = _opened(packed_BSY, places_BQK.contiguous(), layout, dtype, places_BQK[0].numel())
    return found.view(*places_BQK.shape, -1)


def _opened(packed_BSY: Tensor, places: Tensor | None, layout: Layout, dtype: torch.dtype, each: int) -> Tensor:
    whole = packed_BSY.stride()[1:] == (layout.bytes, 1) and packed_BSY.stride(0) % layout.bytes == 0
    kept = packed_BSY if whole and packed_BSY.storage_offset() % 4 == 0 else packed_BSY.contiguous()
    count, size = kept.shape[0] * each, layout.plain + layout.rotated
    out = torch.empty(count, size, dtype=dtype, device=kept.device)
    if count:
        words = kept if layout.scale != 4 else kept.view(torch.int32)
        _open_kernel[(triton.cdiv(count, ROWS),)](
            kept, kept.view(torch.bfloat16), words, kept if places is None else places, out, count, each,
            kept.stride(0), size, layout.bytes, places is not None, *_shape(layout), ROWS,
        )  # fmt: skip
    return out
