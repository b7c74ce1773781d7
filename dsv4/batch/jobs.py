"""Rows of work: read them, check them, and name every fault with its line.

A row is `{"id": "a1", "task": "chat|svg|image|video", "prompt": "...", "images": ["b.png"], "seed": 7, ...}`. Ids that
are missing, wrong or given twice refuse the whole input, since lines could not be told apart; any other fault is kept
in the row and becomes its error line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from dsv4.errors import InputError, unknown
from dsv4.limits import BATCH_ID_CHARACTERS, BATCH_LINE_BYTES, BATCH_ROWS

TASKS: dict[str, tuple[str, ...]] = {  # task: the options that its verb takes
    "chat": ("mode", "seed", "temperature", "max_tokens"),
    "svg": ("seed", "temperature", "max_tokens", "candidates"),
    "image": ("seed", "size", "steps", "guidance"),
    "video": ("seconds", "seed", "steps", "guidance"),
}
TAKES_PICTURES = {"chat": None, "video": 1}  # how many at most; None leaves it to the model's own limit


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row. `fault` is set when it cannot be run; `id` is empty only for a line that is not JSON."""

    line: int
    id: str = ""
    task: str = ""
    prompt: str = ""
    pictures: tuple[Path, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


def read_rows(jobs: str | PathLike[str] | Iterable[Mapping[str, Any]]) -> tuple[list[Job], str]:
    """All rows and a digest of them and of the pictures that they name.

    Relative paths of pictures count from the folder of the file, or from here when rows are given as values.
    Raises InputError when there is no such file, no row, too many, or an id that is missing, wrong or there twice.
    """
    base = Path(jobs).parent if isinstance(jobs, str | PathLike) else Path()
    digest = hashlib.sha256()
    rows: list[Job] = []
    lines_of: dict[str, int] = {}
    faults: list[str] = []
    for number, content in _lines(jobs):
        if len(rows) == BATCH_ROWS:
            raise InputError(f"more than {BATCH_ROWS:,} rows; split the file")
        digest.update(content + b"\n")
        job = _parse(number, content, base)
        if job.id in lines_of and job.id:
            faults.append(f"line {number}: the id '{job.id}' is on line {lines_of[job.id]} already")
        elif job.id:
            lines_of[job.id] = number
        elif job.fault.startswith("id "):
            faults.append(f"line {number}: {job.fault}")
        rows.append(job)
    if faults:
        more = f"\nand {len(faults) - 20} more" if len(faults) > 20 else ""
        raise InputError("\n".join(faults[:20]) + more)
    if not rows:
        raise InputError("there are no rows; write one JSON object a line")
    for path in sorted({path for job in rows for path in job.pictures}):
        digest.update(_file_digest(path))
    return rows, digest.hexdigest()


def _lines(jobs: str | PathLike[str] | Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """(line number, content) of every line that is not blank."""
    if not isinstance(jobs, str | PathLike):
        for number, row in enumerate(jobs, start=1):
            if not isinstance(row, Mapping):
                raise InputError(f"row {number} must be a mapping, got {type(row).__name__}")
            try:
                yield number, json.dumps(dict(row), ensure_ascii=False, allow_nan=False).encode()
            except (TypeError, ValueError) as error:
                raise InputError(f"row {number} cannot be written as JSON: {error}") from error
        return
    path = Path(jobs)
    if not path.is_file():
        raise InputError(f"no file of rows at '{path}'")
    with path.open("rb") as file:
        number = 0
        while content := file.readline(BATCH_LINE_BYTES + 1):
            number += 1
            if len(content) > BATCH_LINE_BYTES:
                raise InputError(f"line {number} is longer than {BATCH_LINE_BYTES:,} bytes")
            if number == 1:
                content = content.removeprefix(b"\xef\xbb\xbf")
            if content.strip():
                yield number, content.strip()


def _parse(number: int, content: bytes, base: Path) -> Job:
    try:
        row = json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Job(line=number, fault=f"not a line of JSON: {error}")
    if not isinstance(row, dict):
        return Job(line=number, fault="not a JSON object")
    name = row.pop("id", None)
    if not isinstance(name, str) or not name.strip() or len(name) > BATCH_ID_CHARACTERS:
        return Job(line=number, fault=f"id must be a text of 1 to {BATCH_ID_CHARACTERS} characters")
    try:
        return _checked(number, name, row, base)
    except InputError as error:
        return Job(line=number, id=name, fault=str(error))


def _checked(number: int, name: str, row: dict[str, Any], base: Path) -> Job:
    task, prompt, images = row.pop("task", None), row.pop("prompt", ""), row.pop("images", [])
    if not isinstance(task, str) or task not in TASKS:
        raise unknown("task", task, TASKS)
    if not isinstance(prompt, str):
        raise InputError("prompt must be text")
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise InputError("images must be a list of paths")
    if images and task not in TAKES_PICTURES:
        raise InputError(f"a row of task {task} takes no images")
    most = TAKES_PICTURES.get(task)
    if most is not None and len(images) > most:
        raise InputError(f"a row of task {task} takes at most {most} image, got {len(images)}")
    for key in row:
        if key not in TASKS[task]:
            raise unknown(f"key in a row of task {task}", key, TASKS[task])
    return Job(
        line=number, id=name, task=task, prompt=prompt, pictures=tuple(base / image for image in images), options=row
    )


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return b"missing"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
