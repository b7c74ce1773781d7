"""Trace a flat picture: outlines of its colour regions as paths, over a ground, as a small and safe SVG.

Shape letters: S side in pixels, K colours, 3 RGB. Source: stacked colour tracing as in VTracer (Pun and Tsang, 2020),
with outlines between pixels and fitted curves of our own; the limits below keep any picture within those of `rebuild`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .curves import Outline, outline
from .flat import SIDE as FLAT_SIDE
from .flat import Layers, layers_of
from .regions import regions_of
from .safe import rebuild
from .tree import SVG_NAMESPACE

if TYPE_CHECKING:
    from PIL.Image import Image

GRID = 96.0  # units of the canvas that drawings of ours have
MOST_PATHS = 400
MOST_BORDERS = 24_000  # sides of pixels between two colours: what outlines are made of
MOST_BYTES = 100_000  # of the finished SVG
_SIDES = (512, 256, 128, 64, 32)  # pixels at which it is traced: less where a limit is met
_SPECKLE = 6e-5  # of the picture: regions below it are left out
_TOLERANCE, _ROUGH = 0.4, 0.75  # pixels that an outline may be off, with soft edges and with hard ones


def is_flat(picture: Image) -> bool:
    """Whether a square RGB picture is made of few colours with sharp borders, so that tracing gives it back."""
    return layers_of(_pixels(picture, FLAT_SIDE)).flat


def traced(picture: Image, title: str | None = None) -> str:
    """The outlines of a square RGB picture as SVG: a ground, and paths that lie on each other.

    At most MOST_PATHS paths and MOST_BYTES bytes: a picture of more detail is traced more coarsely. The same picture
    gives the same text. Raises ValueError for a picture that is not square.
    """
    if picture.width != picture.height:
        raise ValueError(f"a square picture is traced, this one is {picture.width} x {picture.height}")
    text = ""
    for side in _SIDES:
        pixels_SS3 = _pixels(picture, side)
        layers = layers_of(pixels_SS3)
        if side > _SIDES[-1] and layers.crossings * 2 * len(pixels_SS3) > MOST_BORDERS:
            continue
        text = rebuild(_drawn(layers, len(pixels_SS3)), title=title)
        if len(text.encode()) <= MOST_BYTES:
            break
    return text


def _pixels(picture: Image, side: int) -> np.ndarray:
    """uint8 [S, S, 3] of at most `side` pixels; a small picture stays as it is."""
    from PIL import Image

    if picture.width > side:
        picture = picture.resize((side, side), Image.Resampling.BOX)
    return np.asarray(picture.convert("RGB"))


def _drawn(layers: Layers, side: int) -> str:
    label_SS = layers.cover_KSS.argmax(0)
    rim = np.concatenate([label_SS[0], label_SS[-1], label_SS[:, 0], label_SS[:, -1]])
    ground = int(np.bincount(rim).argmax())
    paints = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in layers.colours_K3]
    soft = ((layers.cover_KSS > 0.05) & (layers.cover_KSS < 0.95)).any(0).mean()
    tolerance = _TOLERANCE if soft > 0.25 * layers.crossings / side else _ROUGH
    least = max(2, round(_SPECKLE * side * side))
    found = sorted(enumerate(regions_of(layers.cover_KSS, ground, least)), key=lambda pair: -pair[1].area)
    lines = [f'<rect width="{GRID:g}" height="{GRID:g}" fill="{paints[ground]}"/>']
    for _, region in sorted(found[:MOST_PATHS], key=lambda pair: pair[0]):
        outlines = [one for loop in region.loops if (one := outline(loop, tolerance)) is not None]
        if not outlines:
            continue
        data = " ".join(_data(one, GRID / side) for one in outlines)
        holes = ' fill-rule="evenodd"' if len(outlines) > 1 else ""
        lines.append(f'<path fill="{paints[region.colour]}"{holes} d="{data}"/>')
    head = f'<svg xmlns="{SVG_NAMESPACE}" viewBox="0 0 {GRID:g} {GRID:g}">'
    return "\n".join([head, *lines, "</svg>"])


def _data(one: Outline, unit: float) -> str:
    """Path data in units of the canvas, to a hundredth."""
    words = ["M" + _numbers(one.start_2, unit)]
    words += [("C" if len(piece) == 3 else "L") + _numbers(piece, unit) for piece in one.pieces]
    return "".join(words) + "Z"


def _numbers(points: np.ndarray, unit: float) -> str:
    return " ".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in np.round(points * unit, 2).ravel() + 0.0)
