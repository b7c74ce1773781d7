"""A head that is joined to a core that has learnt on: what its connector says comes back, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch

from dsv4._parts import asset
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.tokenizer import Tokenizer
from dsv4.train import rejoin as rejoining


def test_the_connector_learns_to_say_of_a_new_core_what_it_said_of_the_old(monkeypatch):
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(asset("nano") / "tokenizer.json")
    before, after = (Model.fresh(tokenizer, size="micro") for _ in range(2))
    ids_BT = torch.randint(20, 400, (4, 12))
    mask_BT = torch.ones(4, 12, dtype=torch.bool)
    many = iter([(ids_BT, mask_BT)] * 60)
    monkeypatch.setattr(rejoining, "prompts", lambda *_, **__: many)
    wan = copy.deepcopy(before.head.wan.state_dict())
    wanted = before.head.connector(rejoining.read(before.core, ids_BT), mask_BT)

    def error() -> float:
        said = after.head.connector(rejoining.read(after.core, ids_BT), mask_BT)
        return float(rejoining.relative_error(said.tokens_BSC, wanted.tokens_BSC, mask_BS=wanted.mask_BS))

    with torch.no_grad():
        after.head.load_state_dict(before.head.state_dict())
        apart = error()
    rejoining.rejoin(before, after, "unused", minutes=0.5, rows=4)
    with torch.no_grad():
        assert error() < 0.6 * apart
    assert all(torch.equal(value, wan[name]) for name, value in after.head.wan.state_dict().items())
    with pytest.raises(InputError, match="both models need a head"):
        rejoining.rejoin(Model.fresh(tokenizer, size="micro", keep=()), after, "unused", minutes=0.1, rows=4)


def test_the_stages_are_those_that_the_parts_went_through():
    before, after = {"stages": ["text", "paint", "film"]}, {"stages": ["text", "see", "index", "paint"]}
    assert rejoining.joined_stages(before, after) == ["text", "see", "index", "paint", "film", "rejoin"]
