"""Read the canonical text of a drawing back into its tree, strictly.

Source: the form that `drawing.write` writes; parsing and its limits are in `tree`.
"""

from __future__ import annotations

import re

from .drawing import GEOMETRY, GRID, MAX_DEPTH, Drawing, Group, Override, RootStyle, Shape
from .tree import Node, load_tree

ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "Q": 4, "A": 7, "z": 0}
_STYLE = {"fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin", "fill-rule", "opacity"}
_PLACE = re.compile(r"translate\((-?\d+) (-?\d+)\) scale\((\d*\.?\d+)\)")
_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*)")


def read(text: str) -> Drawing:
    """Read canonical drawing text; title, desc and metadata are passed over. Raises ValueError naming the rest.

    Colours, ranges and path order are not judged here; encoding does that.
    """
    root = load_tree(text)
    if (root.get("viewBox") or "").split() != ["0", "0", str(GRID), str(GRID)]:
        raise ValueError(f'a canonical drawing starts with <svg viewBox="0 0 {GRID} {GRID}" ...>; use canonical(text)')
    style = _container_style(root, RootStyle(fill="black"), extra={"viewBox", "width", "height"})
    return Drawing(style=style, items=_items(root, style, 1))


def read_path(data: str) -> tuple:
    """Read canonical path data into segments of a letter and integers. Raises ValueError."""
    if not data.startswith("M"):
        raise ValueError(f"path data starts with M, not {data[:12]!r}")
    segments = []
    for letter, tail in _COMMAND.findall(data):
        if letter not in ARGUMENTS:
            raise ValueError(f"path command {letter!r} is not canonical; allowed: {' '.join(ARGUMENTS)}")
        numbers = [_integer(number, letter) for number in tail.split()]
        if len(numbers) != ARGUMENTS[letter]:
            raise ValueError(f"path command {letter} takes {ARGUMENTS[letter]} numbers, found {len(numbers)}")
        if letter == "A":
            rx, ry, turn, large, sweep, x, y = numbers
            if turn or large not in (0, 1) or sweep not in (0, 1):
                raise ValueError("canonical arcs are not rotated and have flags of 0 or 1")
            numbers = [rx, ry, large, sweep, x, y]
        segments.append((letter, *numbers))
    return tuple(segments)


def _integer(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where} wants whole numbers on the grid of {GRID}, not {text!r}") from None


def _check_attributes(element: Node, allowed: set[str]) -> None:
    for key in element.attributes:
        if key not in allowed:
            raise ValueError(f"attribute {key!r} of <{element.tag}> is not canonical; allowed: {sorted(allowed)}")
    for key in ("stroke-linecap", "stroke-linejoin"):
        if element.get(key, "round") != "round":
            raise ValueError(f"canonical strokes are round, not {key}={element.get(key)!r}")
    if element.get("fill-rule") not in (None, "evenodd", "nonzero"):
        raise ValueError(f"fill-rule is 'evenodd' or 'nonzero', not {element.get('fill-rule')!r}")


def _container_style(element: Node, outer: RootStyle, extra: set[str]) -> RootStyle:
    _check_attributes(element, (_STYLE - {"opacity"}) | extra)
    stroke = element.get("stroke", outer.stroke)
    width = _integer(element.get("stroke-width", str(outer.width or 1)), "stroke-width")
    rule = element.get("fill-rule", "evenodd" if outer.evenodd else "nonzero")
    return RootStyle(
        fill=element.get("fill", outer.fill),
        stroke=stroke,
        width=0 if stroke == "none" else width,
        evenodd=rule == "evenodd",
    )


def _items(element: Node, style: RootStyle, depth: int) -> tuple[Shape | Group, ...]:
    if depth > MAX_DEPTH:
        raise ValueError(f"a canonical drawing nests at most {MAX_DEPTH - 1} groups")
    children = [child for child in element if child.tag not in ("title", "desc", "metadata")]
    return tuple(_group(child, style, depth) if child.tag == "g" else _shape(child) for child in children)


def _group(element: Node, outer: RootStyle, depth: int) -> Group:
    style = _container_style(element, outer, extra={"transform"})
    place = _PLACE.fullmatch(element.get("transform", ""))
    if place is None:
        raise ValueError('a canonical group carries transform="translate(x y) scale(s)" and nothing else')
    x, y, scale = int(place[1]), int(place[2]), float(place[3])
    return Group(x=x, y=y, scale=scale, style=style, items=_items(element, style, depth + 1))


def _shape(element: Node) -> Shape:
    kind = element.tag
    if kind != "path" and kind not in GEOMETRY:
        raise ValueError(f"<{kind}> is not canonical; allowed: path, {', '.join(GEOMETRY)}, g")
    keys = {"d"} if kind == "path" else set(GEOMETRY[kind])
    _check_attributes(element, _STYLE | keys)
    width, opacity = element.get("stroke-width"), element.get("opacity")
    style = Override(
        fill=element.get("fill"),
        stroke=element.get("stroke"),
        width=None if width is None else _integer(width, "stroke-width"),
        rule=element.get("fill-rule"),
        opacity=None if opacity is None else float(opacity),
    )
    if kind == "path":
        return Shape(kind, read_path(element.get("d", "")), style)
    numbers = tuple(_integer(element.get(key, "0"), f"{key} of <{kind}>") for key in GEOMETRY[kind])
    return Shape(kind, numbers, style)
