"""`dsv4 eval claims`: what the papers say of the core's parts, reproduced small: a table and a plot for each claim.

Sizes are for one CPU core and minutes; `--scale 10` trains ten times larger and longer. Every figure is the mean over
seeds with the least and the greatest beside it. Shape letters: B batch, T tokens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dsv4.errors import InputError, unknown
from dsv4.eval.claims_kit import Finding, Setting
from dsv4.eval.plot import chart


def claims() -> dict[str, Callable[[Setting], Iterator[Finding]]]:
    """Every claim by name, in the order in which they run."""
    from dsv4.eval import claims_cost, claims_trained

    return {
        "rows": claims_cost.fp8_rows,
        "mhc": claims_cost.lanes_gain,
        "cost": claims_cost.sparse_cost,
        "engram": claims_trained.memory_share,
        "needle": claims_trained.memory_needle,
        "dsa": claims_trained.sparse_quality,
        "vvpa": claims_trained.turned_values,
    }


def main(args: argparse.Namespace) -> int:
    """Run the claims asked for; `args` has only, seeds, scale, device and out. Returns the exit status."""
    known = claims()
    wanted = list(known) if args.only is None else args.only.split(",")
    for name in wanted:
        if name not in known:
            raise unknown("claim", name, known)
    if args.seeds < 1 or args.scale < 1:
        raise InputError(f"--seeds and --scale are whole numbers of at least 1, got {args.seeds} and {args.scale}")
    import torch

    torch.set_num_threads(1)
    setting = Setting(scale=args.scale, seeds=tuple(range(args.seeds)), device=args.device or "cpu")
    for name in wanted:
        started = time.thread_time()
        for number, finding in enumerate(known[name](setting), start=1):
            print(finding.markdown(), flush=True)
            if args.out:
                _write(Path(args.out), name if number == 1 else f"{name}_{number}", finding)
        print(f"<!-- {name}: {time.thread_time() - started:.0f} s of one core -->\n", flush=True)
    return 0


def _write(folder: Path, name: str, finding: Finding) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = chart(finding.lines, title=finding.title, x=finding.x, y=finding.y, log_x=finding.log_x,
                    log_y=finding.log_y)  # fmt: skip
    (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
    kept = {"title": finding.title, "columns": finding.columns, "rows": finding.rows}
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
