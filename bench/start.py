"""How soon the program answers: `dsv4 --help`, and the page from its start to its first answer.

Run `python bench/start.py [--runs 9]`. Seconds on the clock and of the processor, the median of several starts; the
page is served without a model, and must not have loaded torch by then.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HELP_GOAL, PAGE_GOAL = 0.3, 7.0  # seconds on the clock, seconds of the processor


def help_seconds() -> tuple[float, float]:
    """(clock, processor) seconds of one `dsv4 --help`."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "dsv4", "--help"], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, spent


def page_seconds() -> tuple[float, float, bool]:
    """(clock, processor) seconds until the page is there, and whether torch was loaded by then."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "dsv4", "serve", "--port", "0", "--model", "echo"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert child.stdout is not None
        line = next(line for line in child.stdout if line.startswith("Open http"))
        with urllib.request.urlopen(line.split()[1], timeout=60) as page:
            assert page.status == 200
        clock = time.perf_counter() - begun
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        spent = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return clock, spent, "libtorch" in Path(f"/proc/{child.pid}/maps").read_text()
    finally:
        child.terminate()
        child.wait()


def main() -> int:
    """Measure and print; status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--help-only", action="store_true", help="leave the page out")
    args = parser.parse_args()
    runs = [help_seconds() for _ in range(args.runs)]
    clock, spent = (statistics.median(one) for one in zip(*runs, strict=True))
    print(f"dsv4 --help      {clock:.2f} s on the clock, {spent:.2f} s of the processor (goal {HELP_GOAL} s)")
    missed = clock > HELP_GOAL
    if not args.help_only:
        pages = [page_seconds() for _ in range(max(1, args.runs // 3))]
        clock, spent = (statistics.median(one) for one in list(zip(*pages, strict=True))[:2])
        torch = any(one[2] for one in pages)
        says = f"(goal {PAGE_GOAL} s), {'torch was loaded' if torch else 'no torch'}"
        print(f"page after start {clock:.2f} s on the clock, {spent:.2f} s of the processor {says}")
        missed = missed or spent > PAGE_GOAL or torch
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
