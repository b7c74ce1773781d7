"""Fit a drawing to a picture: its outermost parts are moved and scaled, and its ground coloured, until both look alike.

Shape letters: H, W pixels. Source: analysis by synthesis; the search is coordinate descent over place and size, coarse
to fine, by the squared error of a composite of the parts, each rendered once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .render import rasterise_many
from .safe import rebuild, write_tree
from .tree import Node, load_tree

if TYPE_CHECKING:
    import numpy as np

GRID = 96.0  # units of the canvas that drawings of ours have
SIDE = 64  # pixels at which both are compared
MOST_PARTS = 12  # a drawing of more is one part: an icon's lines are not to be pulled apart
_SCALES = (0.6, 0.75, 0.9, 1.0, 1.15, 1.35, 1.6)
_REACH = 28  # units that the first search looks to each side
_STEPS = (7.0, 3.5, 1.75, 0.9, 0.45)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a part goes: a point p of the canvas comes to scale * p + (x, y)."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    def about(self, middle: tuple[float, float], dx: float, dy: float, factor: float) -> Place:
        """Moved by (dx, dy) and scaled by `factor` around where the point `middle` of the part now is."""
        scale = self.scale * factor
        at = [self.scale * part + shift for part, shift in zip(middle, (self.x, self.y), strict=True)]
        x, y = at[0] + dx - scale * middle[0], at[1] + dy - scale * middle[1]
        return Place(x=x, y=y, scale=scale)


def fitted(svg: str, picture_HW3: np.ndarray) -> str:
    """The drawing with its parts moved, scaled and its ground coloured to look like the picture (uint8, square).

    A ground is put behind a drawing that has none where the picture's border is not white. Raises ValueError for what
    `rebuild` refuses.
    """
    import numpy as np

    root = load_tree(rebuild(svg))
    wanted_HW3 = _shrunk(picture_HW3)
    named = [child for child in root if child.tag in ("title", "desc")]
    drawn = [child for child in root if child.tag not in ("title", "desc", "defs")]
    defined = [child for child in root if child.tag == "defs"]
    ground_3 = _border(wanted_HW3)
    if drawn and _is_ground(drawn[0]):
        drawn = drawn[1:]
    if len(drawn) > MOST_PARTS:
        drawn = [Node("g", {}, drawn)]
    sprites = [
        _Sprite(pixels) for pixels in rasterise_many([_alone(root, defined, one) for one in drawn], 2 * SIDE, None)
    ]
    places = _search(sprites, wanted_HW3, ground_3)
    paint = "#{:02x}{:02x}{:02x}".format(*np.round(ground_3 * 255).astype(int))
    ground = [] if paint == "#ffffff" else [
        Node("rect", {"width": f"{GRID:g}", "height": f"{GRID:g}", "fill": paint})
    ]  # fmt: skip
    root.children = [*named, *defined, *ground, *map(_moved, drawn, places)]
    return write_tree(root)


class _Sprite:
    """A part on the transparent canvas, premultiplied, and the middle of what it paints."""

    def __init__(self, pixels_HW4: np.ndarray) -> None:
        import numpy as np
        from PIL import Image

        alpha_HW1 = pixels_HW4[..., 3:].astype(np.float32) / 255
        flat_HW4 = np.concatenate([pixels_HW4[..., :3] * alpha_HW1, pixels_HW4[..., 3:]], -1)
        self._picture = Image.fromarray(np.round(flat_HW4).astype(np.uint8), "RGBA")
        ys, xs = np.nonzero(alpha_HW1[..., 0] > 0.1)
        unit = GRID / pixels_HW4.shape[0]
        self.seen = len(xs) > 0
        self.middle = (float(xs.mean() + 0.5) * unit, float(ys.mean() + 0.5) * unit) if self.seen else (GRID / 2,) * 2

    def at(self, place: Place, side: int) -> np.ndarray:
        """The part at a place, premultiplied float32 [side, side, 4] in 0..1."""
        import numpy as np
        from PIL import Image

        out, unit = GRID / side, self._picture.width / GRID
        # From a pixel of the result to units, back through the place, and to a pixel of the sprite.
        a, shift = out / place.scale * unit, [-t / place.scale * unit for t in (place.x, place.y)]
        placed = self._picture.transform(
            (side, side), Image.Transform.AFFINE, (a, 0, shift[0], 0, a, shift[1]), Image.Resampling.BILINEAR
        )
        return np.asarray(placed, dtype=np.float32) / 255


def _search(sprites: Sequence[_Sprite], wanted_HW3: np.ndarray, ground_3: np.ndarray) -> list[Place]:
    """A place for every part: a wide look first, largest step first, then finer, twice around."""
    places = [Place()] * len(sprites)
    layers = [sprite.at(place, SIDE) for sprite, place in zip(sprites, places, strict=True)]
    small = _reduced(wanted_HW3)
    for turn in range(2):
        for number, sprite in enumerate(sprites):
            if not sprite.seen:
                continue
            if turn == 0:
                lows = [_reduced(layer) for layer in layers]
                places[number] = _wide(sprite, places[number], lows, number, small, ground_3)
            places[number] = _fine(sprite, places[number], layers, number, wanted_HW3, ground_3)
            layers[number] = sprite.at(places[number], SIDE)
    return places


def _wide(sprite: _Sprite, start: Place, layers: list, number: int, wanted: np.ndarray, ground_3: np.ndarray) -> Place:
    best, least = start, float("inf")
    steps = range(-_REACH, _REACH + 1, 4)
    for factor in _SCALES:
        for dx in steps:
            for dy in steps:
                place = start.about(sprite.middle, dx, dy, factor)
                error = _error([*layers[:number], sprite.at(place, SIDE // 4), *layers[number + 1 :]], wanted, ground_3)
                if error < least:
                    best, least = place, error
    return best


def _fine(sprite: _Sprite, start: Place, layers: list, number: int, wanted: np.ndarray, ground_3: np.ndarray) -> Place:
    def error_of(place: Place) -> float:
        return _error([*layers[:number], sprite.at(place, SIDE), *layers[number + 1 :]], wanted, ground_3)

    best, least = start, error_of(start)
    for step in _STEPS:
        better = True
        while better:
            better = False
            grow = 1 + step / 40
            for dx, dy, factor in (
                (step, 0, 1),
                (-step, 0, 1),
                (0, step, 1),
                (0, -step, 1),
                (0, 0, grow),
                (0, 0, 1 / grow),
            ):
                place = best.about(sprite.middle, dx, dy, factor)
                if 0.2 <= place.scale <= 5 and (error := error_of(place)) < least:
                    best, least, better = place, error, True
    return best


def _error(layers: Sequence[np.ndarray], wanted_HW3: np.ndarray, ground_3: np.ndarray) -> float:
    import numpy as np

    shown_HW3: np.ndarray = ground_3
    for layer_HW4 in layers:
        shown_HW3 = layer_HW4[..., :3] + (1 - layer_HW4[..., 3:]) * shown_HW3
    return float(np.square(shown_HW3 - wanted_HW3).mean())


def _shrunk(picture_HW3: np.ndarray) -> np.ndarray:
    import numpy as np
    from PIL import Image

    small = Image.fromarray(picture_HW3[..., :3]).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def _reduced(layer_HWC: np.ndarray) -> np.ndarray:
    side = SIDE // 4
    return layer_HWC.reshape(side, 4, side, 4, -1).mean((1, 3))


def _border(picture_HW3: np.ndarray) -> np.ndarray:
    """The middle colour of the outermost pixels."""
    import numpy as np

    edges = np.concatenate([picture_HW3[0], picture_HW3[-1], picture_HW3[:, 0], picture_HW3[:, -1]])
    return np.median(edges, axis=0)


def _is_ground(node: Node) -> bool:
    sides = (node.get("width") or "", node.get("height") or "")
    return node.tag == "rect" and all(side in (f"{GRID:g}", "100%") for side in sides)


def _alone(root: Node, defined: list[Node], child: Node) -> str:
    return write_tree(Node("svg", dict(root.attributes), [*defined, child]))


def _moved(node: Node, place: Place) -> Node:
    if place == Place():
        return node
    move = f"translate({place.x:.2f} {place.y:.2f}) scale({place.scale:.3f})"
    return Node("g", {"transform": move}, [node])
