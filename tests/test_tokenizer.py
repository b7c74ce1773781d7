"""The tokenizer keeps every text, keeps control strings apart from text, and knows which ids read alike."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4.errors import InputError
from dsv4.tokenizer import CONTROLS, Tokenizer

TEXTS = ["What is a heron?", "a red heart icon, lucide", "Heron heron HERON 300 blue circles"] * 9
SVG = ("svg", "/svg", "path", "12")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=360, svg_tokens=SVG)


_SHARED = Tokenizer.train(TEXTS, vocab_size=360, svg_tokens=SVG)


@given(st.text())
def test_any_text_comes_back(text):
    assert _SHARED.decode(_SHARED.encode(text)) == text


@given(st.text(), st.sampled_from([*CONTROLS, "<s:svg>", "<s:12>"]), st.text())
def test_control_strings_in_text_stay_text(before, control, after):
    ids = _SHARED.encode(before + control + after)
    assert max(ids) < _SHARED.id_of(CONTROLS[0])
    assert _SHARED.decode(ids) == before + control + after


def test_layout_is_text_then_controls_then_svg(tokenizer):
    first = tokenizer.id_of(CONTROLS[0])
    assert [tokenizer.id_of(name) for name in CONTROLS] == list(range(first, first + len(CONTROLS)))
    assert tokenizer.svg_offset == first + len(CONTROLS)
    assert [tokenizer.id_of(f"<s:{name}>") - tokenizer.svg_offset for name in SVG] == list(range(len(SVG)))
    assert tokenizer.svg_size == len(SVG) and tokenizer.svg_offset + len(SVG) == tokenizer.vocab_size <= 360


def test_controls_are_dropped_when_decoding(tokenizer):
    ids = [tokenizer.id_of("<|bos|>"), *tokenizer.encode("heron"), tokenizer.svg_offset, tokenizer.id_of("<|eos|>")]
    assert tokenizer.decode(ids) == "heron"


def test_digits_stand_alone(tokenizer):
    pieces = [tokenizer.decode([number]) for number in tokenizer.encode("300 blue circles 300")]
    assert [piece for piece in pieces if any(letter.isdigit() for letter in piece)] == list("300300")


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    text = "<think> a heron <|svg|> 7"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.fingerprint == tokenizer.fingerprint and again.svg_offset == tokenizer.svg_offset
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_training_twice_gives_the_same_vocabulary(tokenizer):
    assert Tokenizer.train(TEXTS, vocab_size=360, svg_tokens=SVG).fingerprint == tokenizer.fingerprint
    assert Tokenizer.train(TEXTS[:2], vocab_size=360, svg_tokens=SVG).fingerprint != tokenizer.fingerprint


def test_canonical_ids_join_case_width_and_the_space_before(tokenizer):
    ids_V = tokenizer.canonical_ids
    assert ids_V.dtype == np.int64 and ids_V.shape == (tokenizer.vocab_size,)
    (upper,), (lower,) = tokenizer.encode("H"), tokenizer.encode("h")
    assert ids_V[upper] == ids_V[lower]
    assert {len(tokenizer.encode(text)) for text in (" heron", "Heron")} == {1}
    (spaced,), (large,) = tokenizer.encode(" heron"), tokenizer.encode("Heron")
    assert ids_V[spaced] == ids_V[large]
    assert ids_V[tokenizer.encode(" ")[0]] == tokenizer.encode(" ")[0]
    assert (ids_V[ids_V] == ids_V).all(), "a canonical id must be canonical itself"


def test_canonical_ids_leave_controls_and_pieces_of_characters_alone(tokenizer):
    ids_V = tokenizer.canonical_ids
    first = tokenizer.id_of(CONTROLS[0])
    np.testing.assert_array_equal(ids_V[first:], np.arange(first, tokenizer.vocab_size))
    for number in tokenizer.encode(unicodedata.lookup("CJK UNIFIED IDEOGRAPH-65E5")):
        assert ids_V[number] == number


def test_errors_teach(tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"did you mean '<\|paint\|>'"):
        tokenizer.id_of("<|pant|>")
    with pytest.raises(InputError, match="no tokenizer at"):
        Tokenizer.from_file(tmp_path / "none.json")
    (tmp_path / "wrong.json").write_text("[]")
    with pytest.raises(InputError, match="not a tokenizer file"):
        Tokenizer.from_file(tmp_path / "wrong.json")
    with pytest.raises(InputError, match="at least 256"):
        Tokenizer.train(TEXTS, vocab_size=100)
