"""A contact sheet of what the shipped model makes: icons, drawings, pictures and clip frames, with their prompts.

Run as `python -m dsv4.eval.sheet -o docs/contact_sheet.png`. Nothing is picked out: the first seed is shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.results import check_output

ICONS = ("red heart icon", "camera icon", "three heart icons", "star icon in a circle")
DRAWINGS = ("a tiger", "a rocket", "a blue circle above a red square", "a slice of pizza")
PICTURES = (
    "a blue circle above a red square",
    "three green stars on a yellow background",
    "a rocket to the left of a red apple on a sky blue background",
    "a purple diamond to the left of an orange triangle on a black background",
)
CLIPS = ("a red circle moving right", "a soccer ball bouncing")
CLIP_FRAMES = (0, 5, 10, 15)
CELL, MARGIN, LABEL = 192, 12, 34


def make_cells(studio: Any) -> list[tuple[str, list[np.ndarray]]]:
    """Every prompt with its pictures, uint8 [H, W, 3]; a clip gives four frames."""
    svg = part("generation.svg")
    cells = [(prompt, [svg.rasterise(studio.svg(prompt).text, CELL)]) for prompt in (*ICONS, *DRAWINGS)]
    cells += [(prompt, [studio.image(prompt).array]) for prompt in PICTURES]
    for prompt in CLIPS:
        frames = studio.video(prompt).frames
        cells.append((prompt, [frames[min(number, len(frames) - 1)] for number in CLIP_FRAMES]))
    return cells


def draw_sheet(cells: list[tuple[str, list[np.ndarray]]], *, columns: int = 4) -> Any:
    """Lay the cells out in rows of `columns` pictures with the prompt below; a PIL image."""
    from PIL import Image, ImageDraw, ImageFont

    rows, used = [[]], 0
    for prompt, pictures in cells:
        if used + len(pictures) > columns:
            rows, used = [*rows, []], 0
        rows[-1].append((prompt, pictures, used))
        used += len(pictures)
    step = CELL + MARGIN
    sheet = Image.new("RGB", (columns * step + MARGIN, len(rows) * (step + LABEL) + MARGIN), (246, 246, 248))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for line, row in enumerate(rows):
        top = MARGIN + line * (step + LABEL)
        for prompt, pictures, column in row:
            for offset, pixels in enumerate(pictures):
                left = MARGIN + (column + offset) * step
                sheet.paste(
                    Image.fromarray(pixels[..., :3]).resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top)
                )
            left, width = MARGIN + column * step, step * len(pictures) - MARGIN
            for number, words in enumerate(_wrap(prompt, font, width)[:2]):
                pen.text((left, top + CELL + 3 + 15 * number), words, fill=(50, 50, 58), font=font)
    return sheet


def main(argv: list[str] | None = None) -> int:
    """Make the sheet with the shipped model."""
    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.sheet", description="a contact sheet of the model")
    parser.add_argument("-o", "--output", default="docs/contact_sheet.png", type=Path)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args(argv)
    check_output(args.output, "image")
    from dsv4 import load

    draw_sheet(make_cells(load(args.model))).save(args.output)
    print(args.output)
    return 0


def _wrap(text: str, font: Any, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) > width and line:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


if __name__ == "__main__":
    raise SystemExit(main())
