"""Scores over time: tables are read as they were printed, generations join, and each score has a dot at its place."""

from __future__ import annotations

import json
import xml.dom.minidom
from argparse import Namespace

import pytest

from dsv4.errors import InputError
from dsv4.eval import nano, over_time
from dsv4.eval.rows import Row, Score
from tests.conftest import ROOT

PRINTED = """words
| row | first light with a card | nano | cases | 95 % interval |
|---|---|---|---|---|
| icon by seen name, exact | ≥ 95 % | 71.7 % | 120 | 63–79 % |
| printed words, character error | ≤ 4 % | 96.2 % | 30 | – |
| icon by seen name, exact, Engram's rows zeroed | the drop | 0.0 % | 120 | 0–3 % |
| largest difference of logits, rows in host memory and mapped | 0 | 0 | 3 | – |
"""


def test_a_printed_table_is_read() -> None:
    assert over_time.read_table(PRINTED) == {
        "icon": {"percent": 71.7, "count": 120},
        "read": {"percent": 96.2, "count": 30},
    }
    with pytest.raises(InputError, match="no table of scores"):
        over_time.read_table("nothing\n")


def test_what_the_score_table_writes_is_taken_in(monkeypatch, tmp_path, capsys) -> None:
    """`dsv4 eval nano --out`, with rows that need no model."""
    made = [
        Row(key="icon", title="icon by seen name, exact", wanted="≥ 95 %", run=lambda _: Score(hits=2, count=3)),
        Row(key="page_2", title="page", wanted="≥ 97 %", run=lambda _: Score(rate=0.5, count=12)),
    ]
    monkeypatch.setattr(nano, "choose", lambda names, growth: made)
    monkeypatch.setattr("dsv4.studio.Studio.load", lambda name: None)
    asked = Namespace(rows="icon,page_2", growth=True, model="nano", device=None, data=tmp_path, limit=3)
    assert nano.main(Namespace(**vars(asked), out=str(tmp_path / "out"))) == 0
    scores = tmp_path / "scores.json"
    (tmp_path / "old.md").write_text(PRINTED)
    for file, name in (("old.md", "first"), ("out", "second")):
        words = [str(scores), "--add", str(tmp_path / file), "--name", name, "-o", str(tmp_path / "a.svg")]
        assert over_time.main(words) == 0
    kept = json.loads(scores.read_text())
    assert kept[1]["rows"] == {"icon": {"percent": 66.7, "count": 3}, "page_2": {"percent": 50.0, "count": 12}}
    assert "| icon by seen name, exact | ≥ 95 % | 71.7 % | 66.7 % |" in capsys.readouterr().out
    drawn = xml.dom.minidom.parseString((tmp_path / "a.svg").read_text())
    dots = [(float(one.getAttribute("cx")), one.getAttribute("fill")) for one in drawn.getElementsByTagName("circle")]
    across = over_time.Axis([0, 100], over_time.LEFT, over_time.WIDTH - over_time.RIGHT, pad=0)
    shade = over_time.SHADES
    expected = [(71.7, shade[0]), (66.7, shade[1]), (96.2, shade[0]), (50, shade[1])]
    assert dots[2:] == [(pytest.approx(across.place(value), abs=0.1), colour) for value, colour in expected]


def test_the_second_table_joins_the_first() -> None:
    first, second = {"icon": {"percent": 1.0, "count": 1}}, {"talk": {"percent": 2.0, "count": 1}}
    joined = over_time.add(over_time.add([], "fifth", "2026-11-28", first), "fifth", "", second)
    assert joined == [{"name": "fifth", "date": "2026-11-28", "rows": {**first, **second}}]
    with pytest.raises(InputError, match="--name"):
        over_time.main(["scores.json", "--add", "out"])
    with pytest.raises(InputError, match="nothing to draw"):
        over_time.draw([])


def test_the_scores_of_the_documents_are_those_of_the_rows() -> None:
    kept = json.loads((ROOT / "docs" / "scores.json").read_text())
    assert [one["name"] for one in kept][:4] == ["first", "second", "third", "fourth"]
    assert all(set(one["rows"]) <= set(over_time.rows()) for one in kept)
    assert all(0 <= score["percent"] <= 100 and score["count"] > 0 for one in kept for score in one["rows"].values())
    assert kept[0]["rows"]["composition"]["percent"] == 42.5 and kept[3]["rows"]["composition"]["percent"] == 96.7
