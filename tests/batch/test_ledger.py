"""The ledger is one file that is never made anew behind anybody's back: old, newer, damaged, locked, lost."""

from __future__ import annotations

import sqlite3

import pytest

from dsv4 import EchoStudio, InputError
from dsv4.batch import Ledger, batch_status, run_batch

ROWS = [{"id": f"r{index}", "task": "svg", "prompt": f"heart {index}"} for index in range(6)]


def begun(folder, rows: int = 3) -> None:
    """A batch of which some rows are done."""
    seen: list = []
    run_batch(EchoStudio(), ROWS, out=folder, on_row=seen.append, cancelled=lambda: len(seen) == rows)


def test_a_ledger_of_the_first_version_is_brought_up_to_date(tmp_path):
    begun(tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "ledger.sqlite") as old:
        old.executescript(
            "ALTER TABLE row DROP COLUMN attempts; DROP TABLE retried; PRAGMA user_version = 1;"
            "DELETE FROM manifest WHERE key NOT IN ('input', 'model', 'rows');"
        )
    assert batch_status(tmp_path / "out").done == 3
    assert run_batch(EchoStudio(), ROWS, out=tmp_path / "out").done == 6
    with sqlite3.connect(tmp_path / "out" / "ledger.sqlite") as now:
        assert now.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path):
    begun(tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "ledger.sqlite") as newer:
        newer.execute("PRAGMA user_version = 99")
    before = (tmp_path / "out" / "ledger.sqlite").read_bytes()
    for look in (lambda: batch_status(tmp_path / "out"), lambda: run_batch(EchoStudio(), ROWS, out=tmp_path / "out")):
        with pytest.raises(InputError, match="written by a newer version"):
            look()
    assert (tmp_path / "out" / "ledger.sqlite").read_bytes() == before


@pytest.mark.parametrize("damage", ["garbage", "cut", "overwritten"])
def test_a_damaged_ledger_is_told_and_not_replaced(tmp_path, damage):
    begun(tmp_path / "out", 6)
    path = tmp_path / "out" / "ledger.sqlite"
    whole = path.read_bytes()
    spoilt = {
        "garbage": b"these are words" * 99,
        "cut": whole[: len(whole) // 2],
        "overwritten": whole[:100] + b"\xff" * 9000,
    }[damage]
    path.write_bytes(spoilt)
    with pytest.raises(InputError, match="not a ledger of a batch, or is damaged"):
        run_batch(EchoStudio(), ROWS, out=tmp_path / "out")
    assert path.read_bytes() == spoilt


def test_results_without_their_ledger_are_not_run_over(tmp_path):
    begun(tmp_path / "out")
    for path in (tmp_path / "out").glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(InputError, match="holds results without their ledger"):
        run_batch(EchoStudio(), ROWS, out=tmp_path / "out")
    assert len(list((tmp_path / "out" / "files").iterdir())) == 3


def test_another_grouping_or_seed_is_another_batch(tmp_path):
    begun(tmp_path / "out")
    with pytest.raises(InputError, match="begun with another seed and another batch size"):
        run_batch(EchoStudio(), ROWS, out=tmp_path / "out", seed=1, batch_size=3)


def test_rows_are_committed_together_or_not_at_all(tmp_path):
    (tmp_path / "files").mkdir()
    with Ledger.create(tmp_path, {"rows": "9"}) as ledger:
        ledger.add(0, "zero", failed=False)
        with pytest.raises(sqlite3.IntegrityError):
            ledger.add_all([(1, "one", False, 1), (0, "again", False, 1)])
        assert ledger.places() == {0} and ledger.counts() == (1, 0)
        ledger.add_all([(2, "two", True, 1), (1, "one", False, 2)])
        assert list(ledger.lines()) == ["zero", "one", "two"]
        ledger.forget_failed()
        assert ledger.places() == {0, 1} and ledger.attempts(2) == 1 and ledger.attempts(1) == 0
