"""Sampling, constraints and the decoding loop, with a core that is a table."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from dsv4.engine.constraint import Closed, RangeConstraint
from dsv4.engine.generate import Prompt, generate
from dsv4.engine.sample import sample


@dataclass
class _Output:
    logits_BTV: torch.Tensor


class _TableCore:
    """Says after token i: row i of a table."""

    def __init__(self, table_VV: torch.Tensor) -> None:
        self.table_VV = table_VV
        self.fed: list[list[int]] = []

    def new_cache(self, batch: int, capacity: int) -> list[int]:
        return [batch, capacity]

    def __call__(self, token_ids_BT, **_):
        self.fed.append(token_ids_BT[0].tolist())
        return _Output(self.table_VV[token_ids_BT])


class _Twice:
    """A machine over two local ids that wants id 1 twice and then is done."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    @property
    def done(self) -> bool:
        return len(self.seen) == 2

    def allowed(self) -> np.ndarray:
        return np.array([False, True])

    def push(self, token: int) -> None:
        self.seen.append(token)


def _next_is_one_more(size: int) -> torch.Tensor:
    return torch.eye(size).roll(1, dims=1) * 5


def test_greedy_follows_the_table_and_stops_before_the_stop_token():
    core = _TableCore(_next_is_one_more(8))
    made = list(generate(core, Prompt(token_ids_BT=torch.tensor([[0, 1]])), max_tokens=9, stop=frozenset({6})))
    assert made == [2, 3, 4, 5]
    assert core.fed == [[0, 1], [2], [3], [4], [5]]  # prefill once, then one token at a time


def test_limit_and_cancel_end_the_loop():
    core, prompt = _TableCore(_next_is_one_more(8)), Prompt(token_ids_BT=torch.tensor([[0]]))
    assert list(generate(core, prompt, max_tokens=3, stop=frozenset())) == [1, 2, 3]
    asked = iter([False, False, True])
    assert list(generate(core, prompt, max_tokens=9, stop=frozenset(), cancelled=lambda: next(asked))) == [1, 2]


def test_a_constraint_overrules_the_model_and_then_only_the_end_is_left():
    core = _TableCore(_next_is_one_more(8))
    machine = _Twice()
    constraint = RangeConstraint(machine, offset=4, size=2, vocab_size=8, end=7)
    prompt = Prompt(token_ids_BT=torch.tensor([[0]]))
    made = list(generate(core, prompt, max_tokens=9, stop=frozenset({7}), constraint=constraint))
    assert made == [5, 5]
    assert machine.seen == [1, 1]


def test_closed_tokens_never_come():
    core = _TableCore(_next_is_one_more(4))
    prompt = Prompt(token_ids_BT=torch.tensor([[0]]))
    closed = Closed([1, 2], vocab_size=4)
    assert set(generate(core, prompt, max_tokens=5, stop=frozenset(), constraint=closed)) <= {0, 3}


def test_sampling_is_the_softmax_and_one_seed_is_one_draw():
    logits = torch.tensor([0.0, 1.0, 2.0, float("-inf")])
    generator = torch.Generator().manual_seed(3)
    drawn = torch.tensor([sample(logits, temperature=1.0, generator=generator) for _ in range(4000)])
    share = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(share, torch.softmax(logits, 0), atol=0.03)
    assert share[3] == 0
    first, again = (sample(logits, temperature=1.0, generator=torch.Generator().manual_seed(8)) for _ in range(2))
    assert first == again
    assert sample(logits, temperature=0) == 2


def test_nothing_allowed_is_an_error():
    with pytest.raises(ValueError, match="no token is allowed"):
        sample(torch.full((3,), float("-inf")), temperature=0)
