"""`dsv4 bench packed` and `engram` at small sizes: rows that agree with what is measured, flags that are checked."""

from __future__ import annotations

import pytest

from app.cli import main
from dsv4.bench import engram, packed


def cells(line):
    return [cell.strip() for cell in line.strip("| \n").split("|")]


def test_packed_weights_take_less_and_say_how_far_they_are(capsys, monkeypatch):
    monkeypatch.setattr(packed, "PROMPT", 16)
    assert main(["bench", "packed", "--small", "--tokens", "2"]) == 0
    head, _, *rows = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows] == ["bf16", "q8", "q4"] and {len(row) for row in rows} == {len(head)}
    assert rows[0][4] == "1.00x" and rows[0][7] == "–"
    assert all(float(row[7].removesuffix(" %")) < 8 for row in rows[1:])
    assert float(rows[2][3]) > 0 and int(rows[2][2].removesuffix(" %")) > 0


def test_rows_of_a_file_are_the_same_and_waits_are_told(capsys, monkeypatch):
    monkeypatch.setattr(engram, "PROMPT", 8)
    assert main(["bench", "engram", "--budget", "0.2", "--times", "10", "--tokens", "2", "--hidden", "128"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("simulated: 2 MB of tables, 12.2 times")
    _, _, *rows = [cells(line) for line in said.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and all(row[5] == "yes" for row in rows)
    assert all(row[4] == "–" for row in rows[:4])
    assert all(0 <= float(row[4].removesuffix(" %")) <= 100 for row in rows[4:])


@pytest.mark.parametrize(
    "flags", [["packed", "--layers", "1"], ["engram", "--budget", "0"], ["engram", "--hidden", "100"]]
)
def test_flags_are_checked(flags):
    assert main(["bench", *flags]) == 2
