"""Contact sheets of all that the hands make, one a kind, by one command and from fixed prompts; nothing is picked out.

Run as `python -m dsv4.eval.sheets --out docs/sheets`, which needs no data folder; `--only icons,clips` makes some.
Shape letters: F frames, H and W pixels.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.eval.sheet import CELL, draw_sheet

Cell = tuple[str, list[np.ndarray]]
QUALITY = 86  # of the WebP files

ICONS = (
    "heart icon", "camera icon", "house icon", "star icon", "outline bell icon, lucide", "umbrella icon",
    "solid trash icon, phosphor", "key icon",
)  # fmt: skip
COLOURS = (
    "red heart icon", "orange star icon", "green leaf icon", "blue camera icon", "purple key icon", "pink bell icon",
    "teal house icon", "brown cup icon",
)  # fmt: skip
COMPOSITIONS = (
    "star icon in a circle", "heart icon in a square", "house icon beside a tree icon", "three red heart icons",
    "two star icons", "four bell icons", "camera icon in a circle", "three key icons",
)  # fmt: skip
DRAWINGS = ("a tiger", "a rocket", "a slice of pizza", "an owl", "a strawberry", "a bicycle", "a cactus", "a penguin")
MOVING = ("a star bouncing", "a rocket moving up")
SCENES = (
    "a blue circle above a red square", "a green star to the left of a yellow triangle", "three purple diamonds",
    "a cat to the left of a dog", "an owl above a red apple on a mint background", "four orange circles",
    "a red cross below a blue star on a yellow background", "a rocket, a cactus and a penguin",
)  # fmt: skip
PICTURES = (
    "a tiger on a mint background", "a rocket to the left of a red apple on a sky blue background",
    "a blue circle above a red square", "three green stars on a yellow background", "an owl, flat style",
    "a cat above a dog on a lavender background", "a purple diamond to the left of an orange triangle",
    "a penguin, a cactus and a strawberry",
)  # fmt: skip
CLIPS = (
    "a soccer ball bouncing",
    "a red circle moving right",
    "a cat spinning and a dog bouncing",
    "a rocket moving up",
)
FIRST = (
    ("a red apple on a sky blue background", "a red apple moving up on a sky blue background"),
    ("a cat, flat style", "a cat growing, flat style"),
)
REDRAWN = (
    "a tiger on a mint background", "a cat to the left of a dog, flat style", "a blue circle above a red square",
    "an owl above a red apple on a sky blue background",
)  # fmt: skip


def _drawn(prompts: Sequence[str]) -> Callable[[Any], list[Cell]]:
    def make(studio: Any) -> list[Cell]:
        svg = part("generation.svg")
        return [(prompt, [svg.rasterise(studio.svg(prompt).text, CELL)]) for prompt in prompts]

    return make


def _moving(studio: Any) -> list[Cell]:
    svg, cells = part("generation.svg"), []
    for prompt in MOVING:
        frames = svg.frames(studio.svg(prompt).text, CELL, fps=8)
        cells.append((f"{prompt} (animated SVG)", _four(frames)))
    return cells


def _painted(studio: Any) -> list[Cell]:
    return [(prompt, [studio.image(prompt).array]) for prompt in PICTURES]


def _filmed(studio: Any) -> list[Cell]:
    return [(prompt, _four(studio.video(prompt).frames)) for prompt in CLIPS]


def _begun(studio: Any) -> list[Cell]:
    """Clips that begin with a picture that the model painted: the picture in front of four frames."""
    cells = []
    for asked, prompt in FIRST:
        first = studio.image(asked, size=64).array
        frames = studio.video(prompt, first_frame=_as_image(first)).frames
        cells.append((f"{asked}; then: {prompt}", [first, *_four(frames)[1:]]))
    return cells


def _redrawn(studio: Any) -> list[Cell]:
    """Pictures that the model painted, and the SVG that it made of each."""
    svg, cells = part("generation.svg"), []
    for prompt in REDRAWN:
        shown = studio.image(prompt, size=128).array
        try:
            made = studio.svg(picture=_as_image(shown))
        except InputError as error:
            cells.append((f"refused: {error}", [shown, np.full_like(shown, 255)]))
            continue
        told = made.provenance["settings"]
        cells.append((f"SSIM {told['likeness']:.2f}: {told['seen']}", [shown, svg.rasterise(made.text, CELL)]))
    return cells


SHEETS: dict[str, Callable[[Any], list[Cell]]] = {
    "icons": _drawn(ICONS),
    "colours": _drawn(COLOURS),
    "compositions": _drawn(COMPOSITIONS),
    "drawings": _drawn(DRAWINGS),
    "moving": _moving,
    "scenes": _drawn(SCENES),
    "pictures": _painted,
    "clips": _filmed,
    "first_frames": _begun,
    "redrawn": _redrawn,
}


def _four(frames_FHW3: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Four frames at even times."""
    places = np.linspace(0, len(frames_FHW3) - 1, 4).round().astype(int)
    return [frames_FHW3[place] for place in places]


def _as_image(pixels_HW3: np.ndarray) -> Any:
    from PIL import Image

    from dsv4.messages import image

    content = io.BytesIO()
    Image.fromarray(pixels_HW3).save(content, "PNG")
    return image(content.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Make the sheets and name each file."""
    from dsv4 import load

    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.sheets", description="contact sheets, one a kind")
    parser.add_argument("--out", type=Path, default=Path("docs/sheets"), metavar="DIR")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--only", metavar="LIST", help="with commas between: " + ", ".join(SHEETS))
    args = parser.parse_args(argv)
    chosen = list(SHEETS) if args.only is None else [name.strip() for name in args.only.split(",")]
    for name in chosen:
        if name not in SHEETS:
            raise unknown("sheet", name, SHEETS)
    studio = load(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        started, path = time.monotonic(), args.out / f"{name}.webp"
        draw_sheet(SHEETS[name](studio)).save(path, quality=QUALITY, method=6)
        print(f"{path}  ({time.monotonic() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
