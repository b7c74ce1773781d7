"""The second score table: its judges pass the truth and fail wrong answers."""

from types import SimpleNamespace

import pytest

from dsv4.data.refusals import ANSWERS
from dsv4.errors import InputError
from dsv4.eval import growth, reading, rows
from dsv4.eval.nano import choose
from dsv4.eval.rows import Session
from dsv4.eval.text import KINDS


@pytest.fixture
def session(tmp_path_factory) -> Session:
    from tests import picture_world

    return Session(studio=None, data_dir=picture_world.write_world(tmp_path_factory.mktemp("world")), limit=3)


def test_rows_have_a_judge_and_their_own_key():
    keys = [row.key for row in (*growth.GROWTH, *rows.ROWS)]
    assert len(set(keys)) == len(keys) and {"talk", "mistyped", "refused", "page_8"} <= set(keys)
    ours = {"mistyped_alone", "left_alone", "made_up"}  # of the correction, which is no kind of request
    assert {row.key for row in growth.GROWTH[:12]} - ours <= set(KINDS)
    assert [row.key for row in choose("talk,four", growth=True)] == ["talk", "four"]
    with pytest.raises(InputError, match="did you mean 'talk'"):
        choose("talks", growth=True)


@pytest.mark.parametrize("density", growth.DENSITIES)
def test_a_page_is_judged_by_its_characters(session, monkeypatch, density):
    cases = reading.page_cases(session.data_dir, characters=64 * density, limit=3)
    length = sum(len(reading.flatten(case.truth)) for case in cases) / 3
    assert 0.8 < length / (64 * density) < 1.5
    monkeypatch.setattr(growth, "look", lambda *_, **__: [case.truth for case in cases])
    assert growth.page_errors(session, density).rate == 1
    monkeypatch.setattr(growth, "look", lambda *_, **__: [case.truth[: len(case.truth) // 2] for case in cases])
    assert 0.4 < growth.page_errors(session, density).rate < 0.6
    monkeypatch.setattr(growth, "look", lambda *_, **__: ["x" * 9999] * 3)
    assert growth.page_errors(session, density).rate == 0


@pytest.mark.parametrize(("reply", "rate"), [(ANSWERS[0], 1.0), ("A heron is a bird.", 0.0)])
def test_a_good_question_that_is_refused_counts(session, monkeypatch, reply, rate):
    cases = [SimpleNamespace(prompt=f"What is {number}?") for number in range(4)]
    monkeypatch.setattr(growth.text, "cases", lambda _, kind, limit: cases[:limit])
    session.studio = SimpleNamespace(
        chat=lambda question, max_tokens: SimpleNamespace(reply=SimpleNamespace(text=reply))
    )
    session.limit = 4
    score = growth._refused_in_error(session)
    assert (score.rate, score.count) == (rate, 4)
