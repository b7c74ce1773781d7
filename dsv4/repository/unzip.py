"""A zip of a repository, unpacked within limits: nothing outside its folder, no links, no bombs, names that are names.

Everything is judged by the archive's table before a byte is written, and counted again while it is written.
"""

from __future__ import annotations

import errno
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from dsv4.errors import InputError
from dsv4.limits import ARCHIVE_RATIO, REPO_BYTES, REPO_DEPTH, REPO_FILES

BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, UnicodeError)
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk's fault and not the zip's
PIECE = 1 << 20
SMALL = 10_000  # packed bytes below which a high ratio is no sign of anything
PRECIOUS = ("CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10)))


def check_zip(source: Path | IO[bytes]) -> int:
    """The number of files in an archive that may be unpacked; raises InputError for one that may not."""
    try:
        with zipfile.ZipFile(source) as archive:
            return len(list(_members(archive)))
    except BROKEN as error:
        raise InputError(f"this is no zip that can be read: {error}") from error


def unzip(source: Path | IO[bytes], folder: Path) -> Path:
    """Unpack into `folder`, which must be empty or not there; returns the root: the only folder inside, or `folder`.

    Raises InputError for an archive that may not be unpacked, and then leaves nothing of it to be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty")
    left = REPO_BYTES
    try:
        with zipfile.ZipFile(source) as archive:
            for member, path in list(_members(archive)):
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as given, target.open("xb") as kept:
                    while piece := given.read(PIECE):
                        left -= len(piece)
                        if left < 0:
                            raise InputError(_too_much())
                        kept.write(piece)
    except FileExistsError as error:
        raise InputError("the zip holds a name twice, or one that is a file and a folder") from error
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise InputError(f"this is no zip that can be read: {error}") from error
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Each regular file with its path; folders are made as files need them."""
    members = archive.infolist()
    if len(members) > REPO_FILES:
        raise InputError(f"the zip holds {len(members):,} files; at most {REPO_FILES:,} are taken")
    if sum(one.file_size for one in members) > REPO_BYTES:
        raise InputError(_too_much())
    seen: set[str] = set()
    for one in members:
        if one.flag_bits & 1:
            raise InputError(f"'{_told(one)}' in the zip is encrypted")
        if stat.S_IFMT(one.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"'{_told(one)}' in the zip is a link or a device, which is not taken")
        if one.file_size > ARCHIVE_RATIO * max(one.compress_size, SMALL):
            raise InputError(f"'{_told(one)}' in the zip unpacks to far more than it is")
        path = _path(one)
        if one.is_dir():
            continue
        if str(path).casefold() in seen:  # on some disks such names are one
            raise InputError(f"the zip holds '{_told(one)}' twice")
        seen.add(str(path).casefold())
        yield one, path


def _path(one: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member lies below the root; InputError for a name that leads elsewhere."""
    name = one.orig_filename  # zipfile cuts names at a NUL and turns backslashes on some systems
    path = PurePosixPath(name)
    odd = any(ord(letter) < 32 or letter in '\\:*?"<>|' for letter in name)
    bad = any(part == ".." or part.split(".")[0].upper() in PRECIOUS or part[-1] in ". " for part in path.parts)
    if odd or bad or not path.parts or path.is_absolute() or len(path.parts) > REPO_DEPTH or len(name) > 1024:
        raise InputError(f"'{_told(one)}' in the zip is no name of a file inside it")
    return path


def _told(one: zipfile.ZipInfo) -> str:
    return one.orig_filename.encode("unicode_escape").decode()[:80]


def _too_much() -> str:
    return f"the zip unpacks to more than {REPO_BYTES:,} bytes"
