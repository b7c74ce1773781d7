"""SVG as ordinary text under a grammar: what a model of random weights writes is a drawing, whole or closed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from dsv4._parts import asset
from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.engine.generate import Prompt, generate
from dsv4.engine.grammar import Grammar, closed
from dsv4.errors import InputError
from dsv4.tokenizer import Tokenizer
from generation.svg import rasterise

FILE = asset("nano") / "tokenizer.json"
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(FILE)


@pytest.fixture(scope="module")
def grammar(tokenizer):
    return Grammar(FILE, vocab_size=tokenizer.vocab_size, end=tokenizer.id_of("<|eos|>"))


def test_a_core_of_random_weights_writes_drawings_in_text_tokens(tokenizer, grammar):
    torch.manual_seed(0)
    core = LanguageCore.from_config(
        presets.micro(vocab_size=tokenizer.vocab_size), canonical_ids=tokenizer.canonical_ids
    )
    prompt = Prompt(token_ids_BT=torch.tensor([tokenizer.encode("draw a cat")]))
    for seed in range(2):
        tokens = generate(
            core.eval(), prompt, max_tokens=300, stop=frozenset({grammar.end}), temperature=1.0,
            generator=torch.Generator().manual_seed(seed), constraint=grammar.begin(),
        )  # fmt: skip
        written = list(tokens)
        assert max(written) < tokenizer.svg_offset  # ordinary text, none of the tokens of our own drawings
        assert rasterise(closed(tokenizer.decode(written)), 32).shape == (32, 32, 3)


def test_exactly_the_texts_of_the_grammar_pass(tokenizer, grammar):
    right = f'{HEAD}<g fill="#ff0000"><circle cx="48" cy="96" r="9" stroke="none" stroke-width="2"/></g></svg>'
    constraint = grammar.begin()
    for token in tokenizer.encode(right):
        assert constraint.allowed_V()[token]
        constraint.push(token)
    only_end = np.flatnonzero(constraint.allowed_V())
    assert only_end.tolist() == [grammar.end]
    constraint.push(grammar.end)
    for wrong in (
        right.replace("96", "97"),
        right.replace("circle", "image"),
        right.replace(" fill", ' onload="x" fill'),
    ):
        constraint, passed = grammar.begin(), True
        for token in tokenizer.encode(wrong):
            if not constraint.allowed_V()[token]:
                passed = False
                break
            constraint.push(token)
        assert not passed
    with pytest.raises(ValueError, match="does not fit"):
        grammar.begin().push(tokenizer.encode("cat")[0])


def test_what_was_cut_off_is_closed():
    part = '<rect x="1" y="1" width="9" height="9" fill="none"/>'
    assert closed(f'{HEAD}<g fill="none">{part}<circle cx="4') == f'{HEAD}<g fill="none">{part}</g></svg>'
    assert closed(f"{HEAD}{part}</svg>") == f"{HEAD}{part}</svg>"
    with pytest.raises(InputError, match="before its first part"):
        closed(f"{HEAD}<rect")


def test_what_cannot_be_used_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="the grammar is wrong"):
        Grammar(FILE, vocab_size=8192, end=0, lark="start: nothing")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        Grammar(tmp_path / "tokenizer.json", vocab_size=8, end=0)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InputError, match="the extra `grammar`"):
        Grammar(FILE, vocab_size=8192, end=0)
