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
_HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
FLAT = (  # two icons, a mark in four colours, and one with letters' sharp corners
    f'{_HEAD}<g fill="none" stroke="black" stroke-width="7" stroke-linecap="round"><circle cx="42" cy="42" r="24"/>'
    '<path d="M60 60 82 82"/></g></svg>',
    f'{_HEAD}<path d="M12 50 48 16 84 50H74V82H56V60H40V82H22V50z"/></svg>',
    f'{_HEAD}<rect width="96" height="96" fill="#fff4d6"/><circle cx="48" cy="48" r="38" fill="#1d4ed8"/>'
    '<circle cx="48" cy="48" r="26" fill="#fff4d6"/><path d="M30 66 48 24 66 66z" fill="#dc2626"/></svg>',
    f'{_HEAD}<rect width="96" height="96" fill="#0f172a"/><path d="M14 76V20H28L48 52 68 20H82V76H68V44L48 '
    '74 28 44V76z" fill="#f59e0b"/></svg>',
)


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
    cells = []
    for prompt in REDRAWN:
        shown = studio.image(prompt, size=128).array
        try:
            made = studio.svg(picture=_as_image(shown))
        except InputError as error:
            cells.append((f"refused: {error}", [shown, np.full_like(shown, 255)]))
            continue
        cells.append(_beside(shown, made))
    return cells


def _traced(studio: Any) -> list[Cell]:
    """Flat pictures that the model has no word for, and the SVG that it made of each."""
    svg = part("generation.svg")
    shown = [svg.rasterise(text, 256) for text in FLAT]
    return [_beside(picture, studio.svg(picture=_as_image(picture))) for picture in shown]


def _beside(shown_HW3: np.ndarray, made: Any) -> Cell:
    told = made.provenance["settings"]
    drawn = part("generation.svg").rasterise(made.text, CELL)
    return f"SSIM {told['likeness']:.2f}, {told['made_by']}: {told['seen']}", [shown_HW3, drawn]


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
    "traced": _traced,
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
