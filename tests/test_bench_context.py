"""`dsv4 bench context`: its lines at small lengths, bytes by the formula, and pages beside plain memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dsv4.bench import context
from dsv4.core.pages import supported
from dsv4.errors import InputError


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.parametrize("keys", ["fp8"])
def test_bytes_are_those_of_the_formula(keys: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lines.jsonl"
    given = ["--lengths", "600,700", "--chunk", "16", "--tokens", "2", "--layers", "1", "--index-keys", keys]
    assert context.main([*given, "--cache-rows", "fp8", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["length"] for line in lines] == [600, 700] and len(capsys.readouterr().out.splitlines()) == 4
    assert all(line["bytes"] == line["formula"] for line in lines)


@pytest.mark.skipif(not supported("cpu"), reason="pages are memory maps of Linux")
def test_pages_beside_plain_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert context.main(["--lengths", "600", "--chunk", "16", "--tokens", "3", "--layers", "1", "--pages"]) == 0
    numbers = capsys.readouterr().out.splitlines()[-1].replace(",", "").split()
    length, plain, pages, ratio = map(float, numbers[:4])
    assert length == 600 and plain > 0 and pages > 0 and ratio > 0 and len(numbers) == 8


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="index keys 'int4'"):
        context.main(["--index-keys", "int4"])
