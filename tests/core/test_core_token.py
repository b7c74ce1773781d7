"""One decoded token by compiled parts is what the blocks themselves give, with every kind of layer and of cache."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch

from dsv4.core import presets
from dsv4.core.config import AttentionConfig, CoreConfig, ExpertsConfig, LanesConfig, LatentConfig
from dsv4.core.token_pass import TokenPass
from dsv4.ops import native
from tests.core.test_core_cache import KINDS

pytestmark = pytest.mark.skipif(native.wide_library() is None, reason="no compiler, or vectors of less than 512 bits")

LATENT = LatentConfig(heads=4, latent=32, plain=20, rotated=16, value=24, q_rank=48, top_k=8, index_heads=9,
                      index_size=32)  # fmt: skip
SIGMOID = ExpertsConfig(count=8, chosen=3, inner=24, shared_inner=64, score="sigmoid", groups=4, groups_chosen=2,
                        scale=2.5, dense=(0,), dense_inner=96)  # fmt: skip
PLAIN = {"lanes": LanesConfig(count=1), "engram": None}
CONFIGS = {
    "ours": presets.micro(),
    "ours, one lane": dataclasses.replace(presets.micro(), lanes=LanesConfig(count=1), engram=None),
    "V3.2": CoreConfig(vocab_size=256, hidden=64, reach=("sparse", "full", "sparse"), attention=LATENT,
                       experts=SIGMOID, **PLAIN),
    "V2": CoreConfig(
        vocab_size=256, hidden=64, reach=("full",) * 2,
        attention=dataclasses.replace(LATENT, q_rank=None, index_heads=0),
        experts=dataclasses.replace(SIGMOID, score="softmax", normalised=False, dense=()), **PLAIN,
    ),
    "V4": CoreConfig(
        vocab_size=256, hidden=64, reach=("sliding", "compressed_sparse", "heavily_compressed", "sparse"), engram=None,
        attention=AttentionConfig(heads=4, entry=64, rotated=16, q_rank=48, groups=2, o_rank=24, window=8, top_k=4,
                                  index_heads=2, index_size=16, index_rotated=16, heavy=8),
        experts=ExpertsConfig(count=4, chosen=2, inner=24, shared_inner=48, limit=0.7, hashed=(0,)),
        lanes=LanesConfig(count=4),
    ),
}  # fmt: skip
CONFIGS["V4.1's attention, two passes"] = dataclasses.replace(
    KINDS["shared entries"], lanes=LanesConfig(count=2), engram=None
)


def decoded(core, ids_BT, **kept):
    """What is given for the last tokens, one at a time after a longer piece."""
    cache = core.new_cache(1, 48, **kept)
    with torch.no_grad():
        core(ids_BT[:, :21], cache=cache)
        return [core(ids_BT[:, place : place + 1], cache=cache, taps=(1, 2)) for place in range(21, 30)]


@pytest.mark.parametrize("kept", [{}, {"rows": "fp8"}, {"index_keys": "int8"}, {"index_keys": "fp8"}, {"pages": True}])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_is_that_of_the_blocks(name, kept, build, ids, monkeypatch):
    core = build(CONFIGS[name]).float()
    calls = []
    run = TokenPass.run
    monkeypatch.setattr(TokenPass, "run", lambda *given: calls.append(1) or run(*given))
    found = decoded(core, ids[:1], **kept)
    assert len(calls) == 9
    monkeypatch.setattr(native, "wide_library", lambda: None)
    expected = decoded(core, ids[:1], **kept)
    assert len(calls) == 9
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip((one.logits_BTV, *one.taps), (other.logits_BTV, *other.taps), strict=True):
            assert mine.dtype == theirs.dtype
            assert (mine - theirs).abs().max() <= 3e-5 * theirs.abs().max()
        assert torch.equal(one.loads_LE, other.loads_LE)
        assert one.balance_loss.item() == pytest.approx(other.balance_loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["ours", "V3.2", "V4"])
def test_in_bfloat16_a_token_is_as_near_as_that_of_the_blocks(name, build, ids, monkeypatch):
    core = build(CONFIGS[name]).bfloat16()
    found = torch.cat([one.logits_BTV for one in decoded(core, ids[:1])]).double()
    exact = torch.cat([one.logits_BTV for one in decoded(copy.deepcopy(core).double(), ids[:1])])
    monkeypatch.setattr(native, "wide_library", lambda: None)
    plain = torch.cat([one.logits_BTV for one in decoded(core, ids[:1])]).double()
    assert (found - exact).norm() <= 1.2 * (plain - exact).norm() and not torch.equal(found, plain)


def test_weights_that_change_or_move_are_seen(build, ids):
    core = build(CONFIGS["V3.2"]).float()

    def last():
        return decoded(core, ids[:1])[-1].logits_BTV

    first = last()
    with torch.no_grad():
        core.blocks[1].experts.shared_out.weight.mul_(2)
    changed = last()
    assert not torch.allclose(first, changed)
    core.blocks[1].experts.shared_out.weight.data = core.blocks[1].experts.shared_out.weight / 2
    assert torch.allclose(last(), first, atol=1e-6)
    core.blocks[1].attention.out = torch.nn.Linear(96, 64, bias=False)
    replaced = last()
    assert not torch.allclose(replaced, first)
    core.blocks[1].attention.out.weight.data.zero_()
    assert not torch.allclose(last(), replaced)
    assert torch.equal(copy.deepcopy(core)(ids[:1]).logits_BTV, core(ids[:1]).logits_BTV)
    assert isinstance(pickle.loads(pickle.dumps(core._token_pass)), TokenPass)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_picture_s_place_is_routed_by_its_own_bias(compiled, build, ids, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "wide_library", lambda: None)
    experts = dataclasses.replace(presets.micro().experts, picture_bias=True)
    core = build(dataclasses.replace(presets.micro(), engram=None, experts=experts)).float()
    closed = torch.full((1, 1), -1)
    with torch.no_grad():
        for block in core.blocks:
            block.experts.router.picture_bias[0] = 9.0  # the first expert is chosen for pictures
        loads = [
            core(ids[:1, :1], cache=core.new_cache(1, 4), memory_ids_BT=memory_BT).loads_LE
            for memory_BT in (ids[:1, :1], closed)
        ]
    assert bool((loads[1][:, 0] > 0).all()) and not torch.equal(*loads)
