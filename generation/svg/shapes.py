"""Coloured shapes as drawing parts, with the names and outlines that the picture judge knows.

Source: GenEval's object, colour, count and position prompts.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

from .drawing import GRID, Drawing, Override, RootStyle, Shape, write
from .normalise import fit
from .palette import SHAPE_COLOURS, nearest_paint

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
_INNER_POINT = 0.42
_ARM = 0.33


def shape(kind: str, colour: str, cx: float, cy: float, size: float) -> Shape:
    """Return one coloured shape.

    Args:
        kind: one of SHAPES.
        colour: a name in SHAPE_COLOURS (drawn as the judge's colour of that name) or any palette colour.
        cx: middle of its box, in grid units of 96.
        cy: as `cx`, downwards.
        size: side of its box in grid units, at least 4.

    Raises ValueError for an unknown kind or colour, or a size below 4.
    """
    if kind not in SHAPES:
        close = difflib.get_close_matches(kind, SHAPES, 1)
        raise ValueError(
            f"no shape {kind!r}; " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(SHAPES)}")
        )
    if size < 4:
        raise ValueError(f"a shape is at least 4 grid units wide, not {size}")
    style = Override(fill=SHAPE_COLOURS.get(colour) or nearest_paint(colour))
    left, top = round(cx - size / 2), round(cy - size / 2)
    if kind == "circle":
        return Shape("circle", (round(cx), round(cy), round(size / 2)), style)
    if kind == "square":
        return Shape("rect", (left, top, round(size), round(size), 0), style)
    points = [(left + round(x * size), top + round(y * size)) for x, y in _outline(kind)]
    return Shape("path", _polygon(points), style)


def scene(shapes: Iterable[Shape], ground: str | None = None) -> str:
    """Return canonical text of shapes in order of painting, on a ground of a colour or on nothing (white)."""
    items = list(shapes)
    if ground is not None and ground != "white":
        fill = SHAPE_COLOURS.get(ground) or nearest_paint(ground)
        items.insert(0, Shape("rect", (0, 0, GRID, GRID, 0), Override(fill=fill)))
    return write(fit(Drawing(style=RootStyle(fill="none"), items=tuple(items))))


def _outline(kind: str) -> list[tuple[float, float]]:
    """Return the corners of a shape in a box of 1 by 1."""
    if kind == "triangle":
        return [(0.5, 0), (1, 1), (0, 1)]
    if kind == "diamond":
        return [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)]
    if kind == "cross":
        a, b = _ARM, 1 - _ARM
        return [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    corners = []
    for corner in range(10):
        reach, angle = (1.0, _INNER_POINT)[corner % 2], corner * math.pi / 5 - math.pi / 2
        corners.append((math.cos(angle) * reach, math.sin(angle) * reach))
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return [((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys))) for x, y in corners]


def _polygon(points: list[tuple[int, int]]) -> tuple:
    segments: list[tuple] = [("M", *points[0])]
    for (x, y), (to_x, to_y) in zip(points, points[1:], strict=False):
        segments.append(("H", to_x) if to_y == y else ("V", to_y) if to_x == x else ("L", to_x, to_y))
    return (*segments, ("z",))
