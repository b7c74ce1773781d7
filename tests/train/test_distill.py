"""A distilled head makes in one unguided step what its teacher makes in many guided ones; the core is left alone."""

from __future__ import annotations

import copy

import pytest
import torch

from dsv4._parts import asset, part
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.tokenizer import Tokenizer
from dsv4.train import distill


def test_one_step_comes_nearer_to_many(monkeypatch):
    torch.manual_seed(0)
    model = Model.fresh(Tokenizer.from_file(asset("nano") / "tokenizer.json"), size="micro", keep=("head",))
    with torch.no_grad():  # a fresh head says nothing yet, and has nothing to teach
        for parameter in model.head.wan.proj_out.parameters():
            parameter.normal_(0, 0.3)
    ids_BT, mask_BT, shape = torch.randint(20, 400, (4, 9)), torch.ones(4, 9, dtype=torch.bool), (1, 16, 16)
    monkeypatch.setattr(distill, "_requests", lambda *_: iter([(ids_BT, mask_BT, shape)] * 500))
    monkeypatch.setattr(distill, "RATES", distill.Rates(matrices=0.01, rest=3e-3, rows=0.0))
    taps, before = distill.read(model.core, ids_BT), copy.deepcopy(model.core.state_dict())
    noise = torch.randn(4, 3, *shape, generator=torch.Generator().manual_seed(9))

    def made(head, steps, guidance):
        with torch.no_grad():
            condition = head.condition(taps, mask_BT)
            return part("generation").sample_flow(
                head, condition, shape=shape, steps=steps, guidance=guidance, noise_B3FHW=noise
            ).clamp(-1, 1)  # fmt: skip

    wanted, start = made(model.head, 8, 2.0), made(model.head, 1, 1.0)
    losses = distill.distil(model, "unused", minutes=None, steps=40, rows=4)
    after = made(model.head, 1, 1.0)
    assert len(losses) == 40
    assert (after - wanted).square().mean() < 0.5 * (start - wanted).square().mean()
    assert all(torch.equal(before[name], value) for name, value in model.core.state_dict().items())


def test_what_cannot_be_distilled_is_said():
    model = Model.fresh(Tokenizer.from_file(asset("nano") / "tokenizer.json"), size="micro", keep=())
    with pytest.raises(InputError, match="no picture head"):
        distill.distil(model, "unused", minutes=1, steps=None, rows=4)


def test_a_share_of_the_levels_is_pure_noise():
    levels = distill._levels(2000, torch.Generator().manual_seed(0))
    assert 0.35 < (levels == 1).float().mean() < 0.46 and levels.min() >= 0.05
