"""The files of a repository: ignore rules kept, links not followed, and every file that is left out named with why."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsv4.errors import InputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".ignore", ".dsv4ignore")  # a later one counts more
ALWAYS = (".git/", ".hg/", ".svn/", "node_modules/", "__pycache__/", ".venv/", "venv/", ".tox/", "*.pyc", "*.map")
SECRET = (".env", ".env.*", "*.pem", "*.key", "id_rsa", "id_ed25519", ".netrc", ".pypirc", "credentials.json")
LOCKS = ("package-lock.json", "yarn.lock", "pnpm-lock.yaml", "poetry.lock", "uv.lock", "Cargo.lock", "go.sum")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".jsx": "javascript", ".mjs": "javascript",
    ".cjs": "javascript", ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx", ".go": "go",
    ".rs": "rust", ".java": "java", ".c": "c", ".h": "cpp", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp",
    ".hh": "cpp", ".cu": "cpp", ".cuh": "cpp",
}  # fmt: skip
LARGEST = 1_000_000  # bytes of a file
LONG_LINE = 4_000  # characters; nobody wrote such a line by hand
MOST_FILES = 50_000


@dataclass(frozen=True, kw_only=True)
class File:
    """A text file: its path from the root with `/`, its words, and its language or ''."""

    path: str
    text: str
    language: str


@dataclass(frozen=True, kw_only=True)
class Note:
    """A file that is left out, or not read as it is, and why."""

    path: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a repository holds, in the order of paths."""

    root: Path
    files: tuple[File, ...]
    notes: tuple[Note, ...]


def walk(root: str | os.PathLike[str], *, ignore: Sequence[str] = ()) -> Walk:
    """Read a folder; `ignore` are further patterns in the form of .gitignore.

    Raises InputError when it is not a folder, or has more than MOST_FILES files that are not ignored.
    """
    from pathspec import GitIgnoreSpec

    top = Path(root)
    if "\0" in str(root) or not top.is_dir():
        raise InputError(f"no folder at '{root}'; name the root of a repository")
    always = GitIgnoreSpec.from_lines([*ALWAYS, *ignore])
    files: list[File] = []
    notes: list[Note] = []
    for path, why in _paths(top, "", [("", always)]):
        if len(files) + len(notes) >= MOST_FILES:
            raise InputError(f"'{root}' has more than {MOST_FILES:,} files; name a folder inside, or ignore some")
        text, note = (None, why) if why else _read(top / path)
        if text is not None:
            files.append(File(path=path, text=text, language=LANGUAGES.get(Path(path).suffix.lower(), "")))
        if note:
            notes.append(Note(path=_sayable(path), why=note))
    return Walk(root=top, files=tuple(files), notes=tuple(notes))


def _paths(top: Path, inside: str, rules: list[tuple[str, GitIgnoreSpec]]) -> Iterator[tuple[str, str]]:
    """(path, why it is left out or '') below `inside`, sorted. Rules of deeper folders come later and count more."""
    from pathspec import GitIgnoreSpec

    try:
        entries = sorted(os.scandir(top / inside), key=lambda entry: entry.name)
    except OSError as error:
        yield inside.rstrip("/"), f"a folder that cannot be read: {error.strerror}"
        return
    names = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    here = list(rules)
    for name in IGNORE_FILES:
        if name in names:
            lines = (top / inside / name).read_text(encoding="utf-8", errors="replace").splitlines()
            here.append((inside, GitIgnoreSpec.from_lines(lines)))
    for entry in entries:
        path = inside + entry.name
        folder = entry.is_dir(follow_symlinks=False)
        if _ignored(path + "/" * folder, here):
            continue
        if entry.is_symlink():
            yield path, "a link: not followed"
        elif folder:
            yield from _paths(top, path + "/", here)
        elif _sayable(path) != path:
            yield path, "a name that is not UTF-8"
        else:
            yield path, "" if stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode) else "not a regular file"


def _ignored(path: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    for folder, spec in reversed(rules):
        found = spec.check_file(path[len(folder) :]).include
        if found is not None:
            return bool(found)
    return False


def _read(path: Path) -> tuple[str | None, str]:
    """The words of a file, or None, and what is to be said about it."""
    if any(path.match(pattern) for pattern in SECRET):
        return None, "may hold a secret"
    if path.name in LOCKS:
        return None, "a lock file"
    if path.suffix.lower() in PICTURES:
        return None, "a picture; show it with --image"
    try:
        size = path.stat().st_size
        if size > LARGEST:
            return None, f"huge: {size:,} bytes, at most {LARGEST:,} are read"
        data = path.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    text, note = _decode(data)
    if text is not None and max((len(line) for line in text.splitlines()), default=0) > LONG_LINE:
        return None, f"made by a program: it has lines of more than {LONG_LINE:,} characters"
    return text, note


def _decode(data: bytes) -> tuple[str | None, str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").replace("\r\n", "\n"), "UTF-16, turned into UTF-8"
        except UnicodeDecodeError:
            return None, "binary"
    if b"\0" in data:
        return None, "binary"
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n"), ""
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", errors="replace")
        if text.count("\ufffd") * 10 > len(text):
            return None, "binary"
        return text.replace("\r\n", "\n"), f"not UTF-8 from byte {error.start:,} on: such bytes are replaced"


def _sayable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", errors="replace")
