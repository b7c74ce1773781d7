"""Pictures that show what was done with a picture: the tiles it is cut into, the boxes that were found in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .modes import Mode, get_mode
from .views import tile_boxes

if TYPE_CHECKING:
    from PIL.Image import Image

# Easily told apart, also by the colour-blind. Source: Okabe and Ito, Color Universal Design (2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LABEL_CHARACTERS = 60

Box = tuple[float, float, float, float]


def draw_tiles(picture: Image, mode: str | Mode) -> Image:
    """A copy with the tiles of `mode` numbered in reading order; without tiles, one frame around the whole view."""
    chosen = get_mode(mode)
    boxes = tile_boxes(picture.width, picture.height, chosen) or [(0.0, 0.0, float(picture.width), picture.height)]
    cut = len(boxes) > 1
    return draw_boxes(picture, [(str(number + 1) if cut else chosen.name, box) for number, box in enumerate(boxes)])


def draw_boxes(picture: Image, boxes: Iterable[tuple[str, Box]]) -> Image:
    """A copy with labelled boxes (left, top, right, bottom) in pixels; one label keeps one colour.

    Boxes that leave the picture are drawn up to its edge; a box without area is drawn as a line.
    """
    from PIL import ImageDraw, ImageFont

    shown = picture.convert("RGB")
    pen = ImageDraw.Draw(shown)
    line = max(1, round(max(shown.size) / 400))
    font = ImageFont.load_default(size=max(10, round(max(shown.size) / 60)))
    colours: dict[str, str] = {}
    for label, box in boxes:
        colour = colours.setdefault(label, COLOURS[len(colours) % len(COLOURS)])
        left, top, right, bottom = _inside(box, shown.size)
        pen.rectangle((left, top, right, bottom), outline=colour, width=line)
        text = _printable(label)
        if text:
            name = pen.textbbox((left + line, top + line), text, font=font)
            pen.rectangle((left, top, min(name[2] + line, shown.width), name[3] + line), fill=colour)
            pen.text((left + line, top + line), text, fill="white", font=font)
    return shown


def _inside(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    limits = (size[0] - 1, size[1] - 1, size[0] - 1, size[1] - 1)
    left, top, right, bottom = (round(min(max(side, 0), limit)) for side, limit in zip(box, limits, strict=True))
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _printable(label: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in label)
    return plain if len(plain) <= LABEL_CHARACTERS else f"{plain[: LABEL_CHARACTERS - 1]}…"
