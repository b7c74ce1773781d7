"""Judges pass the true answers, fail wrong ones, and count what they judged."""

import numpy as np
import pytest
import torch

from dsv4.data.documents import Documents
from dsv4.errors import InputError
from dsv4.eval.intervals import wilson
from dsv4.eval.text import KINDS, cases, exact, held_out_colour, judge
from dsv4.tokenizer import Tokenizer


class Knowing:
    """A core that continues every known document rightly, and one token of each wrongly when `spoil` is on."""

    def __init__(self, known, vocab_size: int, *, spoil: bool = False) -> None:
        self.known = {tuple(case.prompt_ids): (*case.prompt_ids, *case.answer_ids) for case in known}
        self.vocab_size, self.spoil = vocab_size, spoil

    def __call__(self, ids_BT):
        logits_BTV = torch.zeros(*ids_BT.shape, self.vocab_size)
        for row, ids in enumerate(ids_BT.tolist()):
            whole = next(self.known[tuple(ids[:n])] for n in range(len(ids)) if tuple(ids[:n]) in self.known)
            for place, token in enumerate(whole[1:]):
                logits_BTV[row, place, token] = 1.0
            if self.spoil:
                logits_BTV[row, len(whole) - 2, 0] = 2.0
        return type("Output", (), {"logits_BTV": logits_BTV})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("question", "fact", "manner")])
def test_the_truth_passes_and_a_spoiled_answer_fails(text_world, kind):
    tokenizer = Tokenizer.from_file(text_world / "tokenizer.json")
    known = cases(text_world, kind, 5, seed=2)
    assert known == cases(text_world, kind, 5, seed=2) and 1 <= len(known) <= 5
    options = {"kind": kind, "limit": 5, "seed": 2}
    right = Knowing(known, tokenizer.vocab_size)
    assert judge(right, tokenizer, text_world, **options) == (len(known), len(known))
    wrong = Knowing(known, tokenizer.vocab_size, spoil=True)
    assert judge(wrong, tokenizer, text_world, **options) == (0, len(known))


def test_every_kind_has_cases_that_end(text_world):
    end = Documents(text_world, seed=0).tokenizer.id_of("<|eos|>")
    for kind in KINDS:
        for case in cases(text_world, kind, 3):
            assert case.answer_ids[-1] == end and case.prompt


def test_requests_are_judged_alone_and_in_order():
    class Echo:
        """Predicts the token that it just read plus one."""

        def __call__(self, ids_BT):
            return type("Output", (), {"logits_BTV": torch.nn.functional.one_hot(ids_BT + 1, 200).float()})

    documents = [([1, 2], [3, 4]), ([1], [3]), ([5] * 100, [6, 7, 8]), ([9], [10, 11, 13])]
    assert exact(Echo(), documents, pad=0) == [True, False, True, False]


def test_unknown_kinds_and_foreign_tokenizers_are_refused(text_world):
    with pytest.raises(InputError, match="did you mean 'composition'"):
        cases(text_world, "compositon", 1)
    foreign = Tokenizer.train(["abc"] * 3, vocab_size=300)
    with pytest.raises(InputError, match="another tokenizer"):
        held_out_colour(None, foreign, text_world, limit=1)


def test_wilson_interval():
    low, high = wilson(9, 10)
    assert low == pytest.approx(0.5958, abs=1e-3) and high == pytest.approx(0.9821, abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 5)[0] == 0.0 and wilson(5, 5)[1] == 1.0
    assert np.diff(wilson(900, 1000))[0] < high - low
    with pytest.raises(ValueError, match="between 0"):
        wilson(3, 2)
