"""A person's own drawings or pictures with their captions, read from one folder.

Captions stand in `captions.jsonl` (objects with file and caption), in `captions.txt` (lines `file: caption`), or are
the files' names: `red-kite.svg` is "red kite".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv4.errors import InputError, unknown
from dsv4.limits import check_prompt

MOST = 2000  # pairs of one folder; more are a curriculum of their own
DRAWINGS = (".svg",)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One file and the words that mean it."""

    caption: str
    path: Path


def read_pairs(folder: Path, suffixes: Sequence[str]) -> list[Pair]:
    """The pairs of a folder in the order of their names.

    Raises InputError for a folder without such files, for captions that name no file, and for two files under one
    caption, of which only one could ever be made.
    """
    if not folder.is_dir():
        raise InputError(f"--data: no folder '{folder}'; it holds {_listed(suffixes)} files and, if you like, captions")
    files = {path.name: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes and path.is_file()}
    if not files:
        raise InputError(f"--data: '{folder}' holds no {_listed(suffixes)} file")
    if len(files) > MOST:
        raise InputError(f"--data: '{folder}' holds {len(files)} files; at most {MOST} are learnt at once")
    named = _captions(folder)
    for name, (_, where) in named.items():
        if name not in files:
            raise unknown(f"file in '{folder}' ({where})", name, list(files)[:20])
    pairs = [
        Pair(caption=one_caption(*named.get(name, (words_of(path), name))), path=path) for name, path in files.items()
    ]
    met: dict[str, Path] = {}
    for pair in pairs:
        other = met.setdefault(pair.caption.lower(), pair.path)
        if other != pair.path:
            raise InputError(f"'{other.name}' and '{pair.path.name}' are both called '{pair.caption}'; rename one")
    return pairs


def one_caption(text: str, where: str) -> str:
    """A caption on one line, without a full stop; InputError says where an unfit one stands."""
    try:
        return re.sub(r"\s+", " ", check_prompt(text)).rstrip(".")
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def words_of(path: Path) -> str:
    """A file's name as words: "red-kite.svg" is "red kite"."""
    return re.sub(r"[\s_\-]+", " ", path.stem).strip()


def digest(pairs: Iterable[Pair]) -> str:
    """A hash of captions and files, by which a run knows that it goes on with the same."""
    found = hashlib.blake2b(digest_size=8)
    for pair in pairs:
        found.update(pair.caption.encode() + b"\0" + hashlib.blake2b(pair.path.read_bytes()).digest())
    return found.hexdigest()


def _captions(folder: Path) -> dict[str, tuple[str, str]]:
    """What the folder's file of captions says, by file: the caption and where it stands."""
    rows, lines = folder / "captions.jsonl", folder / "captions.txt"
    if rows.is_file() and lines.is_file():
        raise InputError(f"'{folder}' holds captions.jsonl and captions.txt; keep one")
    if rows.is_file():
        return dict(_from_rows(rows))
    return dict(_from_lines(lines)) if lines.is_file() else {}


def _from_rows(path: Path) -> Iterable[tuple[str, tuple[str, str]]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: not JSON ({error})") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("file", "caption")):
            raise InputError(f'{where}: wanted {{"file": "a.svg", "caption": "..."}}, got {line[:60]}')
        yield row["file"], (row["caption"], where)


def _from_lines(path: Path) -> Iterable[tuple[str, tuple[str, str]]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        found = re.fullmatch(r"\s*([^:\t]+?)\s*[:\t]\s*(.*)", line)
        if found is None:
            raise InputError(f"{path.name}, line {number}: wanted `file: caption`, got {line[:60]!r}")
        yield found[1], (found[2], f"{path.name}, line {number}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes)
