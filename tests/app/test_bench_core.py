"""`dsv4 bench` runs at a small size, its table and its lines agree, and wrong flags are said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli import main


def test_core_measures_each_row_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    flags = ["--against", "transformers", "--small", "--longest", "256", "--repeats", "1", "--out", str(out)]
    assert main(["bench", "core", "--rows", "1,3,5,7,9", *flags]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 3, 3, 5, 5, 7, 9]
    assert all(line["ours"] > 0 and line["ratio"] == line["peer"] / line["ours"] for line in lines)
    assert "transformers V4 (eager" in capsys.readouterr().out


def test_core_says_which_rows_need_a_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "core", "--rows", "1,7", "--longest", "64", "--repeats", "1"]) == 0
    said = capsys.readouterr().out
    assert "1  needs --against transformers" in said and "7  open 4,096 numbers" in said


def test_a_core_that_computes_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from dsv4.bench import core_peers

    monkeypatch.setattr(core_peers, "pair", lambda kind, small: (None, None, 0.1))
    assert main(["bench", "core", "--rows", "1", "--against", "transformers", "--small"]) == 2


@pytest.mark.parametrize("rows", ["plain", "fp8"])
def test_context_costs_what_the_formula_says(rows: str, tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    flags = ["--chunk", "16", "--tokens", "2", "--layers", "3", "--cache-rows", rows, "--out", str(out)]
    assert main(["bench", "context", "--lengths", "300,1200", *flags]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["length"] for line in lines] == [300, 1200]
    for line in lines:
        assert line["bytes"] == pytest.approx(line["formula"]) and line["decode_ms"] > 0 and line["read_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["core", "--rows", "12"], "unknown row '12'"),
        (["core", "--rows", "x"], "numbers with commas"),
        (["core", "--against", "vllm"], "unknown peer 'vllm'"),
        (["context", "--lengths", "10", "--chunk", "10"], "more than the chunk"),
        (["context", "--cache-rows", "fp4"], "unknown rows 'fp4'"),
        (["context", "--layers", "9"], "between 1 and 6"),
    ],
)
def test_wrong_flags_are_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
