"""Gradients reach what should learn and nothing else; losses and balancing do what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from dsv4.core import presets
from dsv4.core.config import ExpertsConfig, LanesConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.model import LanguageCore
from dsv4.core.moe import Experts, best

Builder = Callable[..., LanguageCore]


def test_loss_equals_whole_cross_entropy(core: LanguageCore, ids: torch.Tensor) -> None:
    targets = ids.roll(-1, 1)
    targets[:, ::7] = -100
    output = core(ids)
    whole = torch.nn.functional.cross_entropy(output.logits_BTV.flatten(0, 1), targets.flatten(), ignore_index=-100)
    assert core.loss(output.hidden_BTD, targets, chunk=13).item() == pytest.approx(whole.item(), rel=1e-12)
    assert core.loss(core.hidden(ids), torch.full_like(ids, -100)).item() == 0


def test_every_element_learns(core: LanguageCore, ids: torch.Tensor) -> None:
    core.train()
    ids = torch.randint(0, 256, (6, 64), generator=torch.Generator().manual_seed(3))
    output = core(ids, logits=False)
    loss = core.loss(output.hidden_BTD, ids.roll(-1, 1)) + 1e-3 * output.balance_loss
    loss.backward()
    for name, parameter in core.named_parameters():
        if "indexer" in name:
            assert parameter.grad is None, f"{name} must learn from the index loss only"
            continue
        assert parameter.grad is not None, name
        moved = parameter.grad != 0
        if "table" in name:
            assert 0.2 < moved.any(-1).double().mean() < 1, "only rows that were read may learn"
            assert (moved.any(-1) == moved.all(-1)).all()
        else:
            assert moved.all(), f"{(~moved).sum()} of {moved.numel()} elements of {name} have no gradient"


@pytest.mark.parametrize(("kind", "sparse"), [(True, False), ("chosen", True)])
def test_index_loss_reaches_only_the_indexer(
    core: LanguageCore, ids: torch.Tensor, kind: bool | str, sparse: bool
) -> None:
    core.train()
    output = core(ids, index_loss=kind, sparse=sparse, logits=False)
    assert output.index_loss.item() > 0
    output.index_loss.backward()
    for name, parameter in core.named_parameters():
        learns = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert learns == ("indexer" in name), name


def test_index_loss_falls_and_selection_gets_better(build: Builder, ids: torch.Tensor) -> None:
    core = build()
    indexer = [parameter for name, parameter in core.named_parameters() if "indexer" in name]
    optimizer = torch.optim.Adam(indexer, lr=0.01)
    with torch.no_grad():
        dense = core(ids, sparse=False).logits_BTV
        before = (core(ids, sparse=True).logits_BTV - dense).norm()
    losses = []
    for _ in range(60):
        loss = core(ids, index_loss=True, sparse=False, logits=False).index_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        after = (core(ids, sparse=True).logits_BTV - dense).norm()
    assert losses[-1] < 0.5 * losses[0]
    assert after < before


def test_together_equals_routed(build: Builder, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    core = build()
    experts, x = core.blocks[0].experts, torch.randn(2, 9, 64, dtype=torch.float64)
    together = experts(x)[0]
    monkeypatch.setattr("dsv4.core.moe.TOGETHER_UP_TO", 0)
    assert (experts(x)[0] - together).abs().max() < 1e-12
    weights, chosen, _ = experts.router(x)
    by_hand = torch.zeros_like(x)
    for b in range(2):
        for t in range(9):
            gate, up = experts.shared_in(x[b, t]).chunk(2)
            by_hand[b, t] = experts.shared_out(torch.nn.functional.silu(gate) * up)
            for e in chosen[b, t].nonzero()[:, 0]:
                gate, up = (experts.experts_in[e] @ x[b, t]).chunk(2)
                by_hand[b, t] += weights[b, t, e] * (experts.experts_out[e] @ (torch.nn.functional.silu(gate) * up))
    assert (by_hand - together).abs().max() < 1e-12


def test_router_weights_and_loads() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        presets.micro(), experts=ExpertsConfig(count=6, chosen=3, inner=8, shared_inner=8, scale=1.5)
    )
    experts = Experts(config, 0).double()
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_()
    x = torch.randn(4, 50, 64, dtype=torch.float64)
    weights, chosen, _ = experts.router(x)
    scores = torch.sqrt(torch.nn.functional.softplus(x @ experts.router.weight.T))
    top = scores.topk(3, -1)
    expected = torch.zeros_like(scores).scatter(-1, top.indices, top.values / top.values.sum(-1, keepdim=True) * 1.5)
    assert (weights - expected).abs().max() < 1e-12
    _, load, balance = experts(x)
    assert load.sum() == 4 * 50 * 3 and torch.equal(load.long(), chosen.sum((0, 1)))
    assert balance > 1


def test_ties_go_to_the_earlier_expert() -> None:
    assert best(torch.tensor([1.0, 2.0, 2.0, 2.0]), 2).tolist() == [False, True, True, False]
    many = torch.randn(5, 40)
    assert torch.equal(best(many, 7).sum(-1), torch.full((5,), 7))


def test_nudging_evens_loads(core: LanguageCore, ids: torch.Tensor) -> None:
    def spread() -> float:
        with torch.no_grad():
            loads = core(ids, logits=False).loads_LE
        return (loads.std(-1) / loads.mean(-1)).mean().item()

    before = spread()
    for _ in range(60):
        with torch.no_grad():
            core.update_router_bias(core(ids, logits=False).loads_LE, rate=0.01)
    assert spread() < 0.5 * before
    assert any("router.bias" in name for name in core.state_dict())


def test_one_lane_is_a_plain_residual(build: Builder, ids: torch.Tensor) -> None:
    config = dataclasses.replace(presets.micro(), lanes=LanesConfig(count=1))
    core = build(config)
    assert not any("hyper" in name for name, _ in core.named_parameters())
    hyper = HyperLanes(dataclasses.replace(config, lanes=LanesConfig(count=1, eps=0.0)), 0).double()
    with torch.no_grad():
        hyper.scale.zero_()
        hyper.base.copy_(torch.tensor([40.0, 0.0, 0.0]))  # reads all of the lane, writes with weight one
    x, y = torch.randn(2, 5, 1, 64, dtype=torch.float64), torch.randn(2, 5, 64, dtype=torch.float64)
    into, post, comb = hyper.read(x)
    assert (into - x[:, :, 0]).abs().max() < 1e-12
    assert (hyper.write(x, y, post, comb) - (x + y[:, :, None])).abs().max() < 1e-12


def test_autocast_keeps_the_loss(ids: torch.Tensor) -> None:
    torch.manual_seed(0)
    core = LanguageCore.from_config(presets.micro()).train()
    plain = core.loss(core.hidden(ids), ids.roll(-1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        output = core(ids, logits=False)
        rounded = core.loss(output.hidden_BTD, ids.roll(-1, 1))
    assert output.hidden_BTD.dtype == torch.bfloat16 and rounded.dtype == torch.float32
    rounded.backward()
    assert rounded.item() == pytest.approx(plain.item(), rel=5e-3)
    assert core.embedding.weight.grad.dtype == torch.float32
