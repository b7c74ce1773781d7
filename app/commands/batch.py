"""`dsv4 batch run|status|validate|export`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import dsv4
from dsv4.batch import batch_status, export_batch, read_rows, run_batch
from dsv4.batch.export import check_export
from dsv4.batch.jobs import index_rows
from dsv4.results import BatchReport

from ..settings import resolve

SOME_FAILED, INTERRUPTED = 3, 130


def run(args: argparse.Namespace) -> int:
    """Run what is left. The first Ctrl-C lets the rows in flight finish, the second one stops at once."""
    index_rows(args.jobs).close()  # a fault of the whole file is found before the model is loaded
    backend, workers = resolve("backend", args.backend).value, resolve("workers", args.workers).value
    studio = dsv4.load(resolve("model", args.model).value)

    def on_row(report: BatchReport) -> None:
        if not args.quiet and not args.json and sys.stderr.isatty():
            print(f"{report.done + report.failed} of {report.total}", end="\r", file=sys.stderr, flush=True)

    with _asked_to_stop(quiet=args.quiet) as asked:
        report = run_batch(
            studio,
            args.jobs,
            out=args.out,
            retry_failed=args.retry_failed,
            on_row=on_row,
            cancelled=asked.is_set,
            seed=args.seed,
            batch_size=args.batch_size,
            backend=backend,
            workers=workers or None,
        )
    _print(args, report)
    if not report.complete:
        return INTERRUPTED
    return SOME_FAILED if report.failed else 0


@contextmanager
def _asked_to_stop(*, quiet: bool) -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second one is an interrupt as usual."""
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        if not quiet:
            print("finishing the rows in flight; once more stops at once", file=sys.stderr)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(args: argparse.Namespace) -> int:
    """Print how a batch stands."""
    _print(args, batch_status(args.out))
    return 0


def validate(args: argparse.Namespace) -> int:
    """Print every fault with its line; status 3 when some rows would fail."""
    rows, _ = read_rows(args.jobs)
    faults = [{"line": row.line, "id": row.id or None, "error": row.fault} for row in rows if row.fault]
    if args.json:
        print(json.dumps({"rows": len(rows), "faults": faults}))
    else:
        for fault in faults:
            print(_one_line(f"line {fault['line']}: {fault['error']}"))
        if not args.quiet:
            print(f"{len(rows)} rows, {len(faults)} of them wrong")
    return SOME_FAILED if faults else 0


def export(args: argparse.Namespace) -> int:
    """Write the results that are there as one table, a row each."""
    check_export(args.output)
    count = export_batch(args.out, args.output)
    if args.json:
        print(json.dumps({"rows": count, "file": args.output}))
    elif not args.quiet:
        print(f"{count} rows in {args.output}")
    return 0


def _one_line(text: str) -> str:
    """What a row says may hold anything; a terminal should see it as text on one line."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _print(args: argparse.Namespace, report: BatchReport) -> None:
    left = report.total - report.done - report.failed
    if args.json:
        record: dict[str, Any] = {"done": report.done, "failed": report.failed, "left": left, "total": report.total}
        print(json.dumps({**record, "out": str(report.out)}))
    elif not args.quiet:
        print(f"{report.done} done, {report.failed} failed, {left} left of {report.total} in {Path(report.out)}")
