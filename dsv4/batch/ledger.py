"""The record of a batch, in one SQLite file: what was asked, and the line of every row that is done.

A row is done when its files lie under their last names and its line is committed here, in that order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from dsv4.errors import InputError

_SCHEMA = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE row (place INTEGER PRIMARY KEY, failed INTEGER NOT NULL, line TEXT NOT NULL) STRICT;
PRAGMA user_version = 1;
"""
_NAME = "ledger.sqlite"


class Ledger:
    """Open with `create` to run and with `read` to look; close it, or use it in a `with`."""

    def __init__(self, connection: sqlite3.Connection, lock: sqlite3.Connection | None) -> None:
        self._connection = connection
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, manifest: dict[str, str]) -> Ledger:
        """Begin, or go on with, the batch in `folder`.

        Raises InputError if another process is running it, or if it was begun from something else than `manifest`.
        """
        lock = sqlite3.connect(folder / "ledger.lock", timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")  # the system lets go of it when the process dies, however it dies
        except sqlite3.OperationalError as error:
            lock.close()
            raise InputError(f"another process is running the batch in '{folder}'") from error
        ledger = cls(_connect(folder / _NAME), lock)
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
        ledger = cls(_connect(folder / _NAME), None)
        if not ledger.manifest():
            ledger.close()
            raise InputError(f"the batch in '{folder}' was not begun")
        return ledger

    def manifest(self) -> dict[str, str]:
        """What the batch was begun from."""
        if self._connection.execute("PRAGMA user_version").fetchone() == (0,):
            return {}
        return dict(self._connection.execute("SELECT key, value FROM manifest"))

    def places(self) -> set[int]:
        """The places of all rows that are done or failed."""
        return {place for (place,) in self._connection.execute("SELECT place FROM row")}

    def counts(self) -> tuple[int, int]:
        """(done, failed)."""
        found = dict(self._connection.execute("SELECT failed, count(*) FROM row GROUP BY failed"))
        return found.get(0, 0), found.get(1, 0)

    def add(self, place: int, line: str, *, failed: bool) -> None:
        """Commit the line of one row."""
        with self._connection:
            self._connection.execute("INSERT INTO row VALUES (?, ?, ?)", (place, int(failed), line))

    def forget_failed(self) -> None:
        """Let the failed rows run again."""
        with self._connection:
            self._connection.execute("DELETE FROM row WHERE failed = 1")

    def lines(self) -> Iterator[str]:
        """The lines of all rows that are there, in the order of the input."""
        for (line,) in self._connection.execute("SELECT line FROM row ORDER BY place"):
            yield line

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
        if not had:
            self._connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            had = self.manifest()
        if not had:
            with self._connection:
                self._connection.executemany("INSERT INTO manifest VALUES (?, ?)", manifest.items())
            return
        changed = [key for key in manifest if had.get(key) != manifest[key]]
        if changed:
            raise InputError(
                f"the batch in '{folder}' was begun with another {' and another '.join(changed)}; "
                "give what it was begun with, or another output folder"
            )


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=5)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # safe against a killed process, 40 times faster than FULL
    except sqlite3.DatabaseError as error:
        raise InputError(f"'{path}' is not a ledger of a batch: {error}") from error
    return connection
