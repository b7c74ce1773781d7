"""Which weights of a model are stored in how many bits.

Never quantised: routers, norms, biases, lane mixing (mHC), indexer weights and whatever has a few thousand elements.
The core takes eight bits, its Engram rows, the eyes and the head six. Measured on nano (docs/log.md): rows in four bits
lose a tenth of the drawings, in six none.
"""

from __future__ import annotations

import math

_KEPT = ("router", "norm", "hyper", "hc_", "indexer", "sink", "bias", "rel_pos", "newline", "separator", "seperator")


def row_width(shape: tuple[int, ...]) -> int:
    """Length of the rows that are cut into groups: the last axis, or all but the first for small filters."""
    width = 1
    for size in shape[-1:] if shape[-1] >= 16 else shape[1:]:
        width *= size
    return width


def nano_bits(name: str, shape: tuple[int, ...]) -> int | None:
    """Bits for the weight `name` of `shape`, or None to store it as it is."""
    if len(shape) < 2 or row_width(shape) < 16 or math.prod(shape) < 4096 or any(part in name for part in _KEPT):
        return None
    if "engram" in name and "table" in name:
        return 6
    return 8 if name.startswith("core.") else 6


def eight_bits(name: str, shape: tuple[int, ...]) -> int | None:
    """Eight bits wherever `nano_bits` quantises: what weights travel in between stages."""
    return 8 if nano_bits(name, shape) is not None else None
