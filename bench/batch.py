"""What micro-batching gains: mixed rows one call after another, and the same rows as a batch makes them.

Run `python bench/batch.py [--rows 1000] [--model nano] [--out FILE.jsonl]`. CPU seconds of one thread, both ways in one
process, task by task; equality of the results is checked first, and memory is read after every commit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dsv4
from dsv4.batch import run_batch

NOUNS = (
    "heart star house tree bell book key lock cup car moon sun cat dog fish bird tiger rocket apple banana guitar "
    "heron spoon ladder anchor bridge candle drum feather garden hammer island jacket kettle lemon mirror needle"
).split()
COLOURS = "red blue green black orange purple yellow pink".split()
SHARES = {"chat": 0.45, "svg": 0.45, "image": 0.09, "video": 0.01}  # of the rows


def mixed_rows(count: int) -> dict[str, list[dict[str, Any]]]:
    """Rows by task: definitions, icons and scenes, pictures, and a few half-second clips; no row twice."""
    pairs = list(itertools.product(COLOURS, NOUNS))
    prompts = {
        "chat": [f"What is a {noun}?" for noun in NOUNS] + [f"What is {a} {noun}?" for a, noun in pairs],
        "svg": [f"{colour} {noun} icon" for colour, noun in pairs] + [f"a {noun}" for noun in NOUNS],
        "image": [f"a {colour} circle above a {other} square" for colour, other in itertools.product(COLOURS, COLOURS)],
        "video": [f"a {noun} spinning" for noun in NOUNS],
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for task, share in SHARES.items():
        wanted = max(1, round(count * share))
        more = {"seconds": 0.5, "steps": 4} if task == "video" else {}
        rows[task] = [
            {"id": f"{task}-{n}", "task": task, "prompt": prompts[task][n % len(prompts[task])], "seed": n, **more}
            for n in range(wanted)
        ]
    return rows


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def measured(studio: Any, rows: list[dict[str, Any]], size: int | None, memory: list[int]) -> tuple[float, dict]:
    """CPU seconds of a run, and every result: lines by id with the content of their files."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        run_batch(studio, rows, out=folder, batch_size=size, on_row=lambda _: memory.append(resident_bytes()))
        seconds = time.process_time() - begun
        lines = [json.loads(line) for line in (Path(folder) / "results.jsonl").open()]
        return seconds, {
            line["id"]: (line, (Path(folder) / line["file"]).read_bytes() if "file" in line else b"") for line in lines
        }


def warm_up(studio: Any, rows: dict[str, list[dict[str, Any]]]) -> None:
    """One row of every task, so that nothing is loaded while the clock runs."""
    with tempfile.TemporaryDirectory() as folder:
        run_batch(studio, [some[0] for some in rows.values()], out=folder)


def main() -> int:
    """Measure and print; status 1 when a result differs or memory grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", metavar="FILE")
    args = parser.parse_args()
    studio, rows = dsv4.load(args.model), mixed_rows(args.rows)
    if args.model != "echo":
        import torch

        torch.set_num_threads(1)
    warm_up(studio, rows)
    table: list[dict[str, Any]] = []
    memory: list[int] = []
    for task, some in rows.items():
        singly, alone = measured(studio, some, 1, [])
        seconds, many = measured(studio, some, None, memory)
        row = {"task": task, "rows": len(some), "singly_s": singly, "together_s": seconds}
        table.append({**row, "different": sum(alone[name] != many[name] for name in alone)})
    total = {key: sum(row[key] for row in table) for key in ("rows", "singly_s", "together_s", "different")}
    table.append({"task": "all", **total})
    print(f"{'task':<6} {'rows':>5} {'one by one':>11} {'together':>10} {'gain':>6} {'different':>10}")
    for row in table:
        gain = row["singly_s"] / max(row["together_s"], 1e-9)
        times = f"{row['singly_s']:>9.1f} s {row['together_s']:>8.1f} s"
        print(f"{row['task']:<6} {row['rows']:>5} {times} {gain:>5.1f}x {row['different']:>10}")
    early, late = max(memory[: len(memory) // 2] or [0]), max(memory)
    print(f"memory: at most {early / 1e6:.0f} MB in the first half of the commits, {late / 1e6:.0f} MB in all")
    if args.out:
        Path(args.out).write_text("".join(json.dumps(row) + "\n" for row in table))
    return int(total["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
