"""Tokens and canonical text are two spellings of one thing."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest

from generation.svg import COLOURS, SvgState, canonical, partial, rasterise_trusted, rebuild, vocabulary

VOCAB = vocabulary()
DRAWINGS = json.loads(Path(__file__).with_name("drawings.json").read_text())
LINE = DRAWINGS["line icon"].partition("<path")[0]


def test_vocabulary_is_small_unique_and_complete():
    assert len(VOCAB) <= 520 and len(set(VOCAB.tokens)) == len(VOCAB.tokens)
    assert len(COLOURS) == 128 == len(set(COLOURS))
    wanted = [*map(str, range(97)), "none", "currentColor", *"red blue green orange purple black yellow teal".split()]
    assert set(wanted) <= set(VOCAB.tokens)


@pytest.mark.parametrize("name", DRAWINGS)
def test_round_trip_is_exact(name):
    text = DRAWINGS[name]
    ids = VOCAB.encode(text)
    assert VOCAB.decode(ids) == text
    assert VOCAB.encode(VOCAB.decode(ids)) == ids
    assert canonical(text) == text


def test_a_line_icon_is_short():
    words = VOCAB.words(VOCAB.encode(LINE + '<path d="M 8 64A 2 2 0 0 1 28 25"/></svg>'))
    assert words == "svg-line currentColor 8 path 8 64 a01 2 28 25 /svg".split()


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_mask_lets_every_drawing_through_in_exactly_its_length(name):
    ids = VOCAB.encode(DRAWINGS[name])
    state = SvgState(len(ids))
    for token in ids:
        assert not state.done and state.allowed()[token]
        state.push(token)
    assert state.done and not state.allowed().any()


def _walk(budget: int, rng: random.Random) -> list[int]:
    state, ids = SvgState(budget), []
    while not state.done:
        options = np.flatnonzero(state.allowed())
        markup = options[options < VOCAB.index["none"]]
        options = markup if len(markup) and rng.random() < 0.6 else options
        ids.append(int(rng.choice(options.tolist())))
        state.push(ids[-1])
    return ids


@pytest.mark.parametrize("budget", [7, 8, 9, 10, 13, 20, 60, 300])
def test_random_walks_close_in_time_rebuild_and_draw(budget):
    rng = random.Random(budget)
    for number in range(25):
        ids = _walk(budget, rng)
        text = VOCAB.decode(ids)
        assert len(ids) <= budget
        assert VOCAB.encode(text) == ids
        assert canonical(rebuild(text, title="a & b")) == text == canonical(text)
        if number % 5 == 0:
            assert rasterise_trusted(text, 24).shape == (24, 24, 3)


def test_states_copy_independently():
    ids = VOCAB.encode(DRAWINGS["groups"])
    state = SvgState(200)
    for token in ids[:9]:
        state.push(token)
    twin, before = copy.deepcopy(state), state.allowed().copy()
    twin.push(int(np.flatnonzero(before)[0]))
    assert (state.allowed() == before).all() and twin.left == state.left - 1


def test_the_mask_keeps_primitives_inside():
    state = SvgState(50)
    for word in "svg red circle 100 48".split():
        state.push(VOCAB.id_of(word))
    assert [VOCAB.tokens[token] for token in np.flatnonzero(state.allowed())] == ["1", "2", "3", "4"]
    with pytest.raises(ValueError, match="'5' cannot come here; possible is 1, 2"):
        state.push(VOCAB.id_of("5"))


def test_too_small_a_budget_is_refused():
    with pytest.raises(ValueError, match="at least 7"):
        SvgState(6)


def test_partial_shows_what_is_complete():
    text = DRAWINGS["groups"]
    ids = VOCAB.encode(text)
    seen = [partial(ids[:end]) for end in range(len(ids) + 1)]
    assert seen[-1] == seen[-2] == text
    assert "<circle" not in seen[4] and "<circle" in seen[11]
    assert all(one.endswith("</svg>") for one in seen)
    line = VOCAB.encode(LINE + '<path d="M 1 2L 3 4L 5 6"/></svg>')
    assert 'd="M 1 2L 3 4"' in partial(line[:-2])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (('fill="red"', 'fill="#fe0102"'), "nearest there is 'red'"),
        (('r="40"', 'r="40.5"'), "whole numbers"),
        (('r="40"', 'r="105"'), "number 105 has no token"),
        (("<circle", "<blink"), "not canonical; allowed: path"),
        (('cx="48"', 'onclick="x"'), "'onclick' of <circle> is not canonical"),
        (("0 0 96 96", "0 0 24 24"), r"use canonical\(text\)"),
        (("</svg>", ""), "not well-formed"),
    ],
)
def test_encoding_refuses_what_has_no_token(change, match):
    text = '<svg viewBox="0 0 96 96" fill="red"><circle cx="48" cy="48" r="40"/></svg>'
    with pytest.raises(ValueError, match=match):
        VOCAB.encode(text.replace(*change))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("svg red circle 1 2", "wanted more of the drawing"),
        ("svg red circle 1 2 3 /svg path", "wanted nothing behind"),
        ("svg red /svg", "wanted a shape"),
        ("svg 4 circle 1 2 3 /svg", "wanted a paint"),
    ],
)
def test_decoding_names_the_broken_place(words, match):
    with pytest.raises(ValueError, match=match):
        VOCAB.decode([VOCAB.id_of(word) for word in words.split()])
    with pytest.raises(ValueError, match="ids are 0 to"):
        VOCAB.decode([len(VOCAB)])
