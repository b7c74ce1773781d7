"""The record of a batch, in one SQLite file: what was asked, and the line of every row that is done.

A row is done when its files lie under their last names and its line is committed here, in that order.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsv4.errors import InputError

VERSION = 2
_SCHEMA = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE row (place INTEGER PRIMARY KEY, failed INTEGER NOT NULL, line TEXT NOT NULL,
                  attempts INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE TABLE retried (place INTEGER PRIMARY KEY, attempts INTEGER NOT NULL) STRICT;
PRAGMA user_version = 2;
"""
_FROM_1 = """
ALTER TABLE row ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
CREATE TABLE retried (place INTEGER PRIMARY KEY, attempts INTEGER NOT NULL) STRICT;
PRAGMA user_version = 2;
"""
_NAME = "ledger.sqlite"
_HOLDER = "holder"  # a key of the manifest that no two runs share: the process that runs the batch


class Ledger:
    """Open with `create` to run and with `read` to look; close it, or use it in a `with`."""

    def __init__(self, path: Path, lock: sqlite3.Connection | None) -> None:
        self._path, self._lock = path, lock
        self._connection = _connect(path)

    @classmethod
    def create(cls, folder: Path, manifest: dict[str, str]) -> Ledger:
        """Begin, or go on with, the batch in `folder`.

        Raises InputError if another process is running it, or if it was begun from something else than `manifest`.
        """
        lock = sqlite3.connect(folder / "ledger.lock", timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")  # the system lets go of it when the process dies, however it dies
        except sqlite3.DatabaseError as error:
            lock.close()
            raise InputError(f"another process is running the batch in '{folder}'{_holder(folder)}") from error
        try:
            if not (folder / _NAME).exists() and any((folder / "files").glob("*")):
                raise InputError(f"'{folder}' holds results without their ledger; choose another output folder")
            ledger = cls(folder / _NAME, lock)
        except BaseException:
            lock.close()
            raise
        try:
            ledger._begin(manifest, folder)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """Look at the batch in `folder`; raises InputError if there is none."""
        if not (folder / _NAME).is_file():
            raise InputError(f"no batch was run into '{folder}'")
        ledger = cls(folder / _NAME, None)
        try:
            if not ledger.manifest():
                raise InputError(f"the batch in '{folder}' was not begun")
            ledger._migrate()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def manifest(self) -> dict[str, str]:
        """What the batch was begun from."""
        with self._explained():
            if self._connection.execute("PRAGMA user_version").fetchone() == (0,):
                return {}
            found = dict(self._connection.execute("SELECT key, value FROM manifest"))
        found.pop(_HOLDER, None)
        return found

    def places(self) -> set[int]:
        """The places of all rows that are done or failed."""
        with self._explained():
            return {place for (place,) in self._connection.execute("SELECT place FROM row")}

    def counts(self) -> tuple[int, int]:
        """(done, failed)."""
        with self._explained():
            found = dict(self._connection.execute("SELECT failed, count(*) FROM row GROUP BY failed"))
        return found.get(0, 0), found.get(1, 0)

    def attempts(self, place: int) -> int:
        """How often a row was tried before, and failed."""
        found = self._connection.execute("SELECT attempts FROM retried WHERE place = ?", (place,)).fetchone()
        return found[0] if found else 0

    def add(self, place: int, line: str, *, failed: bool) -> None:
        """Commit the line of one row."""
        self.add_all([(place, line, failed, 1)])

    def add_all(self, rows: Iterable[tuple[int, str, bool, int]]) -> None:
        """Commit rows together, each as (place, line, failed, attempts): all of them or none."""
        with self._explained(), self._connection:
            self._connection.executemany("INSERT INTO row (place, line, failed, attempts) VALUES (?, ?, ?, ?)", rows)

    def forget_failed(self) -> None:
        """Let the failed rows run again; how often each was tried stays known."""
        with self._explained(), self._connection:
            keep = "INSERT OR REPLACE INTO retried SELECT place, attempts FROM row WHERE failed = 1"
            self._connection.execute(keep)
            self._connection.execute("DELETE FROM row WHERE failed = 1")

    def lines(self) -> Iterator[str]:
        """The lines of all rows that are there, in the order of the input."""
        with self._explained():
            for (line,) in self._connection.execute("SELECT line FROM row ORDER BY place"):
                yield line

    def settle(self) -> None:
        """Bring everything into the one file, safe against a loss of power too."""
        with self._explained():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, manifest: dict[str, str], folder: Path) -> None:
        had = self.manifest()
        with self._explained():
            if not had and self._connection.execute("PRAGMA user_version").fetchone() == (0,):
                self._connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            self._migrate()
            if not had:
                with self._connection:
                    self._connection.executemany("INSERT INTO manifest VALUES (?, ?)", manifest.items())
        # Keys that an older version did not write cannot have been changed.
        changed = [key for key in manifest if had and had.get(key, manifest[key]) != manifest[key]]
        if changed:
            raise InputError(
                f"the batch in '{folder}' was begun with another {' and another '.join(changed)}; "
                "give what it was begun with, or another output folder"
            )
        with self._explained(), self._connection:
            self._connection.execute("INSERT OR REPLACE INTO manifest VALUES (?, ?)", (_HOLDER, str(os.getpid())))

    def _migrate(self) -> None:
        with self._explained():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == 1:
                self._connection.executescript(f"BEGIN;{_FROM_1}COMMIT;")
        if version > VERSION:
            raise InputError(f"'{self._path}' was written by a newer version of this program; use that one")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A file that is no ledger is the caller's to mend, a disk that does not take it the machine's."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # a row that is there already is a mistake of the program's
        except sqlite3.OperationalError as error:
            raise OSError(f"the ledger '{self._path}' cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise _no_ledger(self._path, error) from error


def _no_ledger(path: Path, error: Exception) -> InputError:
    return InputError(
        f"'{path}' is not a ledger of a batch, or is damaged: {error}; put a copy back, or use another output folder"
    )


def _holder(folder: Path) -> str:
    try:
        with sqlite3.connect(f"file:{folder / _NAME}?mode=ro", uri=True, timeout=1) as connection:
            found = connection.execute("SELECT value FROM manifest WHERE key = ?", (_HOLDER,)).fetchone()
    except sqlite3.Error:
        return ""
    return f" (process {found[0]})" if found else ""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # safe against a killed process, 40 times faster than FULL
    except sqlite3.OperationalError as error:
        connection.close()
        raise OSError(f"the ledger '{path}' cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _no_ledger(path, error) from error
    return connection
