"""Which weights of a model are stored in how many bits.

Never quantised: routers, norms, biases, lane mixing (mHC), indexer weights, convolutions and position tables of a few
thousand elements. Engram rows take four bits, everything else eight.
"""

from __future__ import annotations

_KEPT = ("router", "norm", "hyper", "hc_", "indexer", "sink", "bias", "rel_pos", "newline", "separator", "seperator")


def nano_bits(name: str, shape: tuple[int, ...]) -> int | None:
    """Bits for the weight `name` of `shape`, or None to store it as it is."""
    if len(shape) < 2 or shape[-1] < 16 or _elements(shape) < 4096 or any(part in name for part in _KEPT):
        return None
    return 4 if "engram" in name and "table" in name else 8


def eight_bits(name: str, shape: tuple[int, ...]) -> int | None:
    """As `nano_bits` with eight bits for Engram rows too: what weights travel in between stages."""
    return 8 if nano_bits(name, shape) is not None else None


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
