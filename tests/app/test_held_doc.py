"""docs/faults.md: all 84 bad inputs and all 30 faults are there, and every test that it names is a test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "faults.md").read_text("utf-8")
BAD, FAULTS = TEXT.split("## Faults")


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a table by the first of them."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {first: rest for first, *rest in cells if first != "#"}


def test_every_number_is_there_and_held_by_a_test_at_one_door_at_least():
    assert list(rows(BAD)) == [str(number) for number in range(1, 85)]
    assert list(rows(FAULTS)) == [f"F{number}" for number in range(1, 31)]
    for number, cells in {**rows(BAD), **rows(FAULTS)}.items():
        assert any("`test_" in cell for cell in cells) and all(cells[:-1]), number


def test_every_test_that_is_named_exists():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 100 and sorted(name for name in named if f"def {name}(" not in sources) == []


def test_numbers_in_the_names_of_cases_are_those_of_the_table():
    """The cases of the server's tests begin with their numbers; none is outside the list."""
    for name in ("test_api.py", "test_bad_inputs_server.py"):
        source = (ROOT / "tests" / "app" / name).read_text("utf-8")
        numbers = {int(found) for found in re.findall(r'^\s+\(?"(\d+) ', source, re.M)}
        assert numbers and numbers <= set(range(1, 85))
