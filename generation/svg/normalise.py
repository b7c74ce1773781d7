"""Bring any plain SVG into the canonical form: transforms flattened, curves kept, whole numbers on a grid of 96.

Source: SVG 2; a grid of 96 holds icon grids of 16 and 24 exactly.
"""

from __future__ import annotations

import dataclasses

from .drawing import HIGH, LOW, OPACITIES, SCALES, Drawing, Group, Override, RootStyle, Shape, write
from .flatten import flatten
from .palette import nearest_paint
from .pathdata import clamp, fit_radius, round_half_up, split_curve
from .reader import read


def canonical(svg: str) -> str:
    """Return the canonical text of a drawing; canonical text comes back unchanged.

    A drawing already in our structure (as the data files are) keeps it and only its colours and numbers are fitted;
    any other is flattened: styles resolved, transforms applied, shapes without paint dropped.

    Raises ValueError where nothing drawable is left or the XML is broken. Gradients, text, masks and filters have no
    canonical form and are left out.
    """
    return write(canonical_drawing(svg))


def canonical_drawing(svg: str) -> Drawing:
    """As `canonical`, but return the tree."""
    try:
        drawing = read(svg)
    except ValueError:
        drawing = flatten(svg)
    return fit(drawing)


def fit(drawing: Drawing) -> Drawing:
    """Fit every colour and number of a drawing to those that have tokens. Raises ValueError when nothing is left."""
    items = _fit_items(drawing.items)
    if not items:
        raise ValueError("nothing drawable is left of this SVG; it needs a shape with a fill or a stroke")
    return Drawing(style=_fit_style(drawing.style), items=items)


def _width(value: float) -> int:
    return min(HIGH, max(1, round_half_up(value)))


def _fit_style(style: RootStyle) -> RootStyle:
    stroke = nearest_paint(style.stroke)
    width = 0 if stroke == "none" else _width(style.width)
    return dataclasses.replace(style, fill=nearest_paint(style.fill), stroke=stroke, width=width)


def _fit_items(items: tuple) -> tuple:
    fitted = []
    for item in items:
        if isinstance(item, Group):
            children = _fit_items(item.items)
            if children:
                scale = min(SCALES, key=lambda value: abs(value - item.scale))
                place = {"x": clamp(item.x), "y": clamp(item.y), "scale": scale}
                fitted.append(dataclasses.replace(item, items=children, style=_fit_style(item.style), **place))
        else:
            shape = _fit_shape(item)
            if shape is not None:
                fitted.append(shape)
    return tuple(fitted)


def _fit_override(style: Override) -> Override | None:
    opacity = style.opacity
    if opacity is not None:
        if opacity < 0.05:
            return None
        opacity = None if opacity > 0.95 else min(OPACITIES, key=lambda value: abs(value - opacity))
    return Override(
        fill=None if style.fill is None else nearest_paint(style.fill),
        stroke=None if style.stroke is None else nearest_paint(style.stroke),
        width=None if style.width is None else _width(style.width),
        rule=style.rule,
        opacity=opacity,
    )


def _fit_shape(shape: Shape) -> Shape | None:
    style = _fit_override(shape.style)
    if style is None:
        return None
    if shape.kind == "path":
        segments = fit_path(shape.data)
        return Shape("path", segments, style) if len(segments) > 1 else None
    if shape.kind == "rect":
        x, y = clamp(shape.data[0]), clamp(shape.data[1])
        x, y = min(x, HIGH - 1), min(y, HIGH - 1)
        right, bottom = clamp(shape.data[0] + shape.data[2]), clamp(shape.data[1] + shape.data[3])
        width, height = (min(HIGH, max(1, side)) for side in (right - x, bottom - y))
        corner = min(max(0, round_half_up(shape.data[4])), max(width, height))
        return Shape("rect", (x, y, width, height, corner), style)
    x = min(max(clamp(shape.data[0]), LOW + 1), HIGH - 1)
    y = min(max(clamp(shape.data[1]), LOW + 1), HIGH - 1)
    room_x, room_y = min(x - LOW, HIGH - x), min(y - LOW, HIGH - y)
    room = (min(room_x, room_y),) if shape.kind == "circle" else (room_x, room_y)
    radii = tuple(min(limit, max(1, round_half_up(value))) for value, limit in zip(shape.data[2:], room, strict=True))
    return Shape(shape.kind, (x, y, *radii), style)


def fit_path(segments: tuple) -> tuple:
    """Fit a path's numbers to the tokens: curves that leave the margin are halved, arcs' radii take the next step."""
    fitted: list[tuple] = []
    x = y = start_x = start_y = 0
    for letter, *numbers in segments:
        if letter == "M":
            if fitted and fitted[-1][0] == "M":
                fitted.pop()
            fitted.append(("M", *map(clamp, numbers)))
        elif letter == "z":
            if fitted[-1][0] not in ("M", "z"):
                fitted.append(("z",))
        elif letter in ("C", "Q"):
            fitted += _fit_curve(x, y, letter, numbers, 3)
        elif letter == "A":
            rx, ry, large, sweep, *end = numbers
            fitted.append(("A", fit_radius(rx), fit_radius(ry), int(large), int(sweep), *map(clamp, end)))
        else:
            fitted.append((letter, *map(clamp, numbers)))
        x, y = _end(letter, numbers, x, y, start_x, start_y)
        if letter == "M":
            start_x, start_y = x, y
    while fitted and fitted[-1][0] == "M":
        fitted.pop()
    return tuple(fitted)


def _end(letter: str, numbers: list, x: float, y: float, start_x: float, start_y: float) -> tuple[float, float]:
    if letter == "z":
        return start_x, start_y
    if letter == "H":
        return numbers[0], y
    if letter == "V":
        return x, numbers[0]
    return numbers[-2], numbers[-1]


def _fit_curve(x: float, y: float, letter: str, points: list, halvings: int) -> list[tuple]:
    inside = all(LOW <= round_half_up(value) <= HIGH for value in points)
    if inside or halvings == 0:
        return [(letter, *map(clamp, points))]
    left, right = split_curve(x, y, points)
    mid_x, mid_y = left[-2:]
    first = _fit_curve(x, y, letter, left, halvings - 1)
    return first + _fit_curve(mid_x, mid_y, letter, right, halvings - 1)
