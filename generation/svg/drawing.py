"""The drawing behind the tokens: a root style, shapes in integers on a grid of 96, and placed groups.

Shape letters: none. Every length is in grid units; a path segment is a tuple of a command letter and its integers.
Source: SVG 2, sections 8 to 10 (paths, basic shapes, painting); the subset is ours.
"""

from __future__ import annotations

import dataclasses

GRID = 96
LOW, HIGH = -8, 104
RADII = tuple(
    int(radius)
    for radius in (
        "106 112 120 126 132 138 144 150 156 162 168 174 180 186 192 198 206 216 222 229 246 258 264 282 300 322 342 "
        "366 378 408 430 456 485 550 593 650 743 845 1000 1700 3000"
    ).split()
)
SCALES = tuple(round(0.05 * step, 2) for step in range(2, 21))
OPACITIES = tuple(round(0.1 * step, 1) for step in range(1, 10))
MAX_DEPTH = 4
ROUND = ' stroke-linecap="round" stroke-linejoin="round"'
GEOMETRY = {
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "rect": ("x", "y", "width", "height", "rx"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RootStyle:
    """The whole style of the drawing or of a group: every field is set, nothing is inherited."""

    fill: str
    stroke: str = "none"
    width: int = 0
    evenodd: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Override:
    """What one shape says differently from the container's style; None means inherited."""

    fill: str | None = None
    stroke: str | None = None
    width: int | None = None
    rule: str | None = None
    opacity: float | None = None


@dataclasses.dataclass(frozen=True)
class Shape:
    """One shape: kind 'path' with segments, or a primitive with the integers GEOMETRY names (rect: rx 0 is sharp)."""

    kind: str
    data: tuple
    style: Override = Override()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Items placed by translate(x y) scale(s), in their own complete style."""

    x: int
    y: int
    scale: float
    style: RootStyle
    items: tuple[Shape | Group, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """A whole drawing on a canvas of 96 by 96."""

    style: RootStyle
    items: tuple[Shape | Group, ...]


def write(drawing: Drawing) -> str:
    """Write the one canonical text of a drawing, on one line and without a namespace."""
    body = "".join(_item(item, drawing.style) for item in drawing.items)
    return f'<svg viewBox="0 0 {GRID} {GRID}"{_root_style(drawing.style)}>{body}</svg>'


def write_path(segments: tuple) -> str:
    """Write path data: absolute commands, one space behind a letter, none before the next letter."""
    parts = []
    for command, *numbers in segments:
        if command == "A":
            rx, ry, large, sweep, x, y = numbers
            numbers = [rx, ry, 0, large, sweep, x, y]
        parts.append(command + "".join(f" {number}" for number in numbers))
    return "".join(parts)


def _root_style(style: RootStyle) -> str:
    text = f' fill="{style.fill}"'
    if style.stroke != "none":
        text += f' stroke="{style.stroke}" stroke-width="{style.width}"{ROUND}'
    return text + (' fill-rule="evenodd"' if style.evenodd else "")


def _group_style(style: RootStyle, outer: RootStyle) -> str:
    text = f' fill="{style.fill}"'
    if style.stroke != "none":
        text += f' stroke="{style.stroke}" stroke-width="{style.width}"{ROUND}'
    elif outer.stroke != "none":
        text += ' stroke="none"'
    if style.evenodd != outer.evenodd:
        text += ' fill-rule="evenodd"' if style.evenodd else ' fill-rule="nonzero"'
    return text


def _override(style: Override, outer: RootStyle) -> str:
    text = "" if style.fill is None else f' fill="{style.fill}"'
    if style.stroke is not None:
        text += f' stroke="{style.stroke}"'
    if style.width is not None:
        text += f' stroke-width="{style.width}"'
    if style.stroke not in (None, "none") and outer.stroke == "none":
        text += ROUND
    if style.rule is not None:
        text += f' fill-rule="{style.rule}"'
    return text + ("" if style.opacity is None else f' opacity="{style.opacity:g}"')


def _item(item: Shape | Group, outer: RootStyle) -> str:
    if isinstance(item, Group):
        head = f'<g transform="translate({item.x} {item.y}) scale({item.scale:g})"{_group_style(item.style, outer)}>'
        return head + "".join(_item(child, item.style) for child in item.items) + "</g>"
    style = _override(item.style, outer)
    if item.kind == "path":
        return f'<path{style} d="{write_path(item.data)}"/>'
    pairs = zip(GEOMETRY[item.kind], item.data, strict=True)
    geometry = "".join(
        f' {key}="{value}"' for key, value in pairs if not (item.kind == "rect" and key == "rx" and not value)
    )
    return f"<{item.kind}{style}{geometry}/>"
