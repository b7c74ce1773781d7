"""Needles: texts hold their answer at the depth asked for, and a model that copies finds all of them."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from app.cli import main
from dsv4.eval import needle


class Words:
    """A tokenizer of whole words."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {"<|bos|>": 0}

    def encode(self, given: str) -> list[int]:
        return [self.known.setdefault(word.strip("."), len(self.known)) for word in given.split()]

    def id_of(self, name: str) -> int:
        return self.known[name]


class Copier:
    """Names what followed the last six tokens when they stood before; where they did not, the first place."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def new_cache(self, batch: int, capacity: int) -> None:
        self.read = []

    def __call__(self, ids: torch.Tensor, *, cache: None, last_only: bool) -> SimpleNamespace:
        self.read += ids[0].tolist()
        logits, last = torch.zeros(1, 1, 1000), self.read[-6:]
        for at in range(len(self.read) - 7, 5, -1):
            if self.read[at - 5 : at + 1] == last:
                logits[0, 0, self.read[at + 1]] = 1
                break
        return SimpleNamespace(logits_BTV=logits)


def test_texts_hold_the_needle_where_it_was_put() -> None:
    words = Words()
    for depth in needle.DEPTHS:
        ids, place = needle.text(words.encode, 400, depth, random.Random(1))
        named = {number: word for word, number in words.known.items()}
        spelt = [named[number] for number in ids]
        assert spelt.count("secret") == 2 and 380 < len(ids) < 420
        at = spelt.index("secret")
        assert abs(at / len(ids) - depth) < 0.05 and spelt[at + 6] == place


def test_a_model_that_copies_finds_every_needle() -> None:
    lines = list(needle.measure(SimpleNamespace(tokenizer=Words(), core=Copier()), [200], 8))
    assert [(line["depth"], line["hits"]) for line in lines] == [(depth, 8) for depth in needle.DEPTHS]


def test_wrong_flags_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "needle", "--lengths", "10"]) == 2
    assert main(["eval", "needle", "--lengths", "x"]) == 2
    assert "whole numbers" in capsys.readouterr().err
