"""Training curves: the losses of a run by stage, on one logarithmic scale, one stage behind the other.

Run as `python -m dsv4.eval.curves RUN/log.jsonl -o docs/nano_curves.svg`. The log is what `dsv4.train.run` writes: a
line every few seconds with the stage, the step, the seconds since the stage began, and the losses of a kind of step.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from dsv4.errors import InputError, unknown
from dsv4.eval.plot import COLOURS, Border, Line, chart

PLACE = ("stage", "step", "done", "seconds")
UNDRAWN = ("loss", "balance")  # the sum of the others, and one that is to stay at 1
MOST = 240  # points of a line that are drawn

Row = dict[str, Any]


def read_log(text: str) -> list[Row]:
    """The lines of a log; those that a resumed stage did again are left out. InputError for what is no log.

    A last line that was cut off, as a kill leaves it, is left out too.
    """
    kept: list[Row] = []
    reached: dict[str, int] = {}
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            stage, step, _ = row["stage"], row["step"], row["seconds"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and kept:
                break
            raise InputError(f"line {number} of the log is not one that training writes: {line[:60]}") from error
        if step <= reached.get(stage, 0):
            kept = [one for one in kept if one["stage"] != stage or one["step"] < step]
        kept.append(row)
        reached[stage] = step
    if not kept:
        raise InputError("the log is empty: a stage writes its first line when it has taken a step")
    return _forwards(kept)


def _forwards(rows: list[Row]) -> list[Row]:
    """Rows whose seconds never go back: a stage's clock starts anew when its first steps have been compiled."""
    least: dict[str, float] = {}
    found = []
    for row in reversed(rows):
        least[row["stage"]] = min(row["seconds"], least.get(row["stage"], math.inf))
        found.append({**row, "seconds": least[row["stage"]]})
    return found[::-1]


def stages(rows: Sequence[Row]) -> dict[str, float]:
    """Where each stage begins, in minutes from the start, in the order in which they first log something."""
    begins, at = {}, 0.0
    for stage in dict.fromkeys(row["stage"] for row in rows):
        begins[stage] = at
        at += max(row["seconds"] for row in rows if row["stage"] == stage) / 60
    return begins


def losses(rows: Sequence[Row]) -> list[str]:
    """The names of what was minimised, in the order in which they come."""
    names = dict.fromkeys(key for row in rows for key in row if key not in (*PLACE, *UNDRAWN))
    return list(names) or ["loss"]


def lines(rows: Sequence[Row], names: Sequence[str], *, smooth: float) -> list[Line]:
    """A smoothed line for every loss and stage, over a faint one of the figures themselves.

    smooth: the share of a stage's figures that a mean of logarithms goes over, 0 for none.
    """
    begins, drawn = stages(rows), []
    for number, name in enumerate(names):
        colour, first = COLOURS[number % len(COLOURS)], True
        for stage, begin in begins.items():
            own = [row for row in rows if row["stage"] == stage and row.get(name, 0) > 0]
            if not own:
                continue
            across = [begin + row["seconds"] / 60 for row in own]
            raw = [row[name] for row in own]
            drawn.append(Line(name, thinned(across, raw), faint=True, colour=colour))
            mean = smoothed(raw, round(smooth * len(raw)))
            drawn.append(Line(name, thinned(across, mean), dots=len(own) == 1, colour=colour, named=first))
            first = False
    return drawn


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The geometric mean of the values around each, `window` of them where there are as many."""
    sums = list(accumulate(map(math.log, values), initial=0.0))
    found = []
    for place in range(len(values)):
        half = min(window // 2, place, len(values) - 1 - place)  # as far to both sides, so that ends do not lag
        found.append(math.exp((sums[place + half + 1] - sums[place - half]) / (2 * half + 1)))
    return found


def thinned(across: Sequence[float], up: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """At most `MOST` points, the last one among them."""
    step = math.ceil(len(across) / MOST)
    return tuple(zip(across, up, strict=True))[::-1][::step][::-1]


def table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """What each stage took and where its losses ended, the last tenth of each averaged."""
    said = ["| stage | steps | minutes | losses at the end |", "|---|---|---|---|"]
    for stage in stages(rows):
        own = [row for row in rows if row["stage"] == stage]
        ends = []
        for name in names:
            values = [row[name] for row in own if row.get(name, 0) > 0]
            if values:
                last = values[-max(1, len(values) // 10) :]
                ends.append(f"{name} {sum(last) / len(last):.3g}")
        steps, minutes = max(row["step"] for row in own), max(row["seconds"] for row in own) / 60
        said.append(f"| {stage} | {steps:,} | {minutes:.1f} | {', '.join(ends) or '–'} |")
    return said


def main(argv: list[str] | None = None) -> int:
    """Read, print and draw; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.curves", description=__doc__)
    parser.add_argument(
        "logs", type=Path, nargs="+", help="log.jsonl of a run, or of several; a stage that comes again replaces itself"
    )
    parser.add_argument("-o", "--out", required=True, type=Path, help="an SVG file")
    parser.add_argument("--losses", help="only these, with commas between (default: all but the sum)")
    parser.add_argument("--smooth", type=float, default=0.06, help="share of a stage that a mean goes over (0.06)")
    args = parser.parse_args(argv)
    try:
        rows = read_log("\n".join(path.read_text(encoding="utf-8").rstrip("\n") for path in args.logs))
    except OSError as error:
        raise InputError(f"cannot read the log: {error}") from error
    names = losses(rows) if args.losses is None else [name.strip() for name in args.losses.split(",")]
    for name in names:
        if not any(name in row for row in rows):
            raise unknown("loss", name, [*losses(rows), *UNDRAWN])
    borders = tuple(Border(x=begin, name=stage) for stage, begin in stages(rows).items())
    drawn = chart(
        lines(rows, names, smooth=args.smooth),
        title="Losses while nano was trained",
        x="minutes of training, one stage behind the other",
        y="loss",
        log_y=True,
        borders=borders,
        legend="beside",
        width=860,
    )
    args.out.write_text(drawn, encoding="utf-8")
    print("\n".join(table(rows, names)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
