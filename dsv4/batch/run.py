"""Run the rows that are not done yet, one after the other, and write the results in the order of the input.

The output folder holds `results.jsonl` (one line a row), `files/` and the ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dsv4.batch.jobs import Job, read_rows
from dsv4.batch.ledger import Ledger
from dsv4.errors import InputError
from dsv4.messages import image
from dsv4.results import BatchReport, write_whole

if TYPE_CHECKING:
    from dsv4.results import ChatStream, Clip, Picture, Svg

OUTPUT = "results.jsonl"


class Maker(Protocol):
    """What the runner needs of a studio: its verbs, a name, and a fingerprint that changes with its weights."""

    name: str
    fingerprint: str
    chat: Callable[..., ChatStream]
    svg: Callable[..., Svg]
    image: Callable[..., Picture]
    video: Callable[..., Clip]


def run_batch(
    studio: Maker,
    jobs: str | PathLike[str] | Iterable[Mapping[str, Any]],
    *,
    out: str | PathLike[str],
    retry_failed: bool = False,
    on_row: Callable[[BatchReport], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> BatchReport:
    """Run all rows into the folder `out`, going on from where an earlier run ended.

    A row that cannot be run becomes an error line; only faults of the input as a whole are raised.

    Args:
        jobs: a JSONL file, or rows as mappings; see `dsv4.batch.jobs`.
        out: a folder; made if it is not there. It may hold an earlier run of the same rows and nothing else.
        retry_failed: run the rows again that failed before.
        on_row: called after every row.
        cancelled: asked before every row; once true, the rows that are left wait for the next run.

    Raises:
        InputError: if the rows as a whole are wrong, or the folder holds something else.
    """
    rows, digest = read_rows(jobs)
    folder = _open_folder(Path(out))
    manifest = {"input": digest, "model": f"{studio.name} {studio.fingerprint}"}
    with Ledger.create(folder, {**manifest, "rows": str(len(rows))}) as ledger:
        if retry_failed:
            ledger.forget_failed()
        work = folder / ".work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        finished = ledger.places()
        for place, job in enumerate(rows):
            if place in finished:
                continue
            if cancelled is not None and cancelled():
                break
            line, failed = _run_row(studio, job, work, folder / "files")
            ledger.add(place, json.dumps(line, ensure_ascii=False), failed=failed)
            if on_row is not None:
                on_row(_report(ledger, len(rows), folder))
        shutil.rmtree(work)
        write_whole(folder / OUTPUT, "".join(f"{line}\n" for line in ledger.lines()).encode())
        return _report(ledger, len(rows), folder)


def batch_status(out: str | PathLike[str]) -> BatchReport:
    """How the batch in the folder `out` stands; raises InputError if there is none."""
    folder = Path(out)
    with Ledger.read(folder) as ledger:
        return _report(ledger, int(ledger.manifest()["rows"]), folder)


def _run_row(studio: Maker, job: Job, work: Path, files: Path) -> tuple[dict[str, Any], bool]:
    line: dict[str, Any] = {"id": job.id or None, "line": job.line, "task": job.task or None}
    if job.fault:
        return {**line, "ok": False, "error": job.fault}, True
    try:
        return {**line, "ok": True, **_make(studio, job, work, files)}, False
    except ValueError as error:  # the row's own fault; anything else is ours or the machine's and stops the run
        return {**line, "ok": False, "error": str(error)}, True


def _make(studio: Maker, job: Job, work: Path, files: Path) -> dict[str, Any]:
    """Run the verb, put its file in place, and say what came out."""
    pictures = [image(path) for path in job.pictures]
    if job.task == "chat":
        reply = studio.chat(job.prompt, *pictures, **job.options).reply
        usage = {"read": reply.usage.read, "written": reply.usage.written}
        return {"text": reply.text, "stopped": reply.stopped, "usage": usage}
    if job.task == "svg":
        return _keep(studio.svg(job.prompt, **job.options), f"{safe_name(job.id)}.svg", work, files)
    if job.task == "image":
        return _keep(studio.image(job.prompt, **job.options), f"{safe_name(job.id)}.png", work, files)
    first = {"first_frame": pictures[0]} if pictures else {}
    return _keep(studio.video(job.prompt, **first, **job.options), f"{safe_name(job.id)}.mp4", work, files)


def _keep(result: Svg | Picture | Clip, name: str, work: Path, files: Path) -> dict[str, Any]:
    written = result.save(work / name)
    with written.open("rb+") as file:
        os.fsync(file.fileno())
    written.replace(files / name)
    return {"file": f"files/{name}"}


def safe_name(name: str) -> str:
    """A file name for an id: itself when it is harmless on every system, else a shortened form with a digest."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) and not re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", name):
        return name
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40].strip("_")
    return f"{kept or 'row'}.{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _open_folder(folder: Path) -> Path:
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


def _report(ledger: Ledger, total: int, folder: Path) -> BatchReport:
    done, failed = ledger.counts()
    return BatchReport(done=done, failed=failed, total=total, out=folder)
