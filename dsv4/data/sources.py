"""Reads the source files of the closed world: compressed lines of JSON, the first of which tells about the file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from dsv4.errors import InputError

FILES = ("icons.jsonl.zst", "things.jsonl.zst", "words.jsonl.zst", "lists.jsonl.zst")


def check_sources(sources: Path) -> None:
    """Raise InputError unless `sources` is a folder with every file that `build` reads."""
    if not sources.is_dir():
        raise InputError(f"there is no folder '{sources}'; give the folder that holds {', '.join(FILES)}")
    missing = [name for name in FILES if not (sources / name).is_file()]
    if missing:
        raise InputError(f"'{sources}' lacks {', '.join(missing)}; it must hold {', '.join(FILES)}")


def read_rows(sources: Path, name: str) -> list[dict[str, Any]]:
    """The records of one source file without its first, telling line. Raises InputError for a broken file."""
    import zstandard

    path = sources / name
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as plain:
            rows = [json.loads(line) for line in io.TextIOWrapper(plain, encoding="utf-8") if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    except (zstandard.ZstdError, ValueError) as error:
        raise InputError(f"'{path}' is not compressed lines of JSON: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"'{path}' must hold one JSON object a line, the first telling about the file")
    return [row for row in rows if not any(key.startswith("_") for key in row)]
