"""Rows that share a pass choose what each would choose alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsv4.core.model import LanguageCore
from dsv4.core.presets import micro
from dsv4.engine.constraint import Closed
from dsv4.engine.generate import Prompt, generate
from dsv4.engine.together import Row, generate_together, keep_rows


@pytest.fixture(scope="module")
def core() -> LanguageCore:
    torch.manual_seed(0)
    return LanguageCore.from_config(micro()).double().eval().requires_grad_(False)


class EndsAfter:
    """Allows one token only from the n-th step on: rows end at different times."""

    def __init__(self, steps: int, end: int) -> None:
        self.left, self.end = steps, end

    def allowed_V(self) -> np.ndarray:
        allowed_V = np.ones(256, dtype=bool)
        allowed_V[self.end] = self.left == 0
        if not self.left:
            allowed_V[:] = False
            allowed_V[self.end] = True
        return allowed_V

    def push(self, token: int) -> None:
        self.left -= 1


def ask(index: int, length: int = 9) -> Prompt:
    drawn = torch.Generator().manual_seed(index)
    return Prompt(token_ids_BT=torch.randint(0, 255, (1, length), generator=drawn))


def settings(index: int) -> dict:
    """Fresh every time, since constraints and generators move on."""
    return {
        "max_tokens": 30,
        "temperature": (0.0, 0.9)[index % 2],
        "generator": torch.Generator().manual_seed(index),
        "constraint": EndsAfter(3 * index, 255) if index % 3 else Closed([7, 8], vocab_size=256),
    }


def test_every_row_is_written_as_alone(core):
    stop = frozenset({255})
    alone = [list(generate(core, ask(index), stop=stop, **settings(index))) for index in range(12)]
    rows = [Row(prompt=ask(index), **settings(index)) for index in range(12)]
    assert generate_together(core, rows, stop=stop) == alone
    assert len({len(written) for written in alone}) > 5  # they did end at different times


def test_prompts_with_pictures_share_a_pass_with_prompts_without(core):
    plain = ask(3)
    embeds_BTD = core.embed(ask(4).token_ids_BT).clone()
    embeds_BTD[:, 2:5] = 0.1
    memory_ids_BT = ask(4).token_ids_BT.clone()
    memory_ids_BT[:, 2:5] = -1
    shown = Prompt(token_ids_BT=ask(4).token_ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=memory_ids_BT)

    def by_chance() -> dict:
        return {"max_tokens": 12, "temperature": 1.0, "generator": torch.Generator().manual_seed(1)}

    alone = [list(generate(core, one, stop=frozenset(), **by_chance())) for one in (plain, shown)]
    rows = [Row(prompt=one, **by_chance()) for one in (plain, shown)]
    assert generate_together(core, rows, stop=frozenset()) == alone
    assert alone[1] != list(generate(core, ask(4), stop=frozenset(), **by_chance()))


def test_a_cache_that_let_go_of_rows_goes_on_with_the_others(core):
    ids_BT = torch.cat([ask(index, 14).token_ids_BT for index in range(5)])
    cache, alone = core.new_cache(5, 20), core.new_cache(1, 20)
    core(ids_BT, cache=cache)
    core(ids_BT[3:4], cache=alone)
    keep_rows(cache, [1, 3])
    assert cache.batch == 2
    both = core(torch.tensor([[9], [9]]), cache=cache).logits_BTV
    torch.testing.assert_close(both[1:], core(torch.tensor([[9]]), cache=alone).logits_BTV)


def test_prompts_of_several_lengths_are_refused(core):
    with pytest.raises(ValueError, match=r"one length, got \[8, 9\]"):
        generate_together(core, [Row(prompt=ask(0, length), max_tokens=1) for length in (8, 9)], stop=frozenset())


def test_no_allowed_token_is_an_error(core):
    rows = [Row(prompt=ask(i), max_tokens=3, constraint=Closed(list(range(256)), vocab_size=256)) for i in range(2)]
    with pytest.raises(ValueError, match="no token is allowed"):
        generate_together(core, rows, stop=frozenset())
