"""Training curves: a made-up log of two stages, resumed once, and what is drawn of it."""

from __future__ import annotations

import json
import xml.dom.minidom

import pytest

from dsv4.errors import InputError
from dsv4.eval import curves


def row(stage: str, step: int, seconds: float, **losses: float) -> str:
    return json.dumps({"stage": stage, "step": step, "done": 0.5, "seconds": seconds, **losses})


LOG = [
    row("text", 1, 30.0, loss=4.1, text=4.0, balance=1.0),  # the clock starts anew after the first steps
    *(row("text", step, 6.0 * step, loss=4 / step, text=4 / step, balance=1.0) for step in range(2, 11)),
    row("see", 1, 1.0, loss=2, see=2.0),
    row("text", 11, 66.0, loss=9, text=9.0),
    row("text", 10, 60.0, loss=0.3, text=0.3),  # resumed: steps 10 and 11 are done again
    row("see", 2, 120.0, loss=1, see=1.0),
    row("see", 3, 180.0, loss=1, read=0.5),
]


def test_what_was_done_again_counts_once_and_time_runs_forward() -> None:
    rows = curves.read_log("\n".join(LOG) + '\n{"stage": "se')
    assert [one["step"] for one in rows if one["stage"] == "text"] == list(range(1, 11))
    assert [one["text"] for one in rows if "text" in one][-1] == 0.3
    assert rows[0]["seconds"] == 12.0
    assert curves.stages(rows) == {"text": 0.0, "see": 1.0} and curves.losses(rows) == ["text", "see", "read"]
    said = curves.table(rows, curves.losses(rows))
    assert said[2:] == ["| text | 10 | 1.0 | text 0.3 |", "| see | 3 | 3.0 | see 1, read 0.5 |"]


def test_a_mean_of_logarithms_keeps_a_steady_fall() -> None:
    falling = [2.0**-place for place in range(20)]
    assert curves.smoothed(falling, 5) == pytest.approx(falling)
    assert curves.smoothed([1, 100, 1], 3)[1] == pytest.approx(100 ** (1 / 3))
    assert curves.smoothed([3, 1], 0) == pytest.approx([3, 1])
    many = curves.thinned(range(1000), range(1000))
    assert len(many) <= curves.MOST and many[-1] == (999, 999) and many[0][0] < 10


def test_the_picture_has_a_line_a_loss_and_stage_and_a_border_a_stage(tmp_path, capsys) -> None:
    (tmp_path / "log.jsonl").write_text("\n".join(LOG))
    assert curves.main([str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "a.svg")]) == 0
    assert "| text | 10 |" in capsys.readouterr().out
    drawn = xml.dom.minidom.parseString((tmp_path / "a.svg").read_text())
    assert len(drawn.getElementsByTagName("polyline")) == 2 * 3
    dashed = [line for line in drawn.getElementsByTagName("line") if line.getAttribute("stroke-dasharray")]
    left, right = (float(line.getAttribute("x1")) for line in dashed)
    ends = [line.getAttribute("points").split()[0].split(",")[0] for line in drawn.getElementsByTagName("polyline")]
    assert left < right < float(ends[2])  # the second stage's line begins behind its border
    said = [text.firstChild.data for text in drawn.getElementsByTagName("text") if text.firstChild]
    assert said.count("text") == 2 and said.count("see") == 2 and said.count("read") == 1  # borders and legend


@pytest.mark.parametrize(("text", "told"), [("", "empty"), ("no json\n{}", "line 1"), ('{"a": 1}\n{}', "line 1")])
def test_what_is_no_log_is_said(text, told) -> None:
    with pytest.raises(InputError, match=told):
        curves.read_log(text)


def test_a_loss_that_is_not_there_is_named(tmp_path) -> None:
    (tmp_path / "log.jsonl").write_text("\n".join(LOG))
    with pytest.raises(InputError, match="did you mean 'text'"):
        curves.main([str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "a.svg"), "--losses", "txt"])
