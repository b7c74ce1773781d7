"""Pictures, clips, drawings and documents: files named by their content, and a row for each thing that somebody owns.

A file is written under a temporary name, synced and renamed, so that a path that exists is whole. Two rows may share a
file; it goes when the last of them goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv4.errors import InputError

from .store import Store, new_id

TYPES: dict[str, str] = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".pdf": "application/pdf",
    ".jsonl": "application/jsonl",
    ".json": "application/json",
    ".md": "text/markdown",
    ".zip": "application/zip",
    ".bin": "application/octet-stream",
}
MADE, SHOWN, READ = "made", "shown", "read"  # purposes: made by the studio, given to look at, left by a reading


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One thing somebody owns; `path` is its file."""

    id: str
    owner: str
    path: Path
    name: str
    purpose: str
    bytes: int
    made_by: Mapping[str, Any]
    star: bool
    created: float
    job: str | None

    @property
    def type(self) -> str:
        """Its media type."""
        return TYPES.get(self.path.suffix, TYPES[".bin"])

    @property
    def kind(self) -> str:
        """image, svg, video, document or file."""
        if self.path.suffix == ".svg":
            return "svg"
        if self.path.suffix == ".pdf":
            return "document"
        return self.type.split("/")[0] if self.type.startswith(("image/", "video/")) else "file"


class Media:
    """The media of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = store.folder / "media"
        self.work = store.folder / "work"
        for folder in (self.folder, self.work):
            folder.mkdir(exist_ok=True)

    def keep(
        self,
        source: Path | bytes,
        *,
        owner: str,
        name: str,
        suffix: str,
        purpose: str,
        made_by: Mapping[str, Any] | None = None,
        job: str | None = None,
    ) -> Asset:
        """Take a file in (a path is moved, and must be on the same disk) and give it to `owner`."""
        path = source if isinstance(source, Path) else self._written(source)
        with path.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        size, target = path.stat().st_size, self._place(digest, suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _sync_folder(target.parent)
        row = {
            "id": new_id("file"), "owner": owner, "digest": digest, "suffix": suffix, "bytes": size,
            "name": clean_name(name), "purpose": purpose, "made_by": json.dumps(dict(made_by or {})),
            "created": time.time(), "job": job,
        }  # fmt: skip
        with self.store.change() as change:
            change.execute(
                "INSERT INTO media (id, owner, digest, suffix, bytes, name, purpose, made_by, created, job) VALUES "
                "(:id, :owner, :digest, :suffix, :bytes, :name, :purpose, :made_by, :created, :job)",
                row,
            )
        return self._asset({**row, "star": 0})

    def get(self, name: str, owner: str) -> Asset:
        """One of this owner's assets; raises InputError for an id that is not theirs, as for one that never was."""
        row = self.store.row("SELECT * FROM media WHERE id = ? AND owner = ?", (name, owner))
        if row is None:
            raise InputError(f"there is no file '{name[:80]}'")
        return self._asset(row)

    def find(
        self, owner: str, *, purpose: str = MADE, words: str = "", starred: bool = False, kind: str = "",
        limit: int = 60, offset: int = 0,
    ) -> list[Asset]:  # fmt: skip
        """This owner's assets, newest first; `words` are looked for in name and prompt."""
        suffixes = {"svg": [".svg"], "image": [".png", ".webp"], "video": [".mp4", ".gif"]}.get(kind, list(TYPES))
        marks = ",".join("?" * len(suffixes))
        like = "%" + re.sub(r"([%_\\])", r"\\\1", words.strip()) + "%"
        found = self.store.rows(
            f"SELECT * FROM media WHERE owner = ? AND purpose = ? AND star >= ? AND suffix IN ({marks}) "
            "AND (name LIKE ? ESCAPE '\\' OR made_by LIKE ? ESCAPE '\\') ORDER BY rowid DESC LIMIT ? OFFSET ?",
            (owner, purpose, int(starred), *suffixes, like, like, limit, offset),
        )
        return [self._asset(row) for row in found]

    def star(self, name: str, owner: str, on: bool) -> None:
        """Mark or unmark."""
        self.get(name, owner)
        with self.store.change() as change:
            change.execute("UPDATE media SET star = ? WHERE id = ?", (int(on), name))

    def drop(self, name: str, owner: str) -> None:
        """Forget it; its file goes when nobody else has the same one."""
        asset = self.get(name, owner)
        with self.store.change() as change:
            change.execute("DELETE FROM media WHERE id = ?", (name,))
            digest = asset.path.stem
            if not change.execute(
                "SELECT 1 FROM media WHERE digest = ? AND suffix = ?", (digest, asset.path.suffix)
            ).fetchone():
                asset.path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove files that no row names, as a kill between rename and commit leaves; returns how many."""
        known = {row["digest"] + row["suffix"] for row in self.store.rows("SELECT digest, suffix FROM media")}
        gone = 0
        for path in self.folder.glob("*/*/*"):
            if path.name not in known and path.is_file():
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _written(self, content: bytes) -> Path:
        path = self.work / f"in.{secrets.token_hex(8)}"
        path.write_bytes(content)
        return path

    def _place(self, digest: str, suffix: str) -> Path:
        return self.folder / digest[:2] / digest[2:4] / f"{digest}{suffix}"

    def _asset(self, row: Mapping[str, Any]) -> Asset:
        return Asset(
            id=row["id"], owner=row["owner"], path=self._place(row["digest"], row["suffix"]), name=row["name"],
            purpose=row["purpose"], bytes=row["bytes"], made_by=json.loads(row["made_by"]), star=bool(row["star"]),
            created=row["created"], job=row["job"],
        )  # fmt: skip


def clean_name(name: str) -> str:
    """A file name to show and to download by: no folders, no control characters, 120 characters at most."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(character if character.isprintable() else "_" for character in last).strip(" .")
    return shown[-120:] or "file"


def file_name(prompt: str, suffix: str) -> str:
    """A name that tells what is in the file, such as `red-heart-icon.svg`."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:48].strip("-")
    return f"{words or 'drawing'}{suffix}"


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # a system that cannot open folders syncs renames by itself
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
