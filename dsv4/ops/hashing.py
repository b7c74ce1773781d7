"""Hashed n-grams: primes, multipliers and table rows of Engram.

Shape letters: B batch, T tokens, O orders, R rows a token = orders · heads.
Source: Engram, arXiv 2601.07372, with the constants of its official demonstration (searches for primes are shared by
all layers, orders and heads; multipliers are odd and so small that id · multiplier fits int64).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

DEAD = -1  # a memory id that opens no row and that no n-gram may contain; what lies below are ids of pictures


def is_prime(number: int) -> bool:
    """Trial division; table sizes are small enough for it."""
    if number < 4 or number % 2 == 0:
        return number in (2, 3)
    return all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))


def prime_sizes(layers: Iterable[int], sizes: Sequence[int], heads: int) -> dict[int, list[list[int]]]:
    """For each layer, one list an order of `heads` primes from sizes[order] on; no prime is used twice anywhere."""
    used: set[int] = set()
    found: dict[int, list[list[int]]] = {}
    for layer in layers:
        found[layer] = []
        for size in sizes:
            primes: list[int] = []
            number = size - 1
            while len(primes) < heads:
                number += 1
                if number not in used and is_prime(number):
                    primes.append(number)
                    used.add(number)
            found[layer].append(primes)
    return found


def multipliers(layer: int, *, count: int, vocabulary: int, seed: int = 0) -> list[int]:
    """`count` odd numbers of a layer; `vocabulary` is the number of canonical ids."""
    bound = max(1, (2**63 - 1) // vocabulary // 2)
    drawn = np.random.default_rng(seed + 10007 * layer).integers(0, bound, size=count, dtype=np.int64)
    return [int(value) * 2 + 1 for value in drawn]


def shifted(
    ids_BT: Tensor, orders: int, *, pad: int, before_BL: Tensor | None, segments_BT: Tensor | None
) -> list[Tensor]:
    """ids 0, 1, …, orders - 1 places back, each [B, T]; before the start of row or document stands `pad`.

    `before_BL` holds the orders - 1 ids before this piece of the sequence where there are any.
    """
    T = ids_BT.shape[1]
    if before_BL is None:
        before_BL = ids_BT.new_full((ids_BT.shape[0], orders - 1), pad)
    long_BT = torch.cat((before_BL, ids_BT), 1)
    found = [ids_BT]
    for back in range(1, orders):
        back_BT = long_BT[:, orders - 1 - back : orders - 1 - back + T]
        if segments_BT is not None:
            same_BT = same_segment(segments_BT, back)
            back_BT = torch.where(same_BT, back_BT, pad)
        found.append(back_BT)
    return found


def blocked(shifts: list[Tensor], pad: int) -> list[Tensor]:
    """Look-backs as V4.1 reads them: from the first DEAD id on, that one and all before it are `pad`.

    The place itself keeps its DEAD id, which closes its gate.
    """
    found, dead_BT = [shifts[0]], shifts[0] == DEAD
    for ids_BT in shifts[1:]:
        dead_BT = dead_BT | (ids_BT == DEAD)
        found.append(ids_BT.masked_fill(dead_BT, pad))
    return found


def same_segment(segments_BT: Tensor, back: int) -> Tensor:
    """Whether the place `back` before is in the row and of the same document: boolean [B, T]."""
    T = segments_BT.shape[1]
    places_T = torch.arange(T, device=segments_BT.device)
    earlier_BT = segments_BT[:, (places_T - back).clamp_min(0)]
    return (earlier_BT == segments_BT) & (places_T >= back)


def ngram_rows(
    shifts: list[Tensor], multiplier: Sequence[int], primes: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Row of each (order, head) in the concatenated table [B, T, R], and which orders are open [B, T, O].

    An n-gram is open when it holds no DEAD id; the rows of closed ones are valid indices without meaning.
    """
    dead = [ids_BT == DEAD for ids_BT in shifts]
    clean = [ids_BT.masked_fill(dead_BT, 0) for ids_BT, dead_BT in zip(shifts, dead, strict=True)]
    mix_BT, closed_BT = clean[0] * multiplier[0], dead[0]
    rows: list[Tensor] = []
    opened: list[Tensor] = []
    offset = 0
    for order, sizes in enumerate(primes, start=1):
        mix_BT = mix_BT ^ (clean[order] * multiplier[order])
        closed_BT = closed_BT | dead[order]
        opened.append(~closed_BT)
        for size in sizes:
            rows.append(mix_BT % size + offset)
            offset += size
    return torch.stack(rows, -1), torch.stack(opened, -1)
