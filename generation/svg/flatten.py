"""Flatten a plain SVG: styles resolved down the tree, transforms applied, everything scaled onto the grid of 96.

Shape letters: none. Source: SVG 2 sections 6 (styling), 8 (coordinate systems), 10 (basic shapes).
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re

from .drawing import GRID, Drawing, Override, RootStyle, Shape
from .palette import nearest_paint
from .pathdata import IDENTITY, Affine, absolute, apply, compose, round_half_up, transform, uniform
from .tree import load_tree

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_STEP = re.compile(r"(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^()]*)\)")
_CONTAINERS = ("svg", "g", "a", "switch")
_INHERITED = ("fill", "stroke", "stroke-width", "fill-rule", "color")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    fill: str
    stroke: str
    width: int
    evenodd: bool
    opacity: float


def flatten(svg: str) -> Drawing:
    """Turn any plain SVG into a drawing without groups; what has no canonical form is left out. Raises ValueError."""
    root = load_tree(svg)
    looks: list[tuple[_Look, Shape]] = []
    _walk(root, {"fill": "black", "stroke": "none", "opacity": 1.0}, _canvas(root), looks)
    if not looks:
        raise ValueError("nothing drawable is left of this SVG; it needs a shape with a fill or a stroke")
    counts = collections.Counter(dataclasses.replace(look, opacity=1.0) for look, _ in looks)
    most = counts.most_common(1)[0][0]
    style = RootStyle(fill=most.fill, stroke=most.stroke, width=most.width, evenodd=most.evenodd)
    return Drawing(style=style, items=tuple(_restyle(look, shape, style) for look, shape in looks))


def transform_of(text: str | None) -> Affine:
    """Read a transform attribute as one affine map. Raises ValueError."""
    affine = IDENTITY
    for name, inside in _STEP.findall(text or ""):
        n = [float(value) for value in _NUMBER.findall(inside)]
        try:
            affine = compose(affine, _step(name, n))
        except IndexError:
            raise ValueError(f"transform {name}({inside}) lacks numbers") from None
    return affine


def _step(name: str, n: list[float]) -> Affine:
    if name == "matrix":
        return (n[0], n[1], n[2], n[3], n[4], n[5])
    if name == "translate":
        return (1, 0, 0, 1, n[0], n[1] if len(n) > 1 else 0)
    if name == "scale":
        return (n[0], 0, 0, n[1] if len(n) > 1 else n[0], 0, 0)
    if name == "skewX":
        return (1, 0, math.tan(math.radians(n[0])), 1, 0, 0)
    if name == "skewY":
        return (1, math.tan(math.radians(n[0])), 0, 1, 0, 0)
    cos, sin = math.cos(math.radians(n[0])), math.sin(math.radians(n[0]))
    turn = (cos, sin, -sin, cos, 0.0, 0.0)
    if len(n) < 3:
        return turn
    return compose(compose((1, 0, 0, 1, n[1], n[2]), turn), (1, 0, 0, 1, -n[1], -n[2]))


def _length(element, key: str, default: float = 0.0) -> float:
    match = _NUMBER.match((element.get(key) or "").strip())
    return float(match.group()) if match else default


def _canvas(root) -> Affine:
    """Map the root's view box onto the grid, whole and centred."""
    box = [float(value) for value in _NUMBER.findall(root.get("viewBox") or "")]
    if len(box) != 4 or min(box[2:]) <= 0:
        box = [0, 0, _length(root, "width", GRID), _length(root, "height", GRID)]
    if min(box[2:]) <= 0:
        raise ValueError("the SVG's canvas has no size; give it a viewBox")
    scale = GRID / max(box[2:])
    offset_x, offset_y = (GRID - box[2] * scale) / 2, (GRID - box[3] * scale) / 2
    return (scale, 0, 0, scale, offset_x - box[0] * scale, offset_y - box[1] * scale)


def _walk(element, outer: dict, affine: Affine, looks: list) -> None:
    style = dict(outer)
    if element.get("display") == "none" or element.get("visibility") == "hidden":
        return
    for key in _INHERITED:
        value = element.get(key)
        if value is not None and value != "inherit":
            style[key] = value
    style["opacity"] = outer["opacity"] * _length(element, "opacity", 1.0)
    affine = compose(affine, transform_of(element.get("transform")))
    if element.tag in _CONTAINERS:
        for child in element:
            _walk(child, style, affine, looks)
        return
    look = _look(element, style, math.sqrt(abs(affine[0] * affine[3] - affine[1] * affine[2])))
    if look is None:
        return
    for shape in _geometry(element, affine, hollow=look.fill == "none"):
        looks.append((look, shape))


def _paint(value: str, style: dict) -> str:
    value = value.strip()
    if value.lower().startswith("url("):
        value = value.partition(")")[2].strip() or "none"
    if value.lower() == "currentcolor":
        value = style.get("color", "currentColor")
    return nearest_paint(value)


def _look(element, style: dict, scale: float) -> _Look | None:
    fill, stroke = _paint(style["fill"], style), _paint(style["stroke"], style)
    match = _NUMBER.match(style.get("stroke-width", "1").strip())
    width = float(match.group()) * scale if match else scale
    stroke = "none" if width <= 0 else stroke
    see_through = _length(element, "fill-opacity" if fill != "none" else "stroke-opacity", 1.0)
    opacity = style["opacity"] * see_through
    if (fill == "none" and stroke == "none") or opacity < 0.05:
        return None
    return _Look(
        fill=fill,
        stroke=stroke,
        width=max(1, round_half_up(width)) if stroke != "none" else 0,
        evenodd=style.get("fill-rule") == "evenodd" and fill != "none",
        opacity=min(1.0, round(opacity, 1)),
    )


def _restyle(look: _Look, shape: Shape, root: RootStyle) -> Shape:
    width = look.width if look.stroke != "none" and look.width != root.width else None
    rule = None if look.evenodd == root.evenodd or look.fill == "none" else "evenodd" if look.evenodd else "nonzero"
    style = Override(
        fill=look.fill if look.fill != root.fill else None,
        stroke=look.stroke if look.stroke != root.stroke else None,
        width=width,
        rule=rule,
        opacity=look.opacity if look.opacity < 0.95 else None,
    )
    return dataclasses.replace(shape, style=style)


def _geometry(element, affine: Affine, *, hollow: bool) -> list[Shape]:
    """Return the shape of one element on the grid, or none where it has no extent."""
    upright = affine[1] == 0 == affine[2]
    if element.tag in ("circle", "ellipse"):
        r = _length(element, "r")
        rx, ry = (r, r) if element.tag == "circle" else (_length(element, "rx"), _length(element, "ry"))
        x, y = apply(affine, _length(element, "cx"), _length(element, "cy"))
        if rx <= 0 or ry <= 0:
            return []
        scale = math.sqrt(abs(affine[0] * affine[3] - affine[1] * affine[2]))
        if rx == ry and uniform(affine):
            return [Shape("circle", (round_half_up(x), round_half_up(y), rx * scale))]
        if upright:
            return [Shape("ellipse", (round_half_up(x), round_half_up(y), rx * abs(affine[0]), ry * abs(affine[3])))]
    if element.tag == "rect" and upright and affine[0] > 0 and affine[3] > 0:
        return _rect(element, affine)
    segments = on_grid(transform(_outline(element), affine), hollow=hollow)
    return [Shape("path", segments)] if segments else []


def _rect(element, affine: Affine) -> list[Shape]:
    width, height = _length(element, "width"), _length(element, "height")
    if width <= 0 or height <= 0:
        return []
    x, y = _length(element, "x"), _length(element, "y")
    corner = _length(element, "rx", _length(element, "ry")) * affine[0]
    left, top = map(round_half_up, apply(affine, x, y))
    right, bottom = map(round_half_up, apply(affine, x + width, y + height))
    return [Shape("rect", (left, top, max(1, right - left), max(1, bottom - top), round_half_up(corner)))]


def _outline(element) -> list[tuple]:
    """Write any shape element as absolute path segments."""
    if element.tag == "path":
        return absolute(element.get("d") or "")
    if element.tag == "line":
        start, end = (_length(element, "x1"), _length(element, "y1")), (_length(element, "x2"), _length(element, "y2"))
        return [("M", *start), ("L", *end)]
    if element.tag in ("polyline", "polygon"):
        n = [float(value) for value in _NUMBER.findall(element.get("points") or "")]
        points = list(zip(n[::2], n[1::2], strict=False))
        lines = [("L" if place else "M", *point) for place, point in enumerate(points)]
        return lines + [("Z",)] if element.tag == "polygon" and lines else lines
    if element.tag == "rect":
        x, y, width, height = (_length(element, key) for key in ("x", "y", "width", "height"))
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        return [("L" if place else "M", *corner) for place, corner in enumerate(corners)] + [("Z",)]
    if element.tag in ("circle", "ellipse"):
        r = _length(element, "r")
        rx, ry = (r, r) if element.tag == "circle" else (_length(element, "rx"), _length(element, "ry"))
        x, y = _length(element, "cx"), _length(element, "cy")
        halves = [("A", rx, ry, 0, 0, 1, x - rx, y), ("A", rx, ry, 0, 0, 1, x + rx, y)]
        return [("M", x + rx, y), *halves, ("Z",)]
    return []


def on_grid(segments: list[tuple], *, hollow: bool = False) -> tuple:
    """Round float segments to the grid, write straight lines as H and V, and drop what has become a point.

    A dot (a line without length behind a move) stays where `hollow`, because round caps make it visible.
    """
    result: list[tuple] = []
    x = y = start_x = start_y = 0
    for kind, *numbers in segments:
        if kind == "Z":
            if result and result[-1][0] not in ("M", "z"):
                result.append(("z",))
            x, y = start_x, start_y
            continue
        points = [round_half_up(value) for value in numbers[-6 if kind == "C" else -4 if kind == "Q" else -2 :]]
        to_x, to_y = points[-2:]
        here = all((points[i], points[i + 1]) == (x, y) for i in range(0, len(points), 2))
        if kind == "M":
            if result and result[-1][0] == "M":
                result.pop()
            result.append(("M", to_x, to_y))
            start_x, start_y = to_x, to_y
        elif here:
            if hollow and kind == "L" and result and result[-1][0] == "M":
                result.append(("H", to_x))
        elif kind == "L" and (to_y == y or to_x == x):
            result.append(("H", to_x) if to_y == y else ("V", to_y))
        elif kind == "A":
            rx, ry = max(1, round_half_up(numbers[0])), max(1, round_half_up(numbers[1]))
            result.append(("A", rx, ry, int(numbers[3]), int(numbers[4]), to_x, to_y))
        else:
            result.append((kind, *points))
        x, y = to_x, to_y
    while result and result[-1][0] == "M":
        result.pop()
    return tuple(result) if result and result[0][0] == "M" else ()
