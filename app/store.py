"""The studio's memory: one SQLite file in WAL mode, its migrations, and the lock that keeps a second server out.

Every other module asks for rows through `Store.rows` and changes them inside `with Store.change()`. Ids are random, and
order is a counter that SQLite hands out, so a clock that jumps changes neither.
Source: SQLite documentation, "Write-Ahead Logging" and `PRAGMA user_version`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dsv4.errors import InputError

NAME = "studio.sqlite"
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p.nfs", "fuse.sshfs", "afs", "ceph")

# Each entry takes the file from version n to n + 1, whole or not at all. Never change one that was released: add one.
MIGRATIONS: list[str] = [
    """
    CREATE TABLE media (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, digest TEXT NOT NULL, suffix TEXT NOT NULL, bytes INTEGER NOT NULL,
        name TEXT NOT NULL, purpose TEXT NOT NULL, made_by TEXT NOT NULL, star INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL, job TEXT
    ) STRICT;
    CREATE INDEX media_by_owner ON media (owner, purpose, created);
    CREATE INDEX media_by_digest ON media (digest, suffix);
    CREATE TABLE job (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, lane TEXT NOT NULL,
        source TEXT NOT NULL, kind TEXT NOT NULL, params TEXT NOT NULL, priority INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        step INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
        cancel INTEGER NOT NULL DEFAULT 0, holder TEXT, seconds REAL NOT NULL DEFAULT 0,
        created REAL NOT NULL, ended REAL, error TEXT, result TEXT
    ) STRICT;
    CREATE INDEX job_by_state ON job (state, seq);
    CREATE INDEX job_by_owner ON job (owner, seq);
    CREATE TABLE event (
        job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE, seq INTEGER NOT NULL, kind TEXT NOT NULL,
        data TEXT NOT NULL, PRIMARY KEY (job, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE turn (lane TEXT PRIMARY KEY, served INTEGER NOT NULL) STRICT;
    CREATE TABLE talk (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, title TEXT NOT NULL,
        head TEXT, touched INTEGER NOT NULL, created REAL NOT NULL
    ) STRICT;
    CREATE INDEX talk_by_owner ON talk (owner, touched);
    CREATE TABLE message (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        talk TEXT NOT NULL REFERENCES talk (id) ON DELETE CASCADE, parent TEXT, role TEXT NOT NULL, text TEXT NOT NULL,
        shown TEXT NOT NULL DEFAULT '[]', job TEXT, state TEXT NOT NULL, meta TEXT NOT NULL DEFAULT '{}',
        created REAL NOT NULL
    ) STRICT;
    CREATE INDEX message_by_talk ON message (talk, seq);
    CREATE TABLE batch (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, state TEXT NOT NULL,
        endpoint TEXT NOT NULL, input TEXT NOT NULL, output TEXT, errors TEXT, total INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, faults TEXT NOT NULL DEFAULT '[]',
        metadata TEXT NOT NULL DEFAULT '{}', cancel INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, ended REAL
    ) STRICT;
    CREATE INDEX batch_by_owner ON batch (owner, seq);
    """,
]


def home() -> Path:
    """Where the studio keeps what it should remember: DSV4_HOME, else the data folder that the system has for it."""
    if os.environ.get("DSV4_HOME"):
        return Path(os.environ["DSV4_HOME"])
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".local" / "share") / "dsv4"


def new_id(kind: str) -> str:
    """An id that cannot be guessed, such as `job_3f9c...`."""
    return f"{kind}_{secrets.token_hex(12)}"


class Store:
    """The open database of one folder. One connection behind one lock: each use of it is short."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`, make or migrate its database; InputError says why when that cannot be."""
        self.folder = folder
        self._guard = threading.RLock()
        _check_folder(folder)
        self._lock = _lock(folder)
        try:
            _check_whole(folder)
            self._connection = _open(folder / NAME)
            migrate(self._connection, folder)
        except BaseException:
            self._lock.close()
            raise

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of what happens inside is kept, or nothing of it."""
        with self._guard:
            if self._connection.in_transaction:  # inside another change: part of that one
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    def rows(self, question: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """All rows of a SELECT, by column name."""
        with self._guard:
            return [dict(row) for row in self._connection.execute(question, values)]

    def row(self, question: str, values: Sequence[Any] | dict[str, Any] = ()) -> dict[str, Any] | None:
        """The first row of a SELECT, or None."""
        found = self.rows(question, values)
        return found[0] if found else None

    def sound(self) -> bool:
        """Whether SQLite finds the file in order."""
        return self.rows("PRAGMA quick_check")[0]["quick_check"] == "ok"

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        with self._guard, contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._lock.close()
        (self.folder / "server.pid").unlink(missing_ok=True)


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring the file to the newest version, one whole step at a time, after a copy of what was there.

    Raises InputError for a file of a newer version, and leaves it as it is.
    """
    (had,) = connection.execute("PRAGMA user_version").fetchone()
    newest = len(MIGRATIONS)
    if had > newest:
        raise InputError(
            f"'{folder / NAME}' has version {had}, which a newer dsv4 wrote; this one knows {newest}: "
            "update it, or name another folder with --home"
        )
    if 0 < had < newest:
        with contextlib.closing(sqlite3.connect(folder / f"studio.v{had}.backup.sqlite")) as copy:
            connection.backup(copy)
    for number in range(had, newest):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
            )
        except sqlite3.Error:
            connection.rollback()
            raise


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)  # conversations and pictures are nobody else's
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot keep data in '{folder}': {error.strerror}; name another with --home") from error
    kind = filesystem(folder)
    if kind in NETWORK_FILESYSTEMS:
        raise InputError(f"'{folder}' lies on a network file system ({kind}), where SQLite loses data; use --home")


def filesystem(folder: Path) -> str:
    """The kind of file system that holds a folder, where the system tells it (Linux); else nothing."""
    table = Path("/proc/self/mountinfo")
    if not table.is_file():
        return ""
    place, best, kind = folder.resolve(), -1, ""
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        mounted = Path(left.split()[4].replace("\\040", " "))
        if place.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), right.split()[0]
    return kind


def _lock(folder: Path) -> sqlite3.Connection:
    """Hold the folder; the system lets go of it when the process dies, however it dies."""
    lock = sqlite3.connect(folder / "server.lock", timeout=0, isolation_level=None, check_same_thread=False)
    note = folder / "server.pid"
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.DatabaseError as error:
        lock.close()
        holder = note.read_text(encoding="utf-8").strip() if note.is_file() else "unknown"
        raise InputError(
            f"another studio (process {holder}) uses '{folder}'; stop it, or name another folder with --home"
        ) from error
    note.write_text(str(os.getpid()), encoding="utf-8")
    return lock


def _check_whole(folder: Path) -> None:
    """A folder with media and no database has lost it: a new one would forget, and sweep away, all that was made."""
    path = folder / NAME
    known = path.is_file() and path.stat().st_size > 0
    if not known and any(one.is_file() for one in (folder / "media").glob("*/*/*")):
        raise InputError(
            f"'{folder}' holds media, but its database '{NAME}' is gone or empty: put a backup in its place, or move "
            "the folder away to begin anew"
        )


def _open(path: Path) -> sqlite3.Connection:
    if path.is_file() and path.stat().st_size == 0 and path.with_name(f"{NAME}-wal").is_file():
        raise InputError(f"'{path}' is empty though a write-ahead log lies beside it: put a backup in its place")
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # safe against a killed process, 40 times faster than FULL
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("pages of it are damaged")
    except sqlite3.DatabaseError as error:
        connection.close()
        backups = sorted(path.parent.glob("studio.*.backup.sqlite"))
        hint = f"put '{backups[-1].name}' in its place" if backups else "move it away to begin anew"
        raise InputError(f"'{path}' cannot be read: {error}; {hint}") from error
    return connection
