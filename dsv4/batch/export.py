"""The results of a batch as one table for other programs: JSONL, CSV or Parquet, a row of plain columns each.

Columns: id, line, ok, task, text, file (from the folder of the results), error, code, attempts, result (the line).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from dsv4.batch.ledger import Ledger
from dsv4.errors import InputError, unknown
from dsv4.results import write_pieces

COLUMNS = ("id", "line", "ok", "task", "text", "file", "error", "code", "attempts", "result")
_NUMBERS = {"line": "int64", "attempts": "int64", "ok": "bool_"}
SUFFIXES = (".jsonl", ".csv", ".parquet")
_ROWS = 1000  # of one Parquet group


def export_batch(out: str | PathLike[str], target: str | PathLike[str]) -> int:
    """Write the rows of the batch in the folder `out` that are done or failed; returns how many there are.

    Raises InputError when there is no batch, or the file's kind is not one of SUFFIXES or needs a package.
    """
    path = check_export(target)
    with Ledger.read(Path(out)) as ledger:
        rows = (table_row(line) for line in ledger.lines())
        if path.suffix.lower() == ".parquet":
            return _to_parquet(rows, path)
        counted = _Counted(rows)
        pieces = _csv(counted) if path.suffix.lower() == ".csv" else (f"{_json(row)}\n".encode() for row in counted)
        write_pieces(path, pieces)
        return counted.count


def check_export(target: str | PathLike[str]) -> Path:
    """The path, if a table can be written there; else InputError."""
    path = Path(target)
    if path.suffix.lower() not in SUFFIXES:
        raise unknown("format of a table", path.suffix or path.name, SUFFIXES)
    if not path.parent.is_dir():
        raise InputError(f"no folder '{path.parent}' to write '{path.name}' into; make it first")
    return path


def table_row(line: str) -> dict[str, Any]:
    """One line of results, of either form, as COLUMNS."""
    found = json.loads(line, object_hook=_sound)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["result"] = line
    if "response" not in found:
        row |= {key: found[key] for key in COLUMNS if key in found}
        row["attempts"] = found.get("attempts", 1)
        return row
    body, error = found["response"]["body"], found["error"] or {}
    row |= {"id": found["custom_id"], "ok": not error, "error": error.get("message"), "code": error.get("code")}
    row |= {"line": error.get("line"), "attempts": error.get("attempts", 1), "task": body.get("object")}
    if body.get("choices"):
        row |= {"task": "chat", "text": body["choices"][0]["message"]["content"]}
    elif body.get("data"):
        row |= {"task": "svg" if body["output_format"] == "svg" else "image", "file": body["data"][0]["url"]}
    elif body.get("object") == "reading":
        row |= {"task": "read", "text": body["text"]}
    elif "url" in body:
        row["file"] = body["url"]
    return row


def _sound(found: dict[str, Any]) -> dict[str, Any]:
    """The object without halves of surrogate pairs, which tables cannot hold."""
    return {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in found.items()
    }


class _Counted:
    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self.rows, self.count = rows, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            self.count += 1
            yield row


def _json(row: dict[str, Any]) -> str:
    return json.dumps({**row, "result": json.loads(row["result"], object_hook=_sound)}, ensure_ascii=False)


def _csv(rows: _Counted) -> Iterator[bytes]:
    kept = io.StringIO()
    writer = csv.DictWriter(kept, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _inert(value) for key, value in row.items()})
        yield kept.getvalue().encode()
        kept.seek(0)
        kept.truncate()
    yield kept.getvalue().encode()


def _inert(value: Any) -> Any:
    """A cell that a spreadsheet shows and does not calculate."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _to_parquet(rows: Iterator[dict[str, Any]], path: Path) -> int:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError("Parquet needs one more package: pip install 'dsv4-studio[parquet]'") from error
    schema = arrow.schema([(name, getattr(arrow, _NUMBERS.get(name, "string"))()) for name in COLUMNS])
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    try:
        with parquet.ParquetWriter(temporary, schema) as writer:
            while some := [row for _, row in zip(range(_ROWS), rows, strict=False)]:
                writer.write_table(arrow.Table.from_pylist(some, schema=schema))
                count += len(some)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count
