"""Read rows of work from JSONL, Parquet or values: check them, name every fault with its line, keep little in memory.

Ids that are missing, wrong or given twice refuse the whole input, since lines could not be told apart; any other fault
is kept in the row and becomes its error line.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dsv4.batch.openai import KEYS, openai_job
from dsv4.batch.row import OPENAI, PLAIN, TASKS, Job, checked_id, load_line, plain_job
from dsv4.errors import InputError
from dsv4.limits import BATCH_LINE_BYTES, BATCH_ROWS

__all__ = ["TASKS", "Job", "Rows", "index_rows", "read_rows"]

Jobs = str | PathLike[str] | Iterable[Mapping[str, Any]]
SHOWN_FAULTS = 20


class Entry(NamedTuple):
    """Where a row lies in the file, its kind (rows of one kind may share a forward pass), and what it begins with."""

    line: int
    offset: int
    length: int
    kind: tuple[Any, ...]
    id: str
    after: str


class Rows:
    """An input that was read through once: a digest, and every row at hand again by its place."""

    def __init__(self, file: BinaryIO, files: Path | None, entries: list[Entry], digest: str, form: str) -> None:
        self.files, self.entries, self.digest, self.form = files, entries, digest, form
        self._file, self._stamp = file, _stamp(file)

    def __len__(self) -> int:
        return len(self.entries)

    def job(self, place: int) -> Job:
        """Read one row again; raises InputError when the file was changed in between."""
        if _stamp(self._file) != self._stamp:
            raise InputError("the file of rows was changed while they were run; run the batch again")
        entry = self.entries[place]
        self._file.seek(entry.offset)
        return parse_line(entry.line, self._file.read(entry.length), self.files, self.form)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read_rows(jobs: Jobs, *, local_files: bool = True) -> tuple[list[Job], str]:
    """All rows, and a digest of them and of the pictures that they name.

    Relative paths of pictures count from the folder of the file, or from here when rows are given as values;
    `local_files=False` refuses paths. Raises InputError when there is no such file, no row, too many, or an id that is
    missing, wrong or there twice.
    """
    files, check = _folder(jobs, local_files), _Check()
    rows: list[Job] = []
    for number, _, content in _lines(jobs):
        rows.append(check.see(number, content, parse_line(number, content, files, check.form)))
    return rows, check.finish()


def index_rows(
    jobs: Jobs, *, local_files: bool = True, shape: Callable[[Job], tuple[Any, ...]] = lambda job: ()
) -> Rows:
    """The same check, keeping only where each row lies; rows that are in no JSONL file are copied to a nameless one.

    `shape` tells apart what cannot share a pass among rows of one kind.
    """
    files, check = _folder(jobs, local_files), _Check()
    in_lines = isinstance(jobs, str | PathLike) and not _is_parquet(jobs)
    entries: list[Entry] = []
    copy = tempfile.TemporaryFile()
    try:
        for number, offset, content in _lines(jobs):
            job = check.see(number, content, parse_line(number, content, files, check.form))
            if not in_lines:
                offset = copy.tell()
                copy.write(content)
            entries.append(Entry(number, offset, len(content), kind_of(job) + shape(job), job.id, job.after))
        digest = check.finish()
        copy.flush()
        kept = Path(jobs).open("rb") if in_lines else copy  # type: ignore[arg-type]
    except BaseException:
        copy.close()
        raise
    return Rows(kept, files, entries, digest, check.form)


def parse_line(number: int, content: bytes, files: Path | None, form: str = PLAIN) -> Job:
    """The row on a line; `form` is that of the rows before it, for lines that do not show their own."""
    row = load_line(content)
    if isinstance(row, str):
        return Job(line=number, fault=row, form=form)
    key = "custom_id" if any(key in row for key in KEYS) and "id" not in row else "id"
    form = OPENAI if key == "custom_id" else PLAIN
    try:
        name = checked_id(row.pop(key, None), key)
    except InputError as error:
        return Job(line=number, fault=str(error), form=form)
    try:
        return (openai_job if form == OPENAI else plain_job)(number, name, row, files)
    except InputError as error:
        return Job(line=number, id=name, fault=str(error), form=form)


def kind_of(job: Job) -> tuple[Any, ...]:
    """Rows of one kind can be made in one pass: answers together, drawings together, pictures of equal steps."""
    if job.fault:
        return ("fault",)
    if job.task in ("chat", "svg", "read"):
        return (job.task,)
    shape = tuple(str(job.options.get(key)) for key in ("seconds", "steps", "guidance"))
    return (job.task, *shape, bool(job.pictures), job.after)


def not_earlier(name: str) -> str:
    """What is wrong with a row that begins with another which is not before it."""
    return f"after: no earlier row has the id '{name}'; a row can only begin with what one before it made"


class _Check:
    """What is only known from all rows together: the digest, ids given twice, the form of the input."""

    def __init__(self) -> None:
        self.form = PLAIN
        self._digest = hashlib.sha256()
        self._lines_of: dict[str, int] = {}
        self._faults: list[str] = []
        self._pictures: set[Path] = set()
        self._count = 0

    def see(self, number: int, content: bytes, job: Job) -> Job:
        """Take a row into account."""
        if self._count == BATCH_ROWS:
            raise InputError(f"more than {BATCH_ROWS:,} rows; split the file")
        self._count += 1
        self._digest.update(content + b"\n")
        if job.id and job.id in self._lines_of:
            self._faults.append(f"line {number}: the id '{job.id}' is on line {self._lines_of[job.id]} already")
        elif job.id:
            self._lines_of[job.id] = number
        elif job.fault.startswith(("id ", "custom_id ")):
            self._faults.append(f"line {number}: {job.fault}")
        if self._count == 1 and job.form == OPENAI:
            self.form = OPENAI
        self._pictures |= {path for path in job.pictures if isinstance(path, Path)}
        if job.after and not job.fault and job.after not in self._lines_of:
            job = replace(job, fault=not_earlier(job.after))
        return job if job.id else replace(job, form=self.form)

    def finish(self) -> str:
        """The digest; raises InputError when the rows as a whole cannot be run."""
        if self._faults:
            left = len(self._faults) - SHOWN_FAULTS
            raise InputError("\n".join(self._faults[:SHOWN_FAULTS]) + (f"\nand {left} more" if left > 0 else ""))
        if not self._count:
            raise InputError("there are no rows; write one JSON object a line")
        for path in sorted(self._pictures):
            self._digest.update(_file_digest(path))
        return self._digest.hexdigest()


def _folder(jobs: Jobs, local_files: bool) -> Path | None:
    if not local_files:
        return None
    return Path(jobs).parent if isinstance(jobs, str | PathLike) else Path()


def _is_parquet(jobs: str | PathLike[str]) -> bool:
    return Path(jobs).suffix.lower() in (".parquet", ".pq")


def _lines(jobs: Jobs) -> Iterator[tuple[int, int, bytes]]:
    """(line number, offset, content) of every line that is not blank; the offset counts in files only."""
    if not isinstance(jobs, str | PathLike):
        yield from _value_lines(_records(jobs))
        return
    path = Path(jobs)
    if "\0" in str(path) or not path.is_file():
        raise InputError(f"no file of rows at '{path}'")
    if _is_parquet(path):
        yield from _value_lines(_parquet(path))
        return
    with path.open("rb") as file:
        number = offset = 0
        while content := file.readline(BATCH_LINE_BYTES + 1):
            number += 1
            if len(content) > BATCH_LINE_BYTES:
                raise InputError(f"line {number} is longer than {BATCH_LINE_BYTES:,} bytes")
            mark = 3 if number == 1 and content.startswith(b"\xef\xbb\xbf") else 0
            text = content[mark:].strip()
            if text:
                yield number, offset + content.index(text, mark), text
            offset += len(content)


def _records(jobs: Any) -> Iterable[Any]:
    """Tables of pandas and pyarrow as rows; everything else is iterated as it is."""
    if hasattr(jobs, "to_pylist"):
        return (_filled(row) for row in jobs.to_pylist())
    if hasattr(jobs, "to_dict") and not isinstance(jobs, Mapping):
        return (_filled(row) for row in jobs.to_dict("records"))
    return jobs


def _value_lines(rows: Iterable[Any]) -> Iterator[tuple[int, int, bytes]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InputError(f"row {number} must be a mapping, got {type(row).__name__}")
        try:
            content = json.dumps(dict(row), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"row {number} cannot be written as JSON: {error}") from error
        if len(content) > BATCH_LINE_BYTES:
            raise InputError(f"row {number} is longer than {BATCH_LINE_BYTES:,} bytes as JSON")
        yield number, 0, content


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, a few at a time; columns are the keys of a row, empty cells are left out."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError("Parquet needs one more package: pip install 'dsv4-studio[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "id" not in names and "custom_id" not in names:
                raise InputError(f"'{path}' has neither a column id nor custom_id; it has {', '.join(names[:20])}")
            for batch in file.iter_batches(batch_size=64):
                yield from map(_filled, batch.to_pylist())
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"'{path}' is not a Parquet file that can be read: {error}") from error


def _filled(value: Any) -> Any:
    """Plain data without empty cells; a `body` column may be JSON text, and pictures may be bytes."""
    if isinstance(value, Mapping):
        kept = {key: _filled(one) for key, one in value.items() if one is not None and one == one}
        if isinstance(kept.get("body"), str):
            found = load_line(kept["body"].encode())
            kept["body"] = found if isinstance(found, dict) else kept["body"]
        return kept
    if isinstance(value, list):
        return [_filled(one) for one in value if one is not None]
    if isinstance(value, bytes):
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode()
    return value


def _stamp(file: BinaryIO) -> tuple[int, int]:
    seen = os.fstat(file.fileno())
    return seen.st_size, seen.st_mtime_ns


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return b"missing"
