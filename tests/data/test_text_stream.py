"""Packed rows are whole documents with shifted targets; streams repeat by seed and never show what is held out."""

from itertools import combinations

import numpy as np
import pytest

from dsv4.data.documents import Documents
from dsv4.data.drawings import FORMS, Drawings
from dsv4.data.icons import COLOURS
from dsv4.data.language import SHAPE_NOUNS, Caption, held_colour, held_composition, held_pair
from dsv4.data.text import IGNORE, MIX, TextMixture
from generation.svg import vocabulary

ROWS, WIDTH = 4, 320


@pytest.fixture(scope="module")
def batches(text_world):
    stream = iter(TextMixture(text_world, seed=1, seq_len=WIDTH, rows=ROWS))
    return [next(stream) for _ in range(6)]


def spans(row_segments: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of every run of one segment number."""
    edges = [0, *(np.flatnonzero(np.diff(row_segments)) + 1), len(row_segments)]
    return list(zip(edges, edges[1:], strict=False))


def test_shapes_and_types(batches):
    for batch in batches:
        assert set(batch) == {"ids", "targets", "positions", "segments"}
        for array in batch.values():
            assert array.shape == (ROWS, WIDTH) and array.dtype == np.int32


def test_rows_hold_whole_documents_whose_answers_alone_are_learnt(batches, text_world):
    tokenizer = Documents(text_world, seed=0).tokenizer
    bos, pad = tokenizer.id_of("<|bos|>"), tokenizer.id_of("<|pad|>")
    ends = [tokenizer.id_of(name) for name in ("<|eos|>", "<|paint|>", "<|film|>")]
    starts = [tokenizer.id_of(name) for name in ("<|svg|>", "<|assistant|>", "</think>")]
    count = 0
    for batch in batches:
        for row in range(ROWS):
            ids, targets = batch["ids"][row], batch["targets"][row]
            for first, stop in spans(batch["segments"][row]):
                np.testing.assert_array_equal(batch["positions"][row, first:stop], np.arange(stop - first))
                if ids[first] == pad:
                    assert stop == WIDTH and (ids[first:] == pad).all() and (targets[first:] == IGNORE).all()
                    continue
                count += 1
                assert ids[first] == bos and ids[stop - 1] in ends and pad not in ids[first:stop]
                learnt = np.flatnonzero(targets[first:stop] != IGNORE) + first
                np.testing.assert_array_equal(learnt, np.arange(learnt[0], stop - 1))
                np.testing.assert_array_equal(targets[learnt], ids[learnt + 1])
                assert ids[learnt[0]] in starts or (learnt[0] == first and ids[stop - 1] in ends[1:])
    assert count > 100


def test_little_room_is_wasted_and_shares_are_kept(text_world):
    mixture = TextMixture(text_world, seed=3, seq_len=512, rows=8)
    batches = [mixture.batch() for _ in range(6)]
    assert np.mean([(batch["ids"] == mixture.pad).mean() for batch in batches]) < 0.03
    total = sum(mixture._given.values())
    for kind, share in MIX.items():
        assert mixture._given[kind] / total == pytest.approx(share / sum(MIX.values()), abs=0.03), kind


def test_a_seed_is_a_stream(text_world, batches):
    again = TextMixture(text_world, seed=1, seq_len=WIDTH, rows=ROWS)
    for batch in batches:
        for name, array in again.batch().items():
            np.testing.assert_array_equal(array, batch[name])
    other = TextMixture(text_world, seed=2, seq_len=WIDTH, rows=ROWS).batch()
    assert not np.array_equal(other["ids"], batches[0]["ids"])


def said(documents: Documents, kind: str, count: int = 300, **options) -> list[str]:
    make = getattr(documents, kind)
    return [documents.tokenizer.decode(make(**options)[0]).lower() for _ in range(count)]


def test_held_out_colours_and_compositions_are_never_trained(text_world):
    documents = Documents(text_world, seed=4)
    names = documents.icon_names
    unseen = [f"{colour} {name} icon" for name in names for colour in COLOURS if held_colour(name, colour)]
    assert unseen
    texts = said(documents, "coloured") + said(documents, "composition")
    assert not [text for text in texts for phrase in unseen if phrase in text]
    for text in said(documents, "coloured", 20, held=True):
        assert text in unseen
    forms = {f"{name} icon {form}" for name in names for form in FORMS[:2] if held_composition(name, form)}
    forms |= {f"{form} {name} icons" for name in names for form in FORMS[2:] if held_composition(name, form)}
    forms |= {
        f"{name} icon and {other} icon" for name in names for other in names if held_composition(name, f"and {other}")
    }
    assert forms and not [text for text in texts for phrase in forms if phrase in text]


def test_held_out_pairs_never_stand_in_a_scene(text_world):
    documents = Documents(text_world, seed=5)
    pairs = [pair for pair in combinations((*SHAPE_NOUNS, *documents.scene_names), 2) if held_pair(*pair)]
    texts = said(documents, "scene_svg", 400) + said(documents, "scene_drawn", 200) + said(documents, "hidden", 300)
    for make in (documents.caption,):
        texts += [documents.tokenizer.decode(make()[1]).lower() for _ in range(400)]
    for text in texts:
        text = text.split("?")[0].split(". ")[0]  # the scene, not the question about it
        assert not [pair for pair in pairs if all(f" {noun}" in f" {text}" for noun in pair)], text


def test_every_kind_makes_documents_that_end(text_world):
    documents = Documents(text_world, seed=6)
    end = documents.tokenizer.id_of("<|eos|>")
    for kind in MIX:
        for _ in range(30):
            prompt, answer = getattr(documents, kind)()
            assert answer[-1] == end or (len(prompt) == 0 and kind == "caption")


def test_drawings_in_documents_are_canonical(text_world):
    documents = Documents(text_world, seed=7)
    tokens, offset = vocabulary(), documents.tokenizer.svg_offset
    for kind in (
        "icon_full",
        "icon_short",
        "synonym",
        "coloured",
        "drawing",
        "composition",
        "scene_svg",
        "scene_drawn",
    ):
        for _ in range(25):
            ids = [int(number) - offset for number in getattr(documents, kind)()[1][:-1]]
            assert tokens.encode(tokens.decode(ids)) == ids, kind


def test_a_composition_repeats_its_parts_word_for_word():
    tokens, drawings = vocabulary(), Drawings()
    svg = '<svg viewBox="0 0 96 96" fill="currentColor"><circle cx="40" cy="48" r="20"/></svg>'
    ids = tokens.encode(svg)
    framed = tokens.decode(drawings.framed(ids, "circle"))
    assert '<circle cx="48" cy="48" r="42"/><g transform="translate(22 22) scale(0.55)"' in framed
    assert '<circle cx="40" cy="48" r="20"/>' in framed
    assert tokens.decode(drawings.form(ids, "four")).count('<circle cx="40" cy="48" r="20"/>') == 4
    red = tokens.decode(drawings.recolour(np.array(ids), "red").tolist())
    assert red == svg.replace("currentColor", "red")


def test_a_scene_places_its_nouns_where_the_words_say():
    tokens, drawings = vocabulary(), Drawings()
    left = Caption(nouns=("red circle", "blue square"), relation="to the left of")
    assert tokens.decode(drawings.scene(left, {})).index('cx="25"') > 0
    right = tokens.decode(drawings.scene(Caption(nouns=left.nouns, relation="to the right of"), {}))
    assert 'cx="71"' in right and 'x="6"' in right
    ground = tokens.decode(drawings.scene(Caption(nouns=("red star",), ground="grey"), {}))
    assert '<rect fill="gray" x="0" y="0" width="96" height="96"/>' in ground
    with pytest.raises(KeyError):
        drawings.scene(Caption(nouns=("tiger",)), {})


def test_a_row_that_can_hold_nothing_is_refused(text_world):
    with pytest.raises(ValueError, match="at least 8"):
        TextMixture(text_world, seed=0, seq_len=4, rows=1)
