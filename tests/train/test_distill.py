"""A distilled head makes in one unguided step what its teacher makes in many guided ones; the core is left alone."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch

from app.cli import main
from dsv4._parts import asset, part
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.quant.policy import eight_bits
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


def test_the_verb_writes_a_model_that_loads_and_refuses_what_it_cannot_do(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = Model.fresh(Tokenizer.from_file(asset("nano") / "tokenizer.json"), size="micro")
    model.save(tmp_path / "tiny", policy=eight_bits, about={"name": "tiny", "size": "micro"})
    (tmp_path / "data").mkdir()
    ask = ["train", "distill", "--data", str(tmp_path / "data"), "--model", str(tmp_path / "tiny"), "--steps", "2"]
    assert main([*ask, "--out", str(tmp_path / "new")]) == 2
    assert "no training data" in capsys.readouterr().err
    shutil.copy(tmp_path / "tiny" / "tokenizer.json", tmp_path / "data")
    ids_BT, mask_BT = torch.randint(20, 400, (2, 9)), torch.ones(2, 9, dtype=torch.bool)
    monkeypatch.setattr(distill, "_requests", lambda *_: iter([(ids_BT, mask_BT, (1, 16, 16))] * 3))
    assert main([*ask, "--out", str(tmp_path / "new")]) == 0
    assert "--guidance 1" in capsys.readouterr().out
    before, after = (Model.load(tmp_path / name) for name in ("tiny", "new"))
    assert after.about["stages"] == ["distill"] and after.about["name"] == "tiny"
    heads = (before.head.parameters(), after.head.parameters())
    changed = [not torch.equal(one, two) for one, two in zip(*heads, strict=True)]
    assert any(changed)
    assert main([*ask, "--out", str(tmp_path / "new")]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert main([*ask, "--clips", "2", "--out", str(tmp_path / "third")]) == 2
