"""Regions of one colour and how they lie on each other, each with its outline between pixels.

What is painted first reaches under what lies on it, so that no seam shows between neighbours; what lies beneath shows
through holes. Shape letters: S side in pixels, K colours, H, W pixels of a part of the picture, P points, 2 x and y.
Source: borders are followed along the sides of pixels and put where the cover crosses one half, as marching squares do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

_SURE = 0.02  # the cover of a pixel is at least so far from one half
_WAYS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # right, down, left, up: a border has its region on the right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """A region: the place of its colour, its pixels, and its closed outlines in pixels (holes among them)."""

    colour: int
    area: int
    loops: tuple[np.ndarray, ...]  # each float64 [P, 2]


def regions_of(cover_KSS: np.ndarray, ground: int, least: int) -> Iterator[Region]:
    """The regions of at least `least` pixels in the order in which they are painted, over the colour `ground`."""
    label_SS = cover_KSS.argmax(0)
    todo = [(0, 0, label_SS >= 0, ground)]
    while todo:
        top, left, mask_HW, base = todo.pop(0)
        labels_HW = label_SS[top : top + mask_HW.shape[0], left : left + mask_HW.shape[1]]
        for down, right, inner_HW in _pieces(mask_HW & (labels_HW != base), least):
            down, right = top + down, left + right
            own = label_SS[down : down + inner_HW.shape[0], right : right + inner_HW.shape[1]]
            counts = np.bincount(own[inner_HW], minlength=len(cover_KSS))
            colour = int(counts.argmax())
            loops = _loops(cover_KSS[counts > 0], down, right, inner_HW)
            yield Region(colour=colour, area=int(inner_HW.sum()), loops=tuple(loops))
            if (counts > 0).sum() > 1:
                todo.append((down, right, inner_HW, colour))


def _pieces(mask_HW: np.ndarray, least: int) -> list[tuple[int, int, np.ndarray]]:
    """Connected pieces of a mask, corners included, the largest first: where each begins, and its own mask."""
    name_HW = _named(mask_HW)
    rows, columns = np.nonzero(mask_HW)
    _, home, counts = np.unique(name_HW[rows, columns], return_inverse=True, return_counts=True)
    order = np.argsort(home, kind="stable")
    found = []
    for members in np.split(order, np.cumsum(counts)[:-1]):
        if len(members) < max(1, least):
            continue
        y, x = rows[members], columns[members]
        piece = np.zeros((y.max() - y.min() + 1, x.max() - x.min() + 1), bool)
        piece[y - y.min(), x - x.min()] = True
        found.append((int(y.min()), int(x.min()), piece))
    return sorted(found, key=lambda piece: -int(piece[2].sum()))


def _named(mask_HW: np.ndarray) -> np.ndarray:
    """Each pixel of the mask with the smallest place of its piece: neighbours are joined until nothing changes."""
    height, width = mask_HW.shape
    place_HW = np.arange(height * width).reshape(height, width)
    pairs = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        there = (slice(down, height), slice(max(0, right), width - max(0, -right)))
        both = mask_HW[here] & mask_HW[there]
        pairs.append(np.stack([place_HW[here][both], place_HW[there][both]]))
    one, other = np.concatenate(pairs, 1)
    root = np.arange(height * width)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root.reshape(height, width)
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]


def _loops(cover_NSS: np.ndarray, top: int, left: int, mask_HW: np.ndarray) -> list[np.ndarray]:
    """The closed borders of a piece, in pixels of the picture, [P, 2] each."""
    side = cover_NSS.shape[1]
    inside = np.pad(mask_HW, 1)
    rows, columns = np.arange(inside.shape[0]) + top - 1, np.arange(inside.shape[1]) + left - 1
    own = np.ix_(range(len(cover_NSS)), np.clip(rows, 0, side - 1), np.clip(columns, 0, side - 1))
    cover = cover_NSS[own].sum(0)
    cover = np.where(inside, np.maximum(cover, 0.5 + _SURE), np.minimum(cover, 0.5 - _SURE))
    beyond = ((rows < 0) | (rows >= side))[:, None] | ((columns < 0) | (columns >= side))[None]
    starts, ways, points = [], [], []
    width = inside.shape[1] + 1
    # The sides of a pixel with its corner (row, column): above it, right of it, below it, left of it.
    for way, (out, corner) in enumerate((((-1, 0), (0, 0)), ((0, 1), (0, 1)), ((1, 0), (1, 1)), ((0, -1), (1, 0)))):
        y, x = np.nonzero(inside & ~np.roll(inside, (-out[0], -out[1]), (0, 1)))
        there = (y + out[0], x + out[1])
        high, low = cover[y, x], cover[there]
        part = np.where(beyond[there], 0.5, (high - 0.5) / (high - low))
        points.append(np.stack([x + 0.5 + part * out[1] + left - 1, y + 0.5 + part * out[0] + top - 1], -1))
        starts.append((y + corner[0]) * width + x + corner[1])
        ways.append(np.full(len(y), way))
    return _linked(np.concatenate(starts), np.concatenate(ways), np.concatenate(points), width)


def _linked(start_P: np.ndarray, way_P: np.ndarray, points_P2: np.ndarray, width: int) -> list[np.ndarray]:
    """Sides of pixels, each from a corner in one of four ways, as closed rows of their points."""
    code = start_P * 4 + way_P
    order = np.argsort(code)
    known = code[order]
    end_P = start_P + _WAYS[way_P] @ (width, 1)
    after = np.full(len(code), -1)
    for turn in (-1, 0, 1):  # left first: pieces that touch at a corner belong together
        wanted = end_P * 4 + (way_P + turn) % 4
        found = np.clip(np.searchsorted(known, wanted), 0, len(known) - 1)
        after = np.where((after < 0) & (known[found] == wanted), order[found], after)
    follow, left, loops = after.tolist(), np.ones(len(code), bool), []
    for first in range(len(code)):
        if not left[first]:
            continue
        loop, now = [], first
        while left[now]:
            left[now] = False
            loop.append(now)
            now = follow[now]
        loops.append(points_P2[loop])
    return loops
