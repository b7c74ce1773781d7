"""How long each verb takes on this machine: the median of several runs, and the first answer after loading.

Run `python bench/verbs.py [--model NAME] [--runs N]`; it prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import dsv4


def verbs(studio: Any) -> dict[str, Callable[[], Any]]:
    """One ordinary request for each verb."""
    return {
        "chat": lambda: studio.chat("What is a heron?").reply,
        "svg": lambda: studio.svg("red heart icon"),
        "image": lambda: studio.image("a tiger", steps=4),
        "video": lambda: studio.video("a soccer ball bouncing", seconds=2, steps=4),
    }


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("DSV4_MODEL", "nano"))
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}))
    started = time.perf_counter()
    studio = dsv4.load(args.model)
    print(json.dumps({"verb": "load", "seconds": round(time.perf_counter() - started, 6)}))
    for name, work in verbs(studio).items():
        first = seconds(work)
        later = [seconds(work) for _ in range(args.runs)]
        row = {"verb": name, "first": round(first, 6), "median": round(statistics.median(later), 6)}
        print(json.dumps({**row, "slowest": round(max(later), 6), "runs": args.runs}), flush=True)


if __name__ == "__main__":
    main()
