"""Drawings as SVG token lists: recoloured, placed, framed, set side by side, and scenes of shapes and things.

All works on ids (local, from 0) of `generation.svg.vocabulary()`, so a composed drawing repeats its parts word for word
inside a placed group. Lengths are units of the grid of 96.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsv4.data.language import GROUNDS, Caption, is_shape

FORMS = ("in a circle", "in a square", "two", "three", "four")
Ids = list[int]

# Where the parts of a row of n stand: (x, y, scale) of each group.
_ROWS = {
    2: ((0, 24, 0.5), (48, 24, 0.5)),
    3: ((1, 33, 0.3), (33, 33, 0.3), (65, 33, 0.3)),
    4: ((3, 3, 0.45), (50, 3, 0.45), (3, 50, 0.45), (50, 50, 0.45)),
}
# Where nouns stand in a scene, by their number or relation: (middle x, middle y, half size).
_ONE = ((48, 48, 30),)
_PAIRS = {
    "to the left of": ((25, 48, 19), (71, 48, 19)),
    "to the right of": ((71, 48, 19), (25, 48, 19)),
    "above": ((48, 25, 19), (48, 71, 19)),
    "below": ((48, 71, 19), (48, 25, 19)),
}
_THREE = ((17, 48, 14), (48, 48, 14), (79, 48, 14))
_FOUR = ((25, 25, 17), (71, 25, 17), (25, 71, 17), (71, 71, 17))
_THING_SCALE = {1: 0.7, 2: 0.45, 3: 0.3}
# Corners of the unit shapes, in hundredths of the half size.
_CORNERS = {
    "triangle": ((0, -100), (100, 86), (-100, 86)),
    "diamond": ((0, -100), (80, 0), (0, 100), (-80, 0)),
    "star": (
        (0, -100), (24, -32), (95, -31), (38, 12), (59, 81), (0, 40), (-59, 81), (-38, 12), (-95, -31), (-24, -32),
    ),
    "cross": (
        (-33, -100), (33, -100), (33, -33), (100, -33), (100, 33), (33, 33),
        (33, 100), (-33, 100), (-33, 33), (-100, 33), (-100, -33), (-33, -33),
    ),
}  # fmt: skip


class Drawings:
    """Composes token lists; needs the vocabulary's names and the paints of shapes and grounds."""

    def __init__(self) -> None:
        from dsv4._parts import part

        svg = part("generation.svg")
        self.index: Mapping[str, int] = svg.vocabulary().index
        self.shape_paint: Mapping[str, str] = svg.SHAPE_COLOURS
        paints = {name: {"grey": "gray"}.get(name, name) for name in GROUNDS}
        near = {name: svg.nearest_paint("#{:02x}{:02x}{:02x}".format(*rgb)) for name, rgb in GROUNDS.items()}
        self.ground_paint = {name: paint if paint in self.index else near[name] for name, paint in paints.items()}
        self.current = self.index["currentColor"]

    def words(self, *names: Any) -> Ids:
        """Ids of tokens by name; numbers stand for themselves."""
        return [self.index[f"{name:g}" if isinstance(name, float) else str(name)] for name in names]

    def recolour(self, ids: np.ndarray, colour: str) -> np.ndarray:
        """The drawing with every `currentColor` replaced by a named colour."""
        return np.where(ids == self.current, self.index[colour], ids)

    def colourable(self, ids: np.ndarray) -> bool:
        """Whether recolouring changes the drawing."""
        return bool((ids == self.current).any())

    def head(self, ids: Sequence[int]) -> Ids:
        """The opening of a drawing: its first token and its style."""
        line = ids[0] == self.index["svg-line"]
        end = 3 if line else 2
        if not line and ids[end] == self.index["root-stroke"]:
            end += 3
        return list(ids[: end + (ids[end] == self.index["root-evenodd"])])

    def placed(self, ids: Sequence[int], x: int, y: int, scale: float) -> Ids:
        """The drawing as a group at translate(x y) scale(scale), in its own style."""
        first = "g-line" if ids[0] == self.index["svg-line"] else "g"
        return [*self.words(first, x, y, f"scale:{scale:g}"), *ids[1:-1], self.index["/g"]]

    def framed(self, ids: Sequence[int], frame: str) -> Ids:
        """The drawing small inside the line of a "circle" or a "square"."""
        line = ids[0] == self.index["svg-line"]
        head = self.head(ids)[:3] if line else self.words("svg-line", "currentColor", 6)
        border = ("circle", 48, 48, 42) if frame == "circle" else ("rrect", 8, 8, 80, 80, 8)
        return [*head, *self.words(*border), *self.placed(ids, 22, 22, 0.55), self.index["/svg"]]

    def row(self, parts: Sequence[Sequence[int]]) -> Ids:
        """Two to four drawings: two beside each other, three in a row, four in a square."""
        out = self.head(parts[0])
        for ids, place in zip(parts, _ROWS[len(parts)], strict=True):
            out += self.placed(ids, *place)
        return [*out, self.index["/svg"]]

    def form(self, ids: Sequence[int], form: str) -> Ids:
        """One of FORMS made of one drawing."""
        if form.startswith("in a "):
            return self.framed(ids, form.removeprefix("in a "))
        return self.row([ids] * {"two": 2, "three": 3, "four": 4}[form])

    def scene(self, caption: Caption, drawing_of: Mapping[str, Sequence[int]]) -> Ids:
        """The scene of a caption: coloured shapes, and things from their drawings by name; looks have no meaning here.

        Raises KeyError for a thing without a drawing.
        """
        out = self.words("svg", "none")
        if caption.ground != "white":
            out += self.words(self.ground_paint[caption.ground], "rect", 0, 0, 96, 96)
        nouns = caption.nouns * caption.count
        places = self._places(caption, len(nouns))
        for noun, (x, y, half) in zip(nouns, places, strict=True):
            if is_shape(noun):
                out += self.shape(noun, x, y, half)
            else:
                scale = _THING_SCALE[len(nouns)]
                out += self.placed(drawing_of[noun], x - round(48 * scale), y - round(48 * scale), scale)
        return [*out, self.index["/svg"]]

    def shape(self, noun: str, x: int, y: int, half: int) -> Ids:
        """A coloured shape around (x, y), `half` to each side."""
        colour, kind = noun.split()
        paint = self.words(self.shape_paint[colour])
        if kind == "circle":
            return paint + self.words("circle", x, y, half)
        if kind == "square":
            return paint + self.words("rect", x - half, y - half, 2 * half, 2 * half)
        corners = [(x + round(half * dx / 100), y + round(half * dy / 100)) for dx, dy in _CORNERS[kind]]
        lines = [word for corner in corners[1:] for word in ("L", *corner)]
        return paint + self.words("path", *corners[0], *lines, "z")

    def _places(self, caption: Caption, count: int) -> Sequence[tuple[int, int, int]]:
        if caption.relation:
            return _PAIRS[caption.relation]
        return {1: _ONE, 2: _PAIRS["to the left of"], 3: _THREE, 4: _FOUR}[count]
