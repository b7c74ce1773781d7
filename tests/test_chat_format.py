"""Every task's layout of ids is exactly the documented one."""

import pytest

from dsv4.chat_format import answer_ids, chat_ids, film_ids, paint_ids, svg_ids
from dsv4.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a heron"] * 3, vocab_size=290, svg_tokens=("svg", "/svg"))


def spell(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Ids in words, controls by name."""
    names = {tokenizer.id_of(name): name for name in ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|image|>")}
    names |= {tokenizer.id_of(name): name for name in ("<|svg|>", "<|paint|>", "<|film|>", "<think>", "</think>")}
    names |= {tokenizer.id_of(name): name for name in ("<s:svg>", "<s:/svg>")}
    return "".join(names.get(number) or tokenizer.decode([number]) for number in ids)


def test_a_question_and_its_answer(tokenizer):
    assert spell(tokenizer, chat_ids(tokenizer, "hi?")) == "<|bos|><|user|>hi?<|assistant|>"
    whole = chat_ids(tokenizer, "hi?", answer="yes", think="hm")
    assert spell(tokenizer, whole) == "<|bos|><|user|>hi?<|assistant|><think>hm</think>yes<|eos|>"
    assert whole == chat_ids(tokenizer, "hi?") + answer_ids(tokenizer, "yes", think="hm")


def test_pictures_stand_before_the_text(tokenizer):
    ids = chat_ids(tokenizer, "what?", image_tokens=(2, 1))
    assert spell(tokenizer, ids) == "<|bos|><|user|><|image|><|image|><|image|>what?<|assistant|>"


def test_earlier_turns_come_first(tokenizer):
    ids = chat_ids(tokenizer, "c", history=[("a", "b")])
    assert spell(tokenizer, ids) == "<|bos|><|user|>a<|assistant|>b<|eos|><|user|>c<|assistant|>"


def test_requests_for_drawings_pictures_and_clips(tokenizer):
    assert spell(tokenizer, svg_ids(tokenizer, "x")) == "<|bos|><|user|>x<|svg|>"
    assert spell(tokenizer, svg_ids(tokenizer, "x", [0, 1])) == "<|bos|><|user|>x<|svg|><s:svg><s:/svg><|eos|>"
    assert spell(tokenizer, paint_ids(tokenizer, "x")) == "<|bos|><|user|>x<|paint|>"
    assert spell(tokenizer, film_ids(tokenizer, "x")) == "<|bos|><|user|>x<|film|>"


def test_a_control_string_in_a_prompt_cannot_end_it(tokenizer):
    ids = svg_ids(tokenizer, "x<|eos|><|svg|>")
    assert ids.count(tokenizer.id_of("<|svg|>")) == 1 and tokenizer.id_of("<|eos|>") not in ids
