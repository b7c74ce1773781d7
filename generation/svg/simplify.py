"""Shorten a drawing that has more tokens than a model may write, by leaving out its smallest steps.

Source: the distance criterion of radial line simplification, applied to whole path segments.
"""

from __future__ import annotations

import dataclasses
import math

from .drawing import Group, Shape, write
from .normalise import canonical_drawing, fit_path
from .tokens import vocabulary

_REACHES = (1.0, 1.5, 2.3, 3.2, 4.3, 5.4)


def shortened(svg: str, max_tokens: int) -> str:
    """Return the canonical drawing with at most `max_tokens` tokens.

    One that fits is returned as `canonical` has it. Else path segments shorter than 1, then 1.5, 2.3, 3.2, 4.3 or 5.4
    grid units are joined to the next one until it fits. Raises ValueError where even that is too long.
    """
    drawing = canonical_drawing(svg)
    full = count = len(vocabulary().encode_drawing(drawing))
    for reach in _REACHES:
        if count <= max_tokens:
            return write(drawing)
        drawing = dataclasses.replace(drawing, items=_thin_items(drawing.items, reach))
        count = len(vocabulary().encode_drawing(drawing))
    if count > max_tokens:
        raise ValueError(
            f"the drawing has {full} tokens and cannot be shortened to {max_tokens} without losing its form"
        )
    return write(drawing)


def _thin_items(items: tuple, reach: float) -> tuple:
    thinned: list[Shape | Group] = []
    for item in items:
        if isinstance(item, Group):
            thinned.append(dataclasses.replace(item, items=_thin_items(item.items, reach)))
        elif item.kind == "path":
            segments = thin(item.data, reach)
            # A path that was nothing but small steps stays as it was: it may be an eye.
            thinned.append(dataclasses.replace(item, data=segments if len(segments) > 2 else item.data))
        else:
            thinned.append(item)
    return tuple(thinned)


def thin(segments: tuple, reach: float) -> tuple:
    """Leave out segments that end within `reach` of where the last kept one ended; later ones start there instead."""
    kept: list[tuple] = []
    x = y = at_x = at_y = 0
    start = (0, 0)
    for place, segment in enumerate(segments):
        letter, *numbers = segment
        if letter == "z":
            kept.append(segment)
            x, y = at_x, at_y = start
            continue
        x = numbers[-2] if len(numbers) > 1 else numbers[0] if letter == "H" else x
        y = numbers[-1] if letter != "H" else y
        last = place + 1 == len(segments) or segments[place + 1][0] == "M"
        if letter != "M" and not last and math.hypot(x - at_x, y - at_y) <= reach:
            continue
        if letter in "HVL":
            kept.append(("H", x) if y == at_y else ("V", y) if x == at_x else ("L", x, y))
        else:
            kept.append(segment)
        at_x, at_y = x, y
        start = (x, y) if letter == "M" else start
    return fit_path(tuple(kept))
