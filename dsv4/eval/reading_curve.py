"""The reading curve: how much of a page is read right, against how many characters each vision token stands for.

Run as `python -m dsv4.eval.reading_curve --data build/data --limit 12 --modes tiny,small -o nano_reading.svg`.
Source of the drawing: DeepSeek-OCR, arXiv 2510.18234, figure 1 (precision against compression, a line a mode). Pages
are those of the second score table; in another mode than Tiny they are laid out alike and printed at its own pixels.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.eval import reading
from dsv4.eval.plot import Line, chart
from dsv4.eval.rows import Session, look

DENSITIES = (1, 2, 4, 8)
TRAINED = "tiny"  # the mode that nano's eyes were trained in
DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Point:
    """Pages of one density in one mode: what was read right, 0 to 1, and the 95 % interval over the pages."""

    mode: str
    side: int
    places: int  # vision tokens as the paper counts them
    density: int
    pages: int
    characters: float  # of a page, on average
    words: float  # tokens of its text by the model's own vocabulary, on average
    right: float
    low: float
    high: float


def measure(session: Session, mode: str, density: int) -> Point:
    """`session.limit` pages of so many characters a vision token, read in one mode.

    ValueError where the eyes refuse a view of this size.
    """
    from dsv4.data.glyphs import GlyphSheets

    known = part("vision").MODES[mode]
    places = known.num_tokens(known.side, known.side).paper
    found = reading.page_cases(session.data_dir, characters=density * places, limit=session.limit)
    pages = reading.pictures(found, GlyphSheets.load(session.data_dir), side=known.side)
    said = look(session, [reading.QUESTION] * len(found), pages, max_tokens=max(96, round(1.5 * density * places)))
    counts = [reading.character_errors(case, output) for case, output in zip(found, said, strict=True)]
    right, low, high = read_right(counts)
    texts = [reading.flatten(case.truth) for case in found]
    tokenizer = session.model.tokenizer
    return Point(
        mode=mode,
        side=known.side,
        places=places,
        density=density,
        pages=len(found),
        characters=sum(map(len, texts)) / len(texts),
        words=sum(len(tokenizer.encode(text)) for text in texts) / len(texts),
        right=right,
        low=low,
        high=high,
    )


def read_right(counts: Sequence[tuple[int, int]], *, seed: int = 0) -> tuple[float, float, float]:
    """Characters read right as a rate, and its 95 % interval when pages are drawn anew with replacement.

    counts: (edits, characters) of every page. Errors of one page hang together, so pages are drawn and not characters.
    """
    rng = random.Random(seed)
    drawn = sorted(_right(rng.choices(counts, k=len(counts))) for _ in range(DRAWS))
    return _right(counts), drawn[round(0.025 * DRAWS)], drawn[round(0.975 * DRAWS) - 1]


def _right(counts: Sequence[tuple[int, int]]) -> float:
    wrong, all_of_them = (sum(column) for column in zip(*counts, strict=True))
    return max(0.0, 1 - wrong / max(1, all_of_them))


def table(points: Sequence[Point]) -> list[str]:
    """The points as a table for a document, and a word on the mode that was not trained where it reads worse."""
    lines = [
        "| mode | vision tokens | characters a vision token | text tokens a vision token | read right | pages "
        "| 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in points:
        lines.append(
            f"| {point.mode}, {point.side} px | {point.places} | {point.characters / point.places:.1f} "
            f"| {point.words / point.places:.2f} | {100 * point.right:.1f} % | {point.pages} "
            f"| {100 * point.low:.0f}–{100 * point.high:.0f} % |"
        )
    usual = {point.density: point for point in points if point.mode == TRAINED}
    pairs = [(point, usual[point.density]) for point in points if point.mode != TRAINED and point.density in usual]
    for mode in dict.fromkeys(point.mode for point, _ in pairs):
        worse = [one.density for one, other in pairs if one.mode == mode and one.right < other.right]
        if worse:
            listed = ", ".join(map(str, worse))
            lines.append(
                f"\n{mode.title()} reads less than {TRAINED.title()} at {listed} characters a vision token: the eyes "
                f"were trained in {TRAINED.title()} mode alone."
            )
    return lines


def draw(points: Sequence[Point]) -> str:
    """The curve as SVG, a line a mode with its intervals."""
    lines = []
    for mode in dict.fromkeys(point.mode for point in points):
        own = [point for point in points if point.mode == mode]
        note = "" if mode == TRAINED else ", not trained"
        lines.append(
            Line(
                f"{mode.title()}, {own[0].places} tokens{note}",
                tuple((point.characters / point.places, 100 * point.right) for point in own),
                tuple((100 * point.low, 100 * point.high) for point in own),
            )
        )
    title = "How much of a page is read right"
    return chart(
        lines,
        title=title,
        x="characters a vision token",
        y="read right, %",
        log_x=True,
        legend="bottom",
        bounds_y=(0, 100),
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, print and draw; returns the exit status."""
    from dsv4.studio import Studio

    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.reading_curve", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder made by `dsv4 data build`")
    parser.add_argument("-o", "--out", required=True, type=Path, help="an SVG file; a .json with the figures is beside")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--modes", default="tiny,small", help="modes without tiles, with commas between")
    parser.add_argument("--densities", default="1,2,4,8", help="characters a vision token, with commas between")
    parser.add_argument("--limit", type=int, default=12, help="pages of each kind (default 12)")
    args = parser.parse_args(argv)
    modes = [name.strip() for name in args.modes.split(",")]
    for name in modes:
        if name not in part("vision").MODES:
            raise unknown("mode", name, part("vision").MODES)
        if part("vision").MODES[name].tile:
            raise InputError(f"mode '{name}' cuts pages into tiles; the curve is drawn for modes of one view")
    if not all(text.strip().isdigit() and int(text) for text in args.densities.split(",")):
        raise InputError(f"--densities takes whole numbers above zero with commas between, got '{args.densities}'")
    session = Session(studio=Studio.load(args.model), data_dir=args.data, limit=args.limit)
    points = []
    for mode in modes:
        for density in map(int, args.densities.split(",")):
            started = time.monotonic()
            try:
                points.append(measure(session, mode, density))
            except InputError:
                raise
            except ValueError as error:
                print(f"{mode}: these eyes do not take it: {error}", file=sys.stderr)
                break
            took = time.monotonic() - started
            print(f"{mode} {density}: {100 * points[-1].right:.1f} %, {took:.0f} s", file=sys.stderr)
    if not points:
        raise InputError("no page was read: these eyes take none of the modes asked for")
    print("\n".join(table(points)))
    args.out.write_text(draw(points), encoding="utf-8")
    kept = json.dumps([asdict(point) for point in points], indent=1)
    args.out.with_suffix(".json").write_text(kept + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
