"""Build drawings from drawings: a part is reused word for word inside a placed group, never rescaled by its numbers.

Source: SVG 2 section 8; small models learn verbatim reuse in `<g transform>`, but not rescaled coordinates.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from .drawing import Drawing, Group, Override, RootStyle, Shape, write
from .normalise import canonical_drawing
from .palette import nearest_paint

_BARE = RootStyle(fill="none")
_FRAME_WIDTH = 6
_PLACES = {
    2: (0.5, ((0, 24), (48, 24))),
    3: (0.3, ((1, 34), (34, 34), (67, 34))),
    4: (0.5, ((0, 0), (48, 0), (0, 48), (48, 48))),
}


def in_circle(svg: str) -> str:
    """Return the drawing, smaller, inside a circle of its main colour. Raises ValueError as `canonical`."""
    return _framed(svg, Shape("circle", (48, 48, 44)))


def in_square(svg: str) -> str:
    """Return the drawing, smaller, inside a rounded square of its main colour. Raises ValueError as `canonical`."""
    return _framed(svg, Shape("rect", (5, 5, 86, 86, 10)))


def beside(left: str, right: str) -> str:
    """Return two drawings side by side, each at half size. Raises ValueError as `canonical`."""
    return _placed([canonical_drawing(left), canonical_drawing(right)])


def in_row(parts: Sequence[str]) -> str:
    """Return two, three or four drawings beside each other, smaller. Raises ValueError for another number."""
    if len(parts) not in _PLACES:
        raise ValueError(f"{', '.join(map(str, _PLACES))} drawings can stand beside each other, not {len(parts)}")
    return _placed([canonical_drawing(svg) for svg in parts])


def repeated(svg: str, n: int) -> str:
    """Return the drawing 2, 3 (in a row) or 4 (two by two) times. Raises ValueError for another number."""
    if n not in _PLACES:
        raise ValueError(f"a drawing can be repeated {', '.join(map(str, _PLACES))} times, not {n}")
    return _placed([canonical_drawing(svg)] * n)


def recolour(svg: str, colour: str) -> str:
    """Return the drawing in another colour: `currentColor` is replaced or, without it, the one colour there is.

    The colour is fitted to the palette. Raises ValueError where several colours leave no single one to replace.
    """
    drawing = canonical_drawing(svg)
    used = paints(drawing)
    if "currentColor" in used:
        old = "currentColor"
    elif len(used) == 1:
        (old,) = used
    else:
        raise ValueError(
            f"the drawing has {len(used)} colours ({', '.join(used)}); recolour takes one with a single colour"
        )
    new = nearest_paint(colour)
    style = _swap(drawing.style, old, new)
    return write(Drawing(style=style, items=_swap_items(drawing.items, old, new)))


def paints(drawing: Drawing) -> dict[str, int]:
    """Count the paints of a drawing, most used first, 'none' left out."""
    counts: collections.Counter[str] = collections.Counter()

    def count(items: tuple, outer: RootStyle) -> None:
        for item in items:
            if isinstance(item, Group):
                count(item.items, item.style)
            else:
                counts.update([item.style.fill or outer.fill, item.style.stroke or outer.stroke])

    count(drawing.items, drawing.style)
    counts.pop("none", None)
    return dict(counts.most_common())


def _framed(svg: str, frame: Shape) -> str:
    drawing = canonical_drawing(svg)
    colour = next(iter(paints(drawing)), "currentColor")
    frame = dataclasses.replace(frame, style=Override(stroke=colour, width=_FRAME_WIDTH))
    return write(Drawing(style=_BARE, items=(frame, _group(drawing, 22, 22, 0.55))))


def _placed(drawings: list[Drawing]) -> str:
    scale, places = _PLACES[len(drawings)]
    groups = [_group(drawing, x, y, scale) for drawing, (x, y) in zip(drawings, places, strict=True)]
    return write(Drawing(style=_BARE, items=tuple(groups)))


def _group(drawing: Drawing, x: int, y: int, scale: float) -> Group:
    return Group(x=x, y=y, scale=scale, style=drawing.style, items=drawing.items)


def _swap(style, old: str, new: str):
    changed = {key: new for key in ("fill", "stroke") if getattr(style, key) == old}
    return dataclasses.replace(style, **changed)


def _swap_items(items: tuple, old: str, new: str) -> tuple:
    swapped = []
    for item in items:
        item = dataclasses.replace(item, style=_swap(item.style, old, new))
        if isinstance(item, Group):
            item = dataclasses.replace(item, items=_swap_items(item.items, old, new))
        swapped.append(item)
    return tuple(swapped)
