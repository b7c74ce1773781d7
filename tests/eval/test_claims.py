"""`dsv4 eval claims`: its models, data and measures are what the tables say; the whole command at its smallest."""

from __future__ import annotations

import json
import xml.dom.minidom
from pathlib import Path

import pytest
import torch

from app.cli import main
from dsv4.core.count import count
from dsv4.eval import claims, claims_cost, claims_trained
from dsv4.eval.claims_kit import Setting
from dsv4.eval.plot import Line, chart

SETTING = Setting(scale=1, seeds=(0,), device="cpu")


def test_shares_keep_the_number_of_parameters() -> None:
    sizes = [count(claims_trained.shared_out(share, 64)).total for share in claims_trained.SHARES]
    assert max(sizes) < 1.005 * min(sizes)
    assert claims_trained.shared_out(1.0, 64).engram is None
    assert count(claims_trained.shared_out(0.25, 64)).memory > 0


def test_needles_can_be_answered_from_the_row() -> None:
    ids, targets = claims_trained.needles(5, 64, 8, 3, "cpu")
    assert (targets >= 0).sum(1).tolist() == [4] * 5
    for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
        for place, value in enumerate(wanted):
            if value >= 0:
                first = row.index(row[place])
                assert first < 56 and row[first + 1] == value and row[place] < 64
    again, _ = claims_trained.needles(5, 64, 8, 3, "cpu")
    assert torch.equal(ids, again)


def test_text_copies_what_stood_before() -> None:
    ids = claims_trained.batch(3, 64, 1, "cpu")
    assert torch.equal(ids[:, 56:64], ids[:, 32:40])


def test_training_learns_and_the_gain_is_the_product() -> None:
    core = claims_trained._built(claims_trained.small(32), 0, "cpu")
    before = claims_trained.held_out(core, SETTING)
    claims_trained.train(core, SETTING, seed=0, steps=12, rows=4, length=40, rate=2e-2, indexed=True)
    assert claims_trained.held_out(core, SETTING) < before - 0.01
    deep = claims_cost._deep("mhc", 0)
    forward, backward = claims_cost.composite(deep, SETTING, 0)
    assert forward == pytest.approx(1.0, abs=1e-3) and backward < 1.5


def test_values_that_are_not_turned_back_depend_on_where_the_text_starts() -> None:
    from types import MethodType

    core = claims_trained._built(claims_trained.small(32), 0, "cpu").eval()
    with torch.no_grad():
        core.embedding.weight.mul_(30)
    ids = claims_trained.batch(2, 20, 0, "cpu")

    def shift() -> float:
        with torch.no_grad():
            one, other = (
                core(ids, positions_BT=torch.arange(20)[None] + at, sparse=False).logits_BTV for at in (0, 500)
            )
        return ((one - other).abs().max() / one.abs().max()).item()

    assert shift() < 1e-3
    for block in core.blocks:
        block.attention.forward = MethodType(claims_trained._not_turned_back, block.attention)
    assert shift() > 1e-2


def test_a_chart_is_well_formed_and_its_points_lie_in_order() -> None:
    text = chart([Line("a<b", ((1, 10), (100, 1000)))], title="T & t", x="x", y="y", log_x=True, log_y=True)
    circles = xml.dom.minidom.parseString(text).getElementsByTagName("circle")
    (x1, y1), (x2, y2) = [(float(c.getAttribute("cx")), float(c.getAttribute("cy"))) for c in circles]
    assert 70 <= x1 < x2 <= 620 and y1 > y2
    with pytest.raises(ValueError, match="above zero"):
        chart([Line("a", ((0, 1),))], title="", x="", y="", log_x=True)
    with pytest.raises(ValueError, match="at least one point"):
        chart([], title="", x="", y="")


def test_the_command_writes_tables_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_cost, "LENGTHS", (16, 64))
    assert main(["eval", "claims", "--only", "rows", "--seeds", "2", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert all(" | ".join(row) in said for row in kept["rows"]) and len(kept["rows"]) == 2
    assert float(kept["rows"][0][1].split()[0]) < float(kept["rows"][0][2].split()[0]) < 10
    assert "polyline" in (tmp_path / "rows.svg").read_text()
    assert main(["eval", "claims", "--only", "row"]) == 2 and "did you mean 'rows'" in capsys.readouterr().err
    assert main(["eval", "claims", "--seeds", "0"]) == 2
    assert set(claims.claims()) == {"rows", "mhc", "cost", "engram", "needle", "dsa", "vvpa"}
