"""Run the rows that are not done yet, on one of three backends, and write the results in the order of the input.

The output folder holds `results.jsonl` (one line a row), `files/` and the ledger.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import cast

from dsv4.batch.begins import Begins
from dsv4.batch.cluster import run_on_ray
from dsv4.batch.jobs import Jobs, Rows, index_rows
from dsv4.batch.ledger import Ledger
from dsv4.batch.plan import groups
from dsv4.batch.processes import Item, Setup, run_on_processes
from dsv4.batch.reading import fingerprint_of
from dsv4.batch.work import Maker, Outcome, make_group, one_thread, safe_name, shape_for
from dsv4.errors import InputError, unknown
from dsv4.limits import BATCH_WORKERS, check_numbers
from dsv4.results import BatchReport, write_pieces

__all__ = ["BACKENDS", "Maker", "batch_status", "run_batch", "safe_name"]

OUTPUT = "results.jsonl"
BACKENDS = ("local", "processes", "ray")


def run_batch(
    studio: Maker | str,
    jobs: Jobs,
    *,
    out: str | PathLike[str],
    retry_failed: bool = False,
    on_row: Callable[[BatchReport], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    backend: str = "local",
    workers: int | None = None,
    local_files: bool = True,
) -> BatchReport:
    """Run all rows into the folder `out`, going on from where an earlier run ended.

    A row that cannot be run becomes an error line; only faults of the input as a whole, and a machine that cannot go
    on, are raised.

    Args:
        studio: a studio, or the name of a model.
        jobs: a JSONL or Parquet file, or rows as mappings; see `dsv4.batch.row` and `dsv4.batch.openai`.
        out: a folder; made if it is not there. It may hold an earlier run of the same rows and nothing else.
        retry_failed: run the rows again that failed before.
        on_row: called after every commit: of one row, or of rows that were made together.
        cancelled: asked before every group; once true, the rows that are left wait for the next run.
        seed: of the batch; a row that names no seed gets one from this and its id. Without it, the verb's default.
        batch_size: rows that share a pass at most; by default as `dsv4.batch.plan` says, one by one without a model
            that can do more.
        backend: local, processes or ray (an extra); the bytes are the same on all, since each uses one thread a model.
        workers: processes or actors, by default one a core.
        local_files: whether rows may name pictures by path.

    Raises:
        InputError: if the rows as a whole are wrong, or the folder holds something else.
        OSError: if the disk does not take more; what was done is kept.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    workers = _checked(seed, batch_size, workers)
    maker = _loaded(studio)
    folder = _open_folder(Path(out))
    with closing(index_rows(jobs, local_files=local_files, shape=shape_for(maker))) as rows:
        if backend != "local" and any(entry.after for entry in rows.entries):
            raise InputError("rows that begin with what another row made run one after the other: use backend local")
        size = batch_size if batch_size is not None else None if hasattr(maker, "together") else 1
        with Ledger.create(folder, _manifest(rows, maker, seed, size)) as ledger:
            if retry_failed:
                ledger.forget_failed()
            run = _Run(folder, ledger, rows, on_row)
            made = _backend(backend, studio, maker, seed, workers, cancelled)(run.items(size, cancelled))
            with one_thread(maker), closing(made):
                for outcomes in made:
                    run.keep(outcomes)
            return run.finish()


def batch_status(out: str | PathLike[str]) -> BatchReport:
    """How the batch in the folder `out` stands; raises InputError if there is none."""
    folder = Path(out)
    with Ledger.read(folder) as ledger:
        done, failed = ledger.counts()
        return BatchReport(done=done, failed=failed, total=int(ledger.manifest()["rows"]), out=folder)


class _Run:
    """One run into a folder: what is left, and the counts as they grow."""

    def __init__(self, folder: Path, ledger: Ledger, rows: Rows, on_row: Callable[[BatchReport], None] | None) -> None:
        self.folder, self.ledger, self.rows, self.on_row = folder, ledger, rows, on_row
        self.done, self.failed = ledger.counts()
        self.begins = Begins(folder, rows)
        self.work = folder / ".work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()

    def items(self, size: int | None, cancelled: Callable[[], bool] | None) -> Iterator[Item]:
        """The groups that are not done; ends early once cancelled.

        A group that begins with a row whose result is not there yet waits until all others are done.
        """
        finished, later = self.ledger.places(), list[list[int]]()
        for group in groups((entry.kind for entry in self.rows.entries), size=size):
            left = [place for place in group if place not in finished]
            if not left:
                continue
            if cancelled is not None and cancelled():
                return
            if self.begins.waits(left[0], self.ledger.places() if self.rows.entries[left[0]].after else finished):
                later.append(left)
                continue
            yield self._item(left)
        # In the order of the input, so that a row stands before those that begin with it.
        for left in sorted(later):
            if cancelled is not None and cancelled():
                return
            yield self._item(left)

    def _item(self, places: list[int]) -> Item:
        before = {place: self.ledger.attempts(place) for place in places}
        return Item([(place, self.begins.ready(place, self.rows.job(place))) for place in places], before)

    def keep(self, outcomes: list[Outcome]) -> None:
        """Put the files in place, then commit the lines."""
        for one in outcomes:
            if one.file:
                temporary = self.work / Path(one.file).name
                with temporary.open("wb") as file:
                    file.write(one.content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.folder / one.file)
        self.ledger.add_all((one.place, one.line, one.failed, one.attempts) for one in outcomes)
        failed = sum(one.failed for one in outcomes)
        self.failed += failed
        self.done += len(outcomes) - failed
        if self.on_row is not None:
            self.on_row(self.report())

    def finish(self) -> BatchReport:
        """Write the results that are there."""
        shutil.rmtree(self.work)
        self.ledger.settle()
        write_pieces(self.folder / OUTPUT, (f"{line}\n".encode() for line in self.ledger.lines()))
        return self.report()

    def report(self) -> BatchReport:
        """How the batch stands."""
        return BatchReport(done=self.done, failed=self.failed, total=len(self.rows), out=self.folder)


def _backend(
    name: str,
    studio: Maker | str,
    maker: Maker,
    seed: int | None,
    workers: int,
    cancelled: Callable[[], bool] | None,
) -> Callable[[Iterator[Item]], Generator[list[Outcome], None, None]]:
    if name == "local":
        return lambda items: (make_group(maker, item.group, seed=seed, before=item.before) for item in items)
    model = studio if isinstance(studio, str) else str(getattr(maker, "source", maker.name))
    setup = Setup(model=model, fingerprint=fingerprint_of(maker), seed=seed)
    if name == "processes":
        return lambda items: run_on_processes(items, setup, workers=workers)
    return lambda items: run_on_ray(items, setup, workers=workers, cancelled=cancelled)


def _checked(seed: int | None, batch_size: int | None, workers: int | None) -> int:
    if seed is not None:
        check_numbers(seed=seed)
    for name, value, most in (("batch_size", batch_size, 256), ("workers", workers, BATCH_WORKERS)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 1 <= value <= most):
            raise InputError(f"{name} must be a whole number from 1 to {most}, got {str(value)[:60]}")
    return workers or min(os.cpu_count() or 1, BATCH_WORKERS)


def _loaded(studio: Maker | str) -> Maker:
    if not isinstance(studio, str):
        return studio
    import dsv4

    return cast(Maker, dsv4.load(studio))  # a model that has not all verbs says so when it is asked for one


def _manifest(rows: Rows, maker: Maker, seed: int | None, size: int | None) -> dict[str, str]:
    return {
        "input": rows.digest,
        "model": f"{maker.name} {fingerprint_of(maker)}",
        "rows": str(len(rows)),
        "seed": "" if seed is None else str(seed),
        "batch size": "" if size is None else str(size),
    }


def _open_folder(folder: Path) -> Path:
    if "\0" in str(folder):
        raise InputError("the path of the output folder holds a NUL character")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(p.name for p in folder.iterdir() if not _ours(p.name))
        if strangers:
            raise InputError(f"'{folder}' holds other files ({strangers[0]}); choose a new or empty output folder")
        (folder / "files").mkdir(exist_ok=True)
        (folder / ".work").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot use '{folder}' as output folder: {error.strerror}") from error
    return folder


def _ours(name: str) -> bool:
    return name in ("files", ".work", OUTPUT) or name.startswith(("ledger.", f".{OUTPUT}."))
