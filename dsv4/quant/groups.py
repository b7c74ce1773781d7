"""Symmetric group quantisation of a weight along its last axis, with bit-packed storage.

Shape letters: R rows (all leading axes flattened), C columns, G groups a row.
Source: round-to-nearest with a per-group absolute-maximum scale, the common base of AWQ (arXiv 2306.00978, section 3)
and GPTQ (arXiv 2210.17323, section 4); the clip search is the grid search of AWQ's appendix in one dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Clip factors tried for every group; below 8 bits a slightly clipped range has the smaller squared error.
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A quantised weight: bit-packed codes, half-precision scales and what is needed to open them again."""

    codes: np.ndarray  # uint8, flat
    scales_RG: np.ndarray  # float16
    shape: tuple[int, ...]
    bits: int
    group: int


def group_width(columns: int, wanted: int) -> int:
    """The largest group of at most `wanted` columns that divides `columns`."""
    for width in range(min(wanted, columns), 0, -1):
        if columns % width == 0:
            return width
    raise ValueError(f"a weight needs at least one column, got {columns}")


def quantize(weight: np.ndarray, *, bits: int = 8, group: int = 64) -> Packed:
    """Quantise float `weight` [..., C] to signed codes of `bits` (2..8) in groups of about `group` columns.

    At 8 bits the scale is the absolute maximum over 127; below, the clip factor with the least squared error is kept.
    Raises ValueError for bits outside 2..8 or values that are not finite.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2..8, got {bits}")
    if not np.isfinite(weight).all():
        raise ValueError("a weight with NaN or infinity cannot be quantised")
    width = group_width(weight.shape[-1], group)
    top = 2 ** (bits - 1) - 1
    grouped = weight.astype(np.float32).reshape(-1, width)
    peak = np.abs(grouped).max(axis=1, keepdims=True)
    best_scale = (peak / top).astype(np.float16)
    if bits < 8:
        best_error = np.full(peak.shape, np.inf, dtype=np.float32)
        for clip in _CLIPS:
            scale = (peak * clip / top).astype(np.float16)
            error = ((_codes(grouped, scale, top) * scale.astype(np.float32) - grouped) ** 2).sum(1, keepdims=True)
            better = error < best_error
            best_scale = np.where(better, scale, best_scale)
            best_error = np.where(better, error, best_error)
    codes = _codes(grouped, best_scale, top)
    scales_RG = best_scale.reshape(-1, weight.shape[-1] // width)
    return Packed(codes=_pack(codes, bits), scales_RG=scales_RG, shape=weight.shape, bits=bits, group=width)


def dequantize(packed: Packed) -> np.ndarray:
    """Open a packed weight to float32 of its first shape."""
    count = int(np.prod(packed.shape))
    codes = _unpack(packed.codes, packed.bits, count).astype(np.float32).reshape(-1, packed.group)
    return (codes * packed.scales_RG.astype(np.float32).reshape(-1, 1)).reshape(packed.shape)


def _codes(grouped: np.ndarray, scale: np.ndarray, top: int) -> np.ndarray:
    divisor = np.maximum(scale.astype(np.float32), np.finfo(np.float16).tiny)
    return np.clip(np.rint(grouped / divisor), -top, top).astype(np.int8)


def _pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Signed codes to a flat uint8 stream, `bits` bits each, most significant first."""
    unsigned = (codes.reshape(-1).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 8:
        return unsigned
    if bits == 4:
        padded = np.append(unsigned, np.zeros(unsigned.size % 2, np.uint8))
        return (padded[0::2] << 4) | padded[1::2]
    return np.packbits(np.unpackbits(unsigned[:, None], axis=1)[:, 8 - bits :].reshape(-1))


def _unpack(stream: np.ndarray, bits: int, count: int) -> np.ndarray:
    if bits == 8:
        unsigned = stream[:count]
    elif bits == 4:
        unsigned = np.stack([stream >> 4, stream & 15], axis=1).reshape(-1)[:count]
    else:
        flags = np.unpackbits(stream)[: count * bits].reshape(count, bits)
        unsigned = np.packbits(np.pad(flags, ((0, 0), (8 - bits, 0))), axis=1)[:, 0]
    return unsigned.astype(np.int16) - 2 ** (bits - 1)
