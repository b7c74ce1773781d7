"""`dsv4 bench engram`: how long a step waits for rows of Engram that do not fit where it is computed.

A simulation, on one machine: the device is one computing thread with a budget for tables, and the tables are some times
larger and lie in a file. Before every step all their pages are forgotten, so that every row comes from the disk; a real
host memory, or a cache of hot rows, does better. Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dsv4.errors import InputError

WARM_UP, PROMPT = 3, 128
LAYERS, MEMORY = 10, (1, 6)  # blocks, and those of them with memory
ORDERS, HEADS, WIDTH = 2, 8, 64


def main(argv: list[str] | None = None) -> int:
    """Measure the three ways in turns, print a table."""
    parser = argparse.ArgumentParser(prog="dsv4 bench engram", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", type=float, default=32.0, help="MB for tables on the simulated device (default 32)")
    parser.add_argument("--times", type=float, default=10.0, help="how many budgets the tables take (default 10)")
    parser.add_argument("--tokens", type=int, default=32, help="steps timed (default 32)")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the model around them (default 1024)")
    parser.add_argument("--folder", metavar="DIR", help="where the tables lie for the time (default: temporary)")
    args = parser.parse_args(argv)
    if args.budget <= 0 or args.times < 1 or args.tokens < 1 or args.hidden < 64 or args.hidden % 64:
        raise InputError("--budget is above 0, --times and --tokens at least 1, --hidden a multiple of 64")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="dsv4-engram-") as place:
        size = args.budget * args.times * 1e6
        made = measure(Path(place), size=size, tokens=args.tokens, hidden=args.hidden)
    told = made["bytes"] / 1e6
    print(f"simulated: {told:.0f} MB of tables, {told / args.budget:.1f} times the budget of {args.budget:g} MB; "
          f"{made['rows']} rows a token, all of them cold; one thread computes, others fetch\n")  # fmt: skip
    print("| tables | what | ms a step | waiting for rows, ms | share of the step | same logits |")
    print("|---|---|---|---|---|---|")
    for one in made["ways"]:
        waits = ("–", "–") if one["waited"] is None else (
            f"{1e3 * one['waited']:.3f}", f"{100 * one['waited'] / one['seconds']:.2f} %")  # fmt: skip
        print(
            f"| {one['way']} | {one['what']} | {1e3 * one['seconds']:.1f} | {waits[0]} | {waits[1]} | {one['same']} |"
        )
    return 0


def measure(folder: Path, *, size: float, tokens: int, hidden: int) -> dict[str, Any]:
    """Steps and a prompt with tables resident, in a file without prefetch, and in a file with it."""
    import torch

    torch.set_num_threads(1)
    core = _core(size, hidden)
    tables = [engram.table for _, engram in core._engrams()]
    about = {"bytes": sum(one.weight.numel() * one.weight.element_size() for one in tables),
             "rows": ORDERS * HEADS * len(MEMORY), "ways": []}  # fmt: skip
    ids_BT = torch.randint(0, core.config.vocab_size, (1, PROMPT + WARM_UP + tokens),
                           generator=torch.Generator().manual_seed(1))  # fmt: skip
    expected = None
    for way in ("resident, for comparison", "file, fetched when asked for", "file, fetched ahead"):
        if way.startswith("file") and tables[0].home != "mapped":
            core.place_memory("mapped", folder)
        for table in tables:  # a table that does not say where it lies is read when it is asked for
            table.home = "mapped" if way.endswith("ahead") else "device"
        found, taken = _run(core, tables, folder, ids_BT)
        expected = found if expected is None else expected
        same = "yes" if torch.equal(found, expected) else "no"
        for what, (seconds, waited) in taken.items():
            waited = waited if way.endswith("ahead") else None
            about["ways"].append({"way": way, "what": what, "seconds": seconds, "waited": waited, "same": same})
    return about


def _run(core: Any, tables: list[Any], folder: Path, ids_BT: Any) -> tuple[Any, dict[str, tuple[float, float]]]:
    """Logits [B, T, V] of all steps, and (seconds, seconds waited) of a step in the mean and of the prompt."""
    import torch

    cache, logits, spent, waits = core.new_cache(1, ids_BT.shape[1]), [], [], []
    with torch.inference_mode():
        for step in range(PROMPT - 1, ids_BT.shape[1]):
            given = ids_BT[:, :PROMPT] if step == PROMPT - 1 else ids_BT[:, step : step + 1]
            _forget(tables, folder)
            before, begun = sum(one.meter.waited for one in tables), time.perf_counter()
            logits.append(core(given, cache=cache, last_only=True).logits_BTV)
            spent.append(time.perf_counter() - begun)
            waits.append(sum(one.meter.waited for one in tables) - before)
    first = 1 + WARM_UP
    steps = len(spent) - first
    return torch.cat(logits, 1), {
        "one token": (sum(spent[first:]) / steps, sum(waits[first:]) / steps),
        f"a prompt of {PROMPT}": (spent[0], waits[0]),
    }


def _forget(tables: list[Any], folder: Path) -> None:
    """Put every page of the tables out of memory."""
    for table in tables:
        table.let_go()
    for path in folder.glob("*.rows"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _core(size: float, hidden: int) -> Any:
    """A random model in bfloat16 whose tables take about `size` bytes together."""
    import torch

    from dsv4.core.config import AttentionConfig, CoreConfig, EngramConfig, ExpertsConfig, LanesConfig
    from dsv4.core.model import LanguageCore

    rows = max(64, int(size / (len(MEMORY) * ORDERS * HEADS * WIDTH * 2)))
    config = CoreConfig(
        vocab_size=4096, hidden=hidden, reach=("sparse",) * LAYERS,
        attention=AttentionConfig(heads=16, entry=128, rotated=64, q_rank=hidden // 2, groups=4, o_rank=hidden // 4,
                                  window=64, top_k=64, index_heads=4, index_size=64, index_rotated=32),
        experts=ExpertsConfig(count=16, chosen=4, inner=hidden // 2, shared_inner=hidden),
        lanes=LanesConfig(count=4),
        engram=EngramConfig(layers=MEMORY, rows=rows, width=WIDTH, heads=HEADS),
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        core = LanguageCore.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    return core.bfloat16().eval().requires_grad_(False)


if __name__ == "__main__":
    sys.exit(main())
