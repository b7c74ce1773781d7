"""`dsv4 eval nano`: the score table on held-out cases, with counts and intervals, and what the memory is worth."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from dsv4.errors import unknown
from dsv4.eval.growth import GROWTH
from dsv4.eval.intervals import wilson
from dsv4.eval.rows import ROWS, Row, Score, Session

LIMIT = 200
# The rows that are measured again with Engram's rows at zero.
REMEMBERED = ("icon", "definition")
PROBES = ("red heart icon", "a tiger", "what is a heron?")


def main(args: argparse.Namespace) -> int:
    """Print the table; `args` has model, data, rows, limit, device, out. Returns the exit status."""
    from dsv4.studio import Studio

    chosen = choose(args.rows, growth=args.growth)
    studio = Studio.load(args.model)
    if args.device and args.device != "cpu":
        for module in studio.model.parts().values():
            module.to(args.device)
    limit = args.limit or LIMIT
    session = Session(studio=studio, data_dir=Path(args.data), limit=limit)
    lines = [header("goal" if args.growth else "first light with a card")]
    print(lines[0], flush=True)
    records: list[dict[str, Any]] = []
    for row in chosen:
        started = time.monotonic()
        session.limit = max(1, round(limit * row.share))
        score = row.run(session)
        lines.append(line(row.title, row.wanted, score))
        records.append({"row": row.key, "hits": score.hits, "count": score.count, "rate": score.rate})
        print(lines[-1], f"<!-- {time.monotonic() - started:.0f} s -->", flush=True)
    if args.rows is None and not args.growth:
        session.limit = limit
        lines += memory_lines(session)
        print("\n".join(lines[-len(REMEMBERED) - 1 :]), flush=True)
    if args.out:
        Path(args.out).write_text("\n".join(lines) + "\n" + json.dumps(records) + "\n")
    return 0


def choose(names: str | None, *, growth: bool = False) -> list[Row]:
    """The rows of a comma-separated list, all without one; InputError names the nearest for an unknown row.

    growth: of the second table, what nano is to grow into.
    """
    table = GROWTH if growth else ROWS
    if names is None:
        return list(table)
    by_key = {row.key: row for row in table}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in by_key:
            raise unknown("row", name, by_key)
    return [by_key[name] for name in wanted]


def header(wanted: str) -> str:
    """The head of the table, two lines; `wanted` is what the figures are held against."""
    return f"| row | {wanted} | nano | cases | 95 % interval |\n|---|---|---|---|---|"


def line(title: str, wanted: str, score: Score) -> str:
    """One row of the table."""
    if score.rate is not None:
        return f"| {title} | {wanted} | {100 * score.rate:.1f} % | {score.count} | – |"
    low, high = wilson(score.hits, score.count)
    share = 100 * score.hits / max(1, score.count)
    return f"| {title} | {wanted} | {share:.1f} % | {score.count} | {100 * low:.0f}–{100 * high:.0f} % |"


def memory_lines(session: Session) -> list[str]:
    """What is left when Engram's rows are zero, and whether its three homes give the same logits."""
    by_key = {row.key: row for row in ROWS}
    lines = []
    for key in REMEMBERED:
        with session.model.core.zero_memory():
            lines.append(line(f"{by_key[key].title}, Engram's rows zeroed", "the drop", by_key[key].run(session)))
    apart = homes_apart(session.model)
    return [
        *lines,
        f"| largest difference of logits, rows in host memory and mapped | 0 | {apart:g} | {len(PROBES)} | – |",
    ]


def homes_apart(model: Any) -> float:
    """The largest difference between logits with Engram's rows on the device, in host memory, and memory-mapped."""
    import torch

    device = model.core.embedding.weight.device
    ids = [torch.tensor([model.tokenizer.encode(prompt)], device=device) for prompt in PROBES]

    def logits() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [model.core(ids_BT).logits_BTV for ids_BT in ids]

    expected, apart = logits(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for home in ("host", "mapped"):
            model.core.place_memory(home, folder)
            apart = max(apart, *(float((a - b).abs().max()) for a, b in zip(logits(), expected, strict=True)))
        model.core.place_memory("device")
    return apart
