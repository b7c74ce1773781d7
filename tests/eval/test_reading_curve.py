"""The reading curve: pages at another mode's own pixels, intervals over pages, a table and a line a mode."""

from __future__ import annotations

import xml.dom.minidom
from types import SimpleNamespace

import numpy as np
import pytest

from dsv4.data.glyphs import GlyphSheets
from dsv4.errors import InputError
from dsv4.eval import reading, reading_curve
from dsv4.eval.reading_curve import Point
from dsv4.eval.rows import Session


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    from tests import picture_world

    return picture_world.write_world(tmp_path_factory.mktemp("world"))


def test_a_page_is_printed_anew_at_another_size(data_dir) -> None:
    found, sheets = reading.page_cases(data_dir, characters=128, limit=2), GlyphSheets.load(data_dir)
    usual, large = reading.pictures(found, sheets), reading.pictures(found, sheets, side=1024)
    assert large.shape == (2, 1024, 1024, 3)
    halves = large.reshape(2, 512, 2, 512, 2, 3).astype(float).mean((2, 4))
    contrast = np.abs(usual - usual.mean()).mean()
    assert np.abs(halves - usual).mean() < 0.05 * contrast  # the same letters at the same places
    stretched = usual.repeat(2, 1).repeat(2, 2).astype(float)
    assert np.abs(large - stretched).mean() > 0.005 * contrast  # and not the small picture blown up


def test_what_is_read_right_and_its_interval() -> None:
    assert reading_curve.read_right([(0, 10)] * 5) == (1, 1, 1)
    right, low, high = reading_curve.read_right([(0, 100)] * 6 + [(100, 100)] * 6)
    assert right == 0.5 and 0.15 < low < 0.35 and 0.65 < high < 0.85
    assert reading_curve.read_right([(99, 10)]) == (0, 0, 0)


@pytest.mark.parametrize(("mode", "side", "places"), [("tiny", 512, 64), ("small", 640, 100)])
def test_pages_hold_so_many_characters_a_token_and_are_shown_at_the_modes_size(
    data_dir, monkeypatch, mode, side, places
) -> None:
    shown = []

    def look(session, questions, pages, *, max_tokens):
        shown.append((pages.shape, max_tokens))
        return [case.truth[:-1] for case in reading.page_cases(data_dir, characters=2 * places, limit=3)]

    monkeypatch.setattr(reading_curve, "look", look)
    model = SimpleNamespace(tokenizer=SimpleNamespace(encode=lambda text: text.split()))
    session = Session(studio=SimpleNamespace(model=model), data_dir=data_dir, limit=3)
    point = reading_curve.measure(session, mode, 2)
    assert shown[0][0] == (3, side, side, 3) and shown[0][1] >= 3 * places
    assert point.places == places and 1.8 < point.characters / places < 2.6 and point.words < point.characters
    assert point.right == pytest.approx(1 - 1 / point.characters) and point.low <= point.right <= point.high


def point(mode: str, density: int, right: float) -> Point:
    return Point(mode=mode, side=512, places=64, density=density, pages=12, characters=70.0 * density,
                 words=20.0 * density, right=right, low=right - 0.1, high=right + 0.1)  # fmt: skip


def test_the_table_says_where_the_other_mode_reads_less() -> None:
    points = [point("tiny", 1, 0.8), point("tiny", 2, 0.5), point("small", 1, 0.6), point("small", 2, 0.55)]
    lines = reading_curve.table(points)
    assert lines[2] == "| tiny, 512 px | 64 | 1.1 | 0.31 | 80.0 % | 12 | 70–90 % |"
    assert "at 1 characters" in lines[-1] and "trained in Tiny mode alone" in lines[-1]
    drawn = xml.dom.minidom.parseString(reading_curve.draw(points))
    assert len(drawn.getElementsByTagName("circle")) == 4 and len(drawn.getElementsByTagName("polyline")) == 2


def test_modes_that_cut_tiles_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="tiles"):
        reading_curve.main(["--data", str(tmp_path), "-o", str(tmp_path / "a.svg"), "--modes", "gundam"])
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        reading_curve.main(["--data", str(tmp_path), "-o", str(tmp_path / "a.svg"), "--modes", "tny"])
