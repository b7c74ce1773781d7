"""The eyes, mode by mode: processor time and memory beyond the weights, beside transformers' port of the same network.

Run `dsv4 bench vision [--against transformers] [--size full] [--modes tiny,small,base,large] [--jsonl FILE]`. Both hold
the same random weights in one process; results are compared first, then runs alternate. The goal is at most 0.8 of the
port's time and half of its memory at 1024 and 1280 pixels.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
PEERS = ("transformers",)
SIZES = ("full", "nano", "micro")
LIMITS = {"float32": 3e-6, "bfloat16": 5e-2}  # relative L2 between the two; bfloat16 has eight bits to agree in


def memory(key: str) -> float:
    """A line of /proc/self/status in MiB, or NaN where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor and the most MiB held beyond what was held before."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark falls to what is held now
    except OSError:
        pass
    before = memory("VmRSS")
    started = time.process_time()
    work()
    return time.process_time() - started, memory("VmHWM") - before


def rows(args: argparse.Namespace) -> Any:
    """One dictionary a mode."""
    import torch

    from dsv4._parts import part

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    vision = part("vision")
    dtype = getattr(torch, args.dtype)
    encoder = vision.DeepEncoder(getattr(vision.DeepEncoderConfig, args.size)()).eval().requires_grad_(False).to(dtype)
    peer: Any = None
    if args.against:
        from dsv4.bench.eyes_peer import peer_of

        peer = peer_of(encoder)
    for name in args.modes.split(","):
        mode = vision.get_mode(name)
        pixels = torch.rand(1, 3, mode.side, mode.side).to(dtype) * 2 - 1
        with torch.inference_mode():
            row = {"mode": name, "side": mode.side, "tokens": mode.num_tokens(mode.side, mode.side).sequence}
            ours = encoder.features(pixels)
            if peer is not None:
                wanted = peer(pixels).last_hidden_state.float()
                apart = float((ours.float() - wanted).norm() / wanted.norm())
                if not apart <= LIMITS[args.dtype]:
                    raise SystemExit(f"mode {name}: the two differ by {apart:.1e}, so their times mean nothing")
                row |= {"apart": apart, "peer": []}
            row["ours"] = []
            for _ in range(args.runs):
                row["ours"].append(measured(lambda: encoder.features(pixels)))  # noqa: B023 (called at once)
                if peer is not None:
                    row["peer"].append(measured(lambda: peer(pixels)))  # noqa: B023
        yield row


def best(runs: list[tuple[float, float]]) -> tuple[float, float]:
    """The least time and the least memory of several runs: what disturbs only adds."""
    return min(seconds for seconds, _ in runs), min(held for _, held in runs)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", choices=PEERS)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--modes", default="tiny,small,base,large")
    parser.add_argument("--dtype", choices=LIMITS, default="float32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jsonl", metavar="FILE", help="also write every run here")
    args = parser.parse_args(argv)
    cores = os.cpu_count()
    print(f"{args.size}, {args.dtype}, {args.threads} thread(s) of {cores} cores, {platform.machine()}")
    titles = ["mode", "tokens", "ours s", "ours MiB"]
    titles += ["peer s", "peer MiB", "time", "memory", "apart"] if args.against else []
    print(" | ".join(f"{title:>8}" for title in titles))
    for row in rows(args):
        seconds, held = best(row["ours"])
        cells = [row["mode"], row["tokens"], f"{seconds:.2f}", f"{held:.0f}"]
        if args.against:
            theirs, kept = best(row["peer"])
            share = held / kept if kept else float("nan")
            cells += [f"{theirs:.2f}", f"{kept:.0f}", f"{seconds / theirs:.2f}x", f"{share:.2f}x"]
            cells.append(f"{row['apart']:.0e}")
        print(" | ".join(f"{cell:>8}" for cell in cells), flush=True)
        if args.jsonl:
            with Path(args.jsonl).open("a") as file:
                file.write(json.dumps({**row, "size": args.size, "dtype": args.dtype, "threads": args.threads}) + "\n")


if __name__ == "__main__":
    main()
