"""Latent attention's two forms, the routers, free lanes and compressed reach: formulas, gradients, and what learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from dsv4.core import presets
from dsv4.core.config import CoreConfig, ExpertsConfig, LanesConfig, LatentConfig, YarnConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.model import LanguageCore
from dsv4.core.moe import Router, even_routes, gated, in_best_groups
from dsv4.ops.attend import attend_heads
from dsv4.ops.rotary import rotate_halves, turned_by, yarn_speeds

from .test_core_cache import KINDS

Builder = Callable[..., LanguageCore]


@pytest.mark.parametrize("kind", ["latent", "straight queries"])
def test_naive_and_absorbed_forms_are_one(build: Builder, ids: torch.Tensor, kind: str) -> None:
    core = build(
        KINDS[kind], attention=dataclasses.replace(KINDS[kind].attention, yarn=YarnConfig(factor=4, original=8))
    )
    logits, grads = {}, {}
    for form in ("naive", "absorbed"):
        for block in core.blocks:
            block.attention.form = form
        core.zero_grad()
        logits[form] = core(ids, sparse=False).logits_BTV
        logits[form].square().mean().backward()
        grads[form] = {
            name: parameter.grad.clone() for name, parameter in core.named_parameters() if parameter.grad is not None
        }
    assert (logits["naive"] - logits["absorbed"]).abs().max() < 1e-10
    assert grads["naive"].keys() == grads["absorbed"].keys()
    for name, grad in grads["naive"].items():
        assert (grad - grads["absorbed"][name]).abs().max() < 1e-10 * max(1, grad.abs().max()), name


def test_the_cheaper_form_is_taken() -> None:
    part = LatentConfig(heads=128, latent=512, plain=128, rotated=64, value=128, q_rank=8)
    config = dataclasses.replace(presets.micro(), attention=part, reach=("full",), engram=None)
    with torch.device("meta"):
        attention = LanguageCore(config, canonical_ids=torch.zeros(256)).blocks[0].attention
    assert attention._is_naive(4096, 4096) and not attention._is_naive(1, 4096) and not attention._is_naive(64, 65536)


def test_heads_in_groups_equal_repeated_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, h, 8, generator=generator, dtype=torch.float64) for n, h in ((5, 6), (7, 2), (7, 2)))
    seen = torch.rand(1, 5, 7, generator=generator) < 0.7
    seen[..., 0] = True
    found = attend_heads(q, k, v, seen, scale=0.3)
    k, v = (x.repeat_interleave(3, 2).transpose(1, 2) for x in (k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k, v, seen[:, None], scale=0.3)
    assert (found - expected.transpose(1, 2)).abs().max() < 1e-12


def test_yarn_blends_between_quick_and_slow_pairs() -> None:
    given = dict(theta=1e4, original=4096, fast=32.0, slow=1.0)
    plain, slowed = yarn_speeds(64, factor=1.0, **given), yarn_speeds(64, factor=40.0, **given)
    assert torch.allclose(plain, 1e4 ** (-torch.arange(32) / 32), rtol=1e-6)
    ratio = plain / slowed
    assert torch.allclose(ratio[:10], torch.ones(10)) and torch.allclose(ratio[-8:], torch.full((8,), 40.0))
    assert (ratio[1:] >= ratio[:-1] - 1e-6).all() and 1.5 < ratio[16] < 39
    yarn = YarnConfig(factor=40, original=4096, mscale=1.0, mscale_all=1.0)
    assert yarn.turn_scale == 1.0 and yarn.score_scale == pytest.approx(1.3689**2, rel=1e-4)
    assert YarnConfig(factor=16, original=65536, stretch=1.0).turn_scale == 1.0
    assert YarnConfig(factor=16, original=65536).turn_scale == pytest.approx(1.2773, rel=1e-4)


def test_halves_turn_as_complex_numbers() -> None:
    x = torch.randn(3, 12, dtype=torch.float64)
    cos, sin = turned_by(torch.tensor([[5, 6, 9]]), yarn_speeds(8, theta=1e4, factor=1, original=8, fast=32, slow=1))
    found = rotate_halves(x, cos[0], sin[0])
    turned = torch.complex(x[:, :4], x[:, 4:8]) * torch.complex(cos[0].double(), sin[0].double())
    assert (found - torch.cat((turned.real, turned.imag, x[:, 8:]), -1)).abs().max() < 1e-12


@pytest.mark.parametrize("score", ["softmax", "sigmoid", "sqrtsoftplus"])
def test_routers_by_loops(score: str) -> None:
    torch.manual_seed(0)
    part = ExpertsConfig(count=12, chosen=3, inner=4, shared_inner=4, score=score, groups=4, groups_chosen=2, scale=2.5,
                         normalised=score != "softmax")  # fmt: skip
    router = Router(dataclasses.replace(presets.micro(), experts=part), 0).double()
    if router.bias is not None:
        router.bias.normal_(0, 0.3)
    x = torch.randn(1, 20, 64, dtype=torch.float64)
    weights, chosen, shares = router(x)
    assert (shares.sum(-1) - 1).abs().max() < 1e-12
    for t in range(20):
        logits = router.weight @ x[0, t]
        scores = {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(),
                  "sqrtsoftplus": torch.log1p(logits.exp()).sqrt()}[score]  # fmt: skip
        ranked = scores if router.bias is None else scores + router.bias
        groups = [sorted(ranked[3 * g : 3 * g + 3].tolist())[-(1 if score == "softmax" else 2) :] for g in range(4)]
        best_groups = sorted(range(4), key=lambda g: -sum(groups[g]))[:2]
        allowed = [e for e in range(12) if e // 3 in best_groups]
        picked = sorted(allowed, key=lambda e: -ranked[e])[:3]
        assert chosen[0, t].nonzero()[:, 0].tolist() == sorted(picked)
        total = scores[picked].sum() if score != "softmax" else 1.0
        for e in picked:
            assert weights[0, t, e].item() == pytest.approx((scores[e] / total * 2.5).item(), rel=1e-9)
        assert (weights[0, t] != 0).sum() == 3


def test_groups_of_one_expert_and_whole_choice() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 0.0])
    assert in_best_groups(scores, 4, 2, by=2).tolist() == [3.0, float("-inf"), 2.0, float("-inf")]
    assert torch.equal(in_best_groups(scores, 2, 2, by=2), scores)


def test_hash_routes_are_even_and_different() -> None:
    routes = even_routes(4096, 256, 6, layer=1)
    assert routes.shape == (4096, 6) and all(len(set(row)) == 6 for row in routes.tolist())
    loads = torch.bincount(routes.flatten(), minlength=256)
    assert loads.max() - loads.min() <= 1
    assert torch.equal(routes, even_routes(4096, 256, 6, layer=1))
    assert not torch.equal(routes, even_routes(4096, 256, 6, layer=2))


def test_hashed_layers_follow_their_table_and_need_ids(build: Builder, ids: torch.Tensor) -> None:
    core = build(KINDS["compressed"])
    router = core.blocks[1].experts.router
    assert router.bias is None and "blocks.1.experts.router.routes" in core.state_dict()
    _, chosen, _ = router(torch.randn(2, 40, 64, dtype=torch.float64), ids)
    assert torch.equal(chosen.double().topk(2, -1).indices.sort(-1).values, router.routes[ids].sort(-1).values)
    with pytest.raises(ValueError, match="needs token ids"):
        router(torch.randn(2, 40, 64, dtype=torch.float64))
    core.update_router_bias(torch.ones(3, 4))


def test_gates_are_cut_at_one_side_and_the_rest_at_both() -> None:
    x = torch.tensor([-20.0, -1.0, 1.0, 20.0])
    found = gated(x, x, 2.0)
    expected = [
        gate / (1 + torch.exp(torch.tensor(-gate))) * up for gate, up in ((-20.0, -2), (-1, -1), (1, 1), (2, 2))
    ]
    assert torch.allclose(found, torch.stack(expected))


def test_free_lanes_by_their_formula() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(presets.micro(), lanes=LanesConfig(count=3, mixing="hyper"))
    site = HyperLanes(config, 1).double()
    x, y = torch.randn(1, 1, 3, 64, dtype=torch.float64), torch.randn(1, 1, 64, dtype=torch.float64)
    with torch.no_grad():
        site.scale.zero_()
        into, post, comb = site.read(x)
        assert torch.equal(into, x[:, :, 1]) and torch.equal(post, torch.ones(1, 1, 3).double())
        assert torch.equal(site.write(x, y, post, comb), x + y[:, :, None]), "it starts as a plain residual stream"
        site.scale.copy_(torch.tensor([0.5, 0.7, 0.9], dtype=torch.float64))
        flat = x.flatten()
        mixes = torch.tanh(site.fn @ flat / torch.sqrt((flat * flat).mean() + 1e-6))
        _, post, comb = site.read(x)
    assert (post[0, 0] - (mixes[3:6] * 0.7 + 1)).abs().max() < 1e-12
    assert (comb[0, 0] - (mixes[6:].view(3, 3) * 0.9 + torch.eye(3))).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["latent", "heads", "compressed", "free lanes"])
def test_every_part_learns(build: Builder, kind: str) -> None:
    config = KINDS[kind]
    if kind == "compressed":  # a limit that is reached everywhere would let no gradient through
        config = dataclasses.replace(config, experts=dataclasses.replace(config.experts, limit=50.0))
    core = build(config).train()
    ids = torch.randint(0, 256, (6, 64), generator=torch.Generator().manual_seed(3))
    core.loss(core.hidden(ids), ids.roll(-1, 1)).backward()
    for name, parameter in core.named_parameters():
        if "indexer" in name:
            assert parameter.grad is None, f"{name} must learn from the index loss only"
        elif "table" not in name:
            moved = parameter.grad != 0
            assert moved.all(), f"{(~moved).sum()} of {moved.numel()} elements of {name} have no gradient"


@pytest.mark.parametrize("kind", ["latent", "compressed"])
@pytest.mark.parametrize(("loss", "sparse"), [("all", False), ("chosen", True)])
def test_index_loss_reaches_only_the_indexer(
    build: Builder, ids: torch.Tensor, kind: str, loss: str, sparse: bool
) -> None:
    core = build(KINDS[kind]).train()
    output = core(ids, index_loss=loss, sparse=sparse, logits=False)
    assert 0 < output.index_loss.item() < 20
    output.index_loss.backward()
    for name, parameter in core.named_parameters():
        learns = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert learns == ("indexer" in name), name
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_the_compressed_indexer_gets_better(build: Builder, ids: torch.Tensor) -> None:
    core = build(KINDS["compressed"])
    indexer = [parameter for name, parameter in core.named_parameters() if "indexer" in name]
    optimizer = torch.optim.Adam(indexer, lr=0.02)
    losses = []
    for _ in range(50):
        loss = core(ids, index_loss=True, sparse=False, logits=False).index_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_gathering_compressed_entries_equals_masking(
    build: Builder, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = build(KINDS["compressed"])
    with torch.no_grad():
        masked = core(ids).logits_BTV
        monkeypatch.setattr("dsv4.core.compressed.GATHER_FROM", 1)
        monkeypatch.setattr("dsv4.core.reading.GATHER_TILE", 5)
        assert (core(ids).logits_BTV - masked).abs().max() < 1e-10
        monkeypatch.setattr("dsv4.ops.attend.TILE", 6)
        assert (core(ids, sparse=False).logits_BTV - masked).abs().max() > 1e-6


def test_the_future_never_changes_the_past(build: Builder, ids: torch.Tensor) -> None:
    for kind in ("latent", "heads", "compressed", "free lanes"):
        core = build(KINDS[kind])
        changed = ids.clone()
        changed[:, 22] = (changed[:, 22] + 1) % 256
        with torch.no_grad():
            before, after = core(ids).logits_BTV, core(changed).logits_BTV
        assert (before[:, :22] - after[:, :22]).abs().max() == 0, kind
        assert (before[:, 22] - after[:, 22]).abs().max() > 0, kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["attention"].update(kind="mlaa"), "unknown attention kind 'mlaa'.*did you mean 'mla'"),
        (lambda d: d.update(reach=["sliding"]), "mla attention cannot have reach 'sliding', only full, sparse"),
        (lambda d: d["attention"].update(index_heads=0), "sparse layers need an indexer"),
        (lambda d: d["attention"].update(q_rank=None), "needs a q_rank"),
        (lambda d: d["experts"].update(score="sigmod"), "unknown score 'sigmod'.*did you mean 'sigmoid'"),
        (lambda d: d["experts"].update(groups=3), "of 3 groups of 4 experts"),
        (lambda d: d["experts"].update(dense=[0]), "dense_inner must be a whole number"),
        (lambda d: d["experts"].update(dense=[9], dense_inner=4), r"experts.dense layers \[9\] are outside"),
        (lambda d: d["lanes"].update(mixing="mch"), "unknown mixing 'mch'.*did you mean 'mhc'"),
        (lambda d: d.update(draft=2), "draft must be 0 or 1"),
        (lambda d: d["attention"].update(yarn={"factor": 0.5, "original": 8}), "at least 1"),
    ],
)
def test_errors_teach(change: Callable[[dict], None], message: str) -> None:
    given = KINDS["latent"].to_dict()
    change(given)
    with pytest.raises(ValueError, match=message):
        CoreConfig.from_dict(given)


@pytest.mark.parametrize("kind", KINDS)
def test_configs_round_trip(kind: str) -> None:
    assert CoreConfig.from_dict(KINDS[kind].to_dict()) == KINDS[kind]
