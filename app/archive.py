"""All that somebody has here in one file, and back: conversations, what was made and what was shown, as JSON and media.

An archive is a ZIP: `studio.json` with the rows, `media/DIGEST.SUFFIX` with the files. What comes in is not believed:
names, sizes and the digest of every file are checked before anything is kept, and nothing is kept if one is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import stat
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsv4 import __version__
from dsv4.errors import InputError
from dsv4.limits import ARCHIVE_BYTES, ARCHIVE_FILES, ARCHIVE_RATIO
from dsv4.repository.unzip import FULL

from .house import House
from .intake import Unreadable, sniff
from .media import MADE, READ, SHOWN, TYPES
from .store import new_id

FORM, TABLE = 1, "studio.json"
PURPOSES = (MADE, SHOWN, READ)
STATES = ("done", "failed", "cancelled")
TEXTS = (".svg", ".md", ".json")  # what carries no mark of its kind at its beginning
TALK = {"id": str, "title": str, "created": (int, float), "head": (str, type(None))}
MESSAGE = {"id": str, "talk": str, "parent": (str, type(None)), "role": str, "text": str, "shown": list, "state": str,
           "meta": dict, "created": (int, float)}  # fmt: skip
MEDIA = {"id": str, "digest": str, "suffix": str, "name": str, "purpose": str, "made_by": dict, "star": bool,
         "created": (int, float)}  # fmt: skip


def write_archive(house: House, owner: str, path: Path) -> Path:
    """Write everything of an owner to `path`; a running answer is left out."""
    marks = ",".join("?" * len(PURPOSES))
    media = house.store.rows(f"SELECT * FROM media WHERE owner = ? AND purpose IN ({marks})", (owner, *PURPOSES))
    talks = house.store.rows("SELECT * FROM talk WHERE owner = ? ORDER BY touched", (owner,))
    said = house.store.rows(
        "SELECT message.* FROM message JOIN talk ON talk.id = message.talk WHERE owner = ? AND state IN "
        "('done', 'failed', 'cancelled') ORDER BY message.seq", (owner,),
    )  # fmt: skip
    told = {
        "form": FORM,
        "dsv4": __version__,
        "talks": [{key: row[key] for key in TALK} for row in talks],
        "messages": [_plain(row, MESSAGE, ("shown", "meta")) for row in said],
        "media": [_plain({**row, "star": bool(row["star"])}, MEDIA, ("made_by",)) for row in media],
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(TABLE, json.dumps(told, ensure_ascii=False), zipfile.ZIP_DEFLATED)
        for name in sorted({row["digest"] + row["suffix"] for row in media}):
            source = house.media.folder / name[:2] / name[2:4] / name
            if source.is_file():
                archive.write(source, f"media/{name}")
    return path


def read_archive(house: House, owner: str, path: Path) -> dict[str, int]:
    """Take an archive in as this owner's, beside what is there; returns how much came. InputError, and nothing kept."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = _checked(archive)
            told = _table(archive)
            kept = _unpacked(house, archive, files, told["media"])
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL:  # the archive is not to blame
            raise
        raise InputError(f"this is not an archive of a studio: {str(error)[:120]}") from error
    try:
        with house.store.change():
            named = {
                row["id"]: house.media.keep(
                    kept[row["id"]], owner=owner, name=row["name"], suffix=row["suffix"], purpose=row["purpose"],
                    made_by=row["made_by"],
                ).id
                for row in told["media"]
            }  # fmt: skip
            for row in told["media"]:
                if row["star"]:
                    house.media.star(named[row["id"]], owner, True)
            _talks_in(house, owner, told, named)
    finally:
        for one in kept.values():
            one.unlink(missing_ok=True)
    return {"conversations": len(told["talks"]), "messages": len(told["messages"]), "files": len(named)}


def _plain(row: Mapping[str, Any], columns: Mapping[str, Any], coded: tuple[str, ...]) -> dict[str, Any]:
    return {key: json.loads(row[key]) if key in coded else row[key] for key in columns}


def _checked(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files by name; raises InputError for names, kinds and sizes that no archive of ours has."""
    members, names = archive.infolist(), archive.namelist()
    if len(members) > ARCHIVE_FILES:
        raise InputError(f"the archive holds {len(members):,} files; at most {ARCHIVE_FILES:,} are taken")
    if len(set(names)) != len(names):
        raise InputError("the archive holds a name twice")
    for one in members:
        if one.filename != TABLE and not re.fullmatch(r"media/[0-9a-f]{64}\.[a-z0-9]{2,5}", one.filename):
            raise InputError(f"the archive holds {one.filename[:80]!r}, which no archive of a studio does")
        if stat.S_IFMT(one.external_attr >> 16) not in (0, stat.S_IFREG) or one.flag_bits & 1:
            raise InputError("the archive holds a link, a device or something encrypted")
        if one.file_size > ARCHIVE_RATIO * max(one.compress_size, 10_000):
            raise InputError("the archive holds something that unpacks to far more than it is")
    if sum(one.file_size for one in members) > ARCHIVE_BYTES:
        raise InputError(f"the archive unpacks to more than {ARCHIVE_BYTES:,} bytes")
    return {one.filename: one for one in members}


def _table(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        told = json.loads(archive.read(TABLE))
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"the archive has no {TABLE} that can be read") from error
    if not isinstance(told, dict) or told.get("form") != FORM:
        raise InputError(f"the archive is not of form {FORM}; this studio reads no other")
    for name, columns in (("talks", TALK), ("messages", MESSAGE), ("media", MEDIA)):
        if not isinstance(told.get(name), list):
            raise InputError(f"the archive has no list of {name}")
        for row in told[name]:
            if not isinstance(row, dict) or not all(isinstance(row.get(key), kind) for key, kind in columns.items()):
                raise InputError(f"the archive has a row in {name} that is none")
        if len({row["id"] for row in told[name]}) != len(told[name]):
            raise InputError(f"the archive has an id in {name} twice")
    for row in told["media"]:
        if row["suffix"] not in TYPES or row["purpose"] not in PURPOSES:
            raise InputError(f"the archive has a file of kind {row['suffix'][:20]!r}, for {row['purpose'][:20]!r}")
    return told


def _unpacked(
    house: House, archive: zipfile.ZipFile, files: Mapping[str, Any], media: list[dict[str, Any]]
) -> dict[str, Path]:
    """The file of every row of media under a name of our own, once it is what its digest and suffix say."""
    kept: dict[str, Path] = {}
    try:
        for row in media:
            name = f"media/{row['digest']}{row['suffix']}"
            if name not in files:
                raise InputError(f"the archive lacks the file of '{row['name'][:60]}'")
            content = archive.read(name)
            if hashlib.sha256(content).hexdigest() != row["digest"]:
                raise InputError(f"the file of '{row['name'][:60]}' is not what it was")
            if row["suffix"] not in TEXTS and _kind(content) != row["suffix"]:
                raise InputError(f"the file of '{row['name'][:60]}' is no {row['suffix']}")
            kept[row["id"]] = house.media.work / f"in.{secrets.token_hex(8)}"
            kept[row["id"]].write_bytes(content)
    except BaseException:
        for one in kept.values():
            one.unlink(missing_ok=True)
        raise
    return kept


def _kind(content: bytes) -> str:
    try:
        return sniff(content)
    except Unreadable:
        return ""


def _talks_in(house: House, owner: str, told: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Conversations and messages under new ids, so that an archive can come in twice."""
    talks = {row["id"]: new_id("talk") for row in told["talks"]}
    said = {row["id"]: new_id("msg") for row in told["messages"]}
    with house.store.change() as change:
        for row in told["talks"]:
            change.execute(
                "INSERT INTO talk (id, owner, title, head, touched, created) "
                "SELECT ?, ?, ?, ?, coalesce(max(touched), 0) + 1, ? FROM talk",
                (talks[row["id"]], owner, row["title"][:200], said.get(row["head"]), row["created"]),
            )
        for row in told["messages"]:
            if row["talk"] not in talks or row["role"] not in ("user", "assistant") or row["state"] not in STATES:
                raise InputError("the archive has a message that belongs nowhere")
            shown = [files[name] for name in row["shown"] if name in files]
            change.execute(
                "INSERT INTO message (id, talk, parent, role, text, shown, state, meta, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (said[row["id"]], talks[row["talk"]], said.get(row["parent"]), row["role"], row["text"],
                 json.dumps(shown), row["state"], json.dumps(row["meta"]), row["created"]),
            )  # fmt: skip


def archive_name() -> str:
    """Such as `studio-2026-11-25.zip`."""
    return time.strftime("studio-%Y-%m-%d.zip")
