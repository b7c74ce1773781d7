"""Discrete codes of a picture's features, with the codes that stand around each: what a memory of n-grams can look up.

H rows, W columns, D width, R directions (bits of a code), O places of an n-gram. Source: sign hashing by random
hyperplanes (Charikar, STOC 2002); the use of its codes as words of an n-gram memory is our own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NO_CODE = -1  # a newline or a separator: no cell of the picture
# What stands at the places of an n-gram, as (rows, columns) from the cell: itself, left, above, and on around it.
AROUND = ((0, 0), (0, -1), (-1, 0), (-1, -1), (0, 1), (1, 0), (-1, 1), (1, -1), (1, 1))


def codes_of(features_HWD: Tensor, *, bits: int, seed: int = 0) -> Tensor:
    """One whole number of `bits` bits a cell, int64 [H, W]: on which side of fixed random planes its features lie.

    The planes go through the mean of the grid, since what all cells share tells none apart. The same features give the
    same codes everywhere but where one lies within rounding of a plane. Raises ValueError for bits outside 1..24.
    """
    if not 1 <= bits <= 24:
        raise ValueError(f"a code has 1 to 24 bits, got {bits}")
    drawn_DR = np.random.default_rng(seed).standard_normal((features_HWD.shape[-1], bits), dtype=np.float32)
    features_HWD = features_HWD.float()
    centred_HWD = features_HWD - features_HWD.mean((0, 1))
    sides_HWR = centred_HWD @ torch.from_numpy(drawn_DR).to(features_HWD.device) > 0
    return (sides_HWR.long() << torch.arange(bits, device=features_HWD.device)).sum(-1)


def with_neighbours(codes_HW: Tensor, *, count: int, outside: int) -> Tensor:
    """Each cell's code and those around it in the order of AROUND, [H, W, O]; `outside` stands beyond the edges."""
    if not 1 <= count <= len(AROUND):
        raise ValueError(f"an n-gram of cells has 1 to {len(AROUND)} places, got {count}")
    rows, columns = codes_HW.shape
    framed = codes_HW.new_full((rows + 2, columns + 2), outside)
    framed[1:-1, 1:-1] = codes_HW
    cut = [framed[1 + y : 1 + y + rows, 1 + x : 1 + x + columns] for y, x in AROUND[:count]]
    return torch.stack(cut, dim=-1)


def lines_of(features_VD: Tensor, rows: int, columns: int, *, bits: int, count: int) -> Tensor:
    """Codes and neighbours of a grid that is written line by line with a newline behind each, [V, O].

    Newlines have NO_CODE; beyond the edges stands 2 ** bits.
    """
    grid_HWD = features_VD.unflatten(0, (rows, columns + 1))[:, :columns]
    around_HWO = with_neighbours(codes_of(grid_HWD, bits=bits), count=count, outside=2**bits)
    ends_H1O = around_HWO.new_full((rows, 1, count), NO_CODE)
    return torch.cat([around_HWO, ends_H1O], dim=1).flatten(0, 1)
