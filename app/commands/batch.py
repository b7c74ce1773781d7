"""`dsv4 batch run|status|validate`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import dsv4
from dsv4.batch import batch_status, read_rows, run_batch
from dsv4.results import BatchReport

from ..settings import resolve

SOME_FAILED, INTERRUPTED = 3, 130


def run(args: argparse.Namespace) -> int:
    """Run what is left. The first Ctrl-C lets the row in flight finish, the second one stops at once."""
    read_rows(args.jobs)  # a fault of the whole file is found before the model is loaded
    studio = dsv4.load(resolve("model", args.model).value)
    asked = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        if not args.quiet:
            print("finishing the row in flight; Ctrl-C again stops at once", file=sys.stderr)

    def on_row(report: BatchReport) -> None:
        if not args.quiet and not args.json and sys.stderr.isatty():
            print(f"{report.done + report.failed} of {report.total}", end="\r", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        report = run_batch(
            studio, args.jobs, out=args.out, retry_failed=args.retry_failed, on_row=on_row, cancelled=asked.is_set
        )
    finally:
        signal.signal(signal.SIGINT, before)
    _print(args, report)
    if not report.complete:
        return INTERRUPTED
    return SOME_FAILED if report.failed else 0


def status(args: argparse.Namespace) -> int:
    """Print how a batch stands."""
    _print(args, batch_status(args.out))
    return 0


def validate(args: argparse.Namespace) -> int:
    """Print every fault with its line; status 3 when some rows would fail."""
    rows, _ = read_rows(args.jobs)
    faults = [{"line": row.line, "id": row.id or None, "error": row.fault} for row in rows if row.fault]
    if args.json:
        print(json.dumps({"rows": len(rows), "faults": faults}, ensure_ascii=False))
    else:
        for fault in faults:
            print(f"line {fault['line']}: {fault['error']}")
        if not args.quiet:
            print(f"{len(rows)} rows, {len(faults)} of them wrong")
    return SOME_FAILED if faults else 0


def _print(args: argparse.Namespace, report: BatchReport) -> None:
    left = report.total - report.done - report.failed
    if args.json:
        record: dict[str, Any] = {"done": report.done, "failed": report.failed, "left": left, "total": report.total}
        print(json.dumps({**record, "out": str(report.out)}))
    elif not args.quiet:
        print(f"{report.done} done, {report.failed} failed, {left} left of {report.total} in {Path(report.out)}")
