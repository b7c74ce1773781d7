"""A contact sheet of moving drawings: one row a motion, eight moments of one run, as the shipped weights draw them.

Run `python bench/animated_sheet.py -o sheet.png [--model NAME]`; the committed one is docs/animated_svg.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import dsv4
from dsv4._parts import part
from dsv4.data.language import MOTIONS
from dsv4.instructions import MOTION_SECONDS

THINGS = ("a star", "red heart icon", "a rocket", "a soccer ball", "a sunflower", "bell icon", "a balloon")
SIDE, MOMENTS, GAP = 96, 8, 4


def row(text: str) -> np.ndarray:
    """The moments of one drawing beside each other, [H, W, 3]."""
    frames_FHW3 = part("generation.svg").frames(text, SIDE, fps=MOMENTS / MOTION_SECONDS)
    edge = ((0, GAP), (0, GAP), (0, 0))
    return np.concatenate([np.pad(frame_HW3, edge, constant_values=200) for frame_HW3 in frames_FHW3], 1)


def main() -> None:
    """Draw, sample and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("animated_svg.png"))
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    studio = dsv4.load(args.model)
    prompts = [f"{THINGS[place % len(THINGS)]} {motion}" for place, motion in enumerate(MOTIONS)]
    rows = []
    for prompt in prompts:
        rows.append(row(studio.svg(prompt).text))
        print(prompt, flush=True)
    sheet = np.concatenate(rows)
    half = len(sheet) // 2
    beside = np.concatenate([sheet[:half], sheet[half:]], 1)
    part("generation.files").save_png(args.output, beside, {"prompts": prompts})
    print(args.output)


if __name__ == "__main__":
    main()
