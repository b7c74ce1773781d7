"""Rows that read a document: what they may say, how their one file is opened, and the parts of their line.

A PDF must lie in a file to be opened page by page, so the bytes of a row are put into one while it is read.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsv4.errors import InputError
from dsv4.messages import DOCUMENT_SUFFIXES, document, image
from dsv4.reading import Reading, check_reader, check_task

OPTIONS = ("mode", "what", "find", "pages", "max_tokens")


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `Studio.read` from those of a row, where `what` is its task; raises InputError."""
    found = dict(options)
    pages = found.pop("pages", [])
    if not isinstance(pages, list) or not all(type(page) is int and page > 0 for page in pages):
        raise InputError("pages must be a list of page numbers, counted from 1")
    task, find = found.pop("what", "markdown"), found.get("find", "")
    if not isinstance(task, str) or not isinstance(find, str):
        raise InputError("what and find must be text")
    return {**found, "task": check_task(task, find), "pages": tuple(pages)}


def check_file(path: Path) -> None:
    """Raise InputError for a file that is not there, or that no document or picture is called."""
    (document if path.suffix.lower() in DOCUMENT_SUFFIXES else image)(path)


def read_file(studio: Any, content: bytes, options: Mapping[str, Any]) -> Reading:
    """Read the bytes of a document or picture; raises InputError when the model or the file cannot."""
    check_reader(studio)
    if content[:5] != b"%PDF-":
        return studio.read(image(content), **options).reading
    with tempfile.TemporaryDirectory(prefix="dsv4-") as folder:
        path = Path(folder) / "document.pdf"
        path.write_bytes(content)
        try:
            return studio.read(document(path), **options).reading
        except InputError as error:  # where it lay for a moment says nothing, and is another place each time
            words = str(error).replace(f"'{path}'", "the document").replace(str(path), "the document")
            raise InputError(words) from error


def fingerprint_of(studio: Any) -> str:
    """What tells one model's weights from another's: its own fingerprint, or, without one, a few of its numbers."""
    try:
        return str(studio.fingerprint)
    except InputError:  # a model that only reads has none
        digest = hashlib.sha256(str(studio.name).encode())
        for part in (studio.eyes, studio.core):
            for name, one in part.state_dict().items():
                some = one.detach().flatten()[:64].float().cpu().numpy().tobytes()
                digest.update(f"{name}{tuple(one.shape)}".encode() + some)
        return digest.hexdigest()[:16]


def reading_parts(reading: Reading) -> dict[str, Any]:
    """What a line holds of a reading."""
    usage = {name: sum(getattr(page.usage, name) for page in reading.pages) for name in ("read", "written")}
    told = {"text": reading.text, "pages": [page.record() for page in reading.pages]}
    return {**told, "warnings": reading.warnings, "usage": usage}
