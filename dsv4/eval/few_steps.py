"""The head at fewer steps beside its usual many: the same cases, seeds and judges, one column a number of steps.

Run as `python -m dsv4.eval.few_steps --data build/data`. Source: rows and judges of `rows`, whose cases are held out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dsv4.errors import InputError, unknown
from dsv4.eval import clips, pictures, shapescore
from dsv4.eval.intervals import wilson
from dsv4.eval.rows import CLIP, PICTURE, Session
from dsv4.eval.run_model import make_frames
from dsv4.limits import RANGES

Make = Callable[[list[str], dict[str, int]], list[np.ndarray]]


def _shapes(session: Session, make: Make) -> list[bool]:
    hits = []
    for category in shapescore.CATEGORIES:
        found = shapescore.cases(session.data_dir, category, limit=max(1, session.limit // 6))
        made = make([case.prompt for case in found], PICTURE)
        hits += [shapescore.judge(case, frames[0]) for case, frames in zip(found, made, strict=True)]
    return hits


def _things(kind: str, session: Session, make: Make) -> list[bool]:
    found = pictures.cases(session.data_dir, kind, limit=session.limit)
    made = make([case.prompt for case in found], PICTURE)
    return [pictures.judge(case, frames[0], session.nearest) for case, frames in zip(found, made, strict=True)]


def _clips(kind: str, session: Session, make: Make) -> list[bool]:
    found = clips.cases(session.data_dir, kind, limit=max(1, session.limit // 3))
    made = make([case.prompt for case in found], CLIP)
    return [clips.judge(case, frames, session.nearest) for case, frames in zip(found, made, strict=True)]


ROWS: dict[str, Callable[[Session, Make], list[bool]]] = {
    "shapes": _shapes,
    **{kind: partial(_things, kind) for kind in pictures.KINDS},
    **{f"clip_{kind}": partial(_clips, kind) for kind in ("name", "motion", "two")},
}


def compare(session: Session, steps: Sequence[int], rows: Sequence[str], *, guidance: float) -> dict[str, Any]:
    """Hits of count, and seconds to make them, for every row and number of steps; each line is printed as it comes."""
    table: dict[str, Any] = {}
    for row in rows:
        for count in steps:
            spent = [0.0]

            def make(prompts: list[str], shape: dict[str, int], *, count: int = count, spent: list = spent) -> list:
                started = time.monotonic()
                many = 8 if shape["frames"] > 1 else 32
                made = make_frames(session.model, prompts, steps=count, guidance=guidance, rows=many, **shape)
                spent[0] += time.monotonic() - started
                return made

            hits = ROWS[row](session, make)
            low, high = wilson(sum(hits), len(hits))
            told = {"hits": sum(hits), "count": len(hits), "seconds": round(spent[0] / len(hits), 2)}
            table.setdefault(row, {})[str(count)] = told
            print(
                f"{row:<12} {count:>2} steps  {sum(hits):>3} of {len(hits):<3}  "
                f"95 %: {100 * low:.0f}-{100 * high:.0f} %  {told['seconds']:.2f} s each",
                flush=True,
            )
    return table


def main(argv: list[str] | None = None) -> int:
    """Print the comparison, and write it as JSON where asked to."""
    from dsv4.studio import Studio

    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.few_steps", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder made by `dsv4 data build`")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", default="1,2,4,8", help="numbers of steps, with commas between")
    parser.add_argument("--rows", help="only these, with commas between: " + ", ".join(ROWS))
    parser.add_argument("--limit", type=int, default=60, help="pictures a row; clips are a third of it")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    args = parser.parse_args(argv)
    try:
        steps = [int(text) for text in args.steps.split(",")]
    except ValueError:
        raise InputError(f"--steps takes whole numbers with commas between, got '{args.steps}'") from None
    allowed = RANGES["steps"]
    if not all(allowed.low <= count <= allowed.high for count in steps):
        raise InputError(f"--steps: each must be from {allowed.low} to {allowed.high}, got '{args.steps}'")
    rows = list(ROWS) if args.rows is None else [name.strip() for name in args.rows.split(",")]
    for name in rows:
        if name not in ROWS:
            raise unknown("row", name, ROWS)
    session = Session(studio=Studio.load(args.model), data_dir=args.data, limit=args.limit)
    table = compare(session, steps, rows, guidance=args.guidance)
    if args.out:
        args.out.write_text(json.dumps({"guidance": args.guidance, "rows": table}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
