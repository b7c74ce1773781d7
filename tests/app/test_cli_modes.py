"""`dsv4 modes` prints the table of costs, gives advice and draws the tiles."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from app.cli import main


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.png"
    Image.new("RGB", (1240, 1754), "white").save(path)
    return str(path)


def test_costs_and_advice(page, capsys):
    assert main(["modes", page, "--kind", "newspaper"]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:5] for line in printed[2:8]}
    assert rows["tiny"] == ["73", "64", "64", "-"] and rows["gundam"] == ["903", "856", "781", "2x3"]
    assert "Gundam is enough: 903 tokens" in printed[-1]


def test_as_json_with_fewer_tiles_and_drawn(page, capsys, tmp_path):
    wide = tmp_path / "wide.png"
    Image.new("RGB", (1920, 1080), "white").save(wide)
    assert main(["modes", str(wide), "--tiles", "6", "--json", "--draw", str(tmp_path / "drawn.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["width"], found["advice"]) == (1920, None)
    assert {row["mode"]: row["tokens"] for row in found["modes"]}["gundam"] == 483
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (1920, 1080) and drawn.getpixel((960, 500)) != (255, 255, 255)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "newspapr"], "did you mean 'newspaper'"),
        (["--mode", "bse"], "did you mean 'base'"),
        (["--tiles", "7"], "9 or 6"),
        (["--draw", "tiles.svg"], "unknown output format"),
    ],
)
def test_what_is_wrong_is_said(page, capsys, arguments, says):
    assert main(["modes", page, *arguments]) == 2
    assert says in capsys.readouterr().err
