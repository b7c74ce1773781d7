"""Quantised checkpoints that stay packed: the numbers of opened ones, resident, in host memory and mapped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsv4.checkpoint.packed import packed_bytes
from dsv4.checkpoint.placed import load_placed
from dsv4.checkpoint.pretrained import load_core
from dsv4.core import presets
from dsv4.core.config import AttentionConfig, CoreConfig, ExpertsConfig, LanesConfig, LatentConfig
from dsv4.core.model import LanguageCore
from dsv4.core.placed import PlacedExperts
from dsv4.errors import InputError
from dsv4.ops import native
from dsv4.ops.packed import PackedLinear
from dsv4.tiers.run import Passage, quantize

V3 = CoreConfig(
    vocab_size=64, hidden=128, reach=("full",) * 2, tied=False, embed_norm=False, lanes=LanesConfig(count=1),
    attention=LatentConfig(heads=2, latent=128, plain=48, rotated=16, value=64, q_rank=128),
    experts=ExpertsConfig(count=4, chosen=2, inner=128, shared_inner=128, dense_inner=128, dense=(0,), score="sigmoid"),
)  # fmt: skip
V4 = CoreConfig(
    vocab_size=64, hidden=128, reach=("sliding", "compressed_sparse"), tied=False, embed_norm=False,
    lanes=LanesConfig(count=2),
    attention=AttentionConfig(heads=4, entry=64, rotated=16, q_rank=128, groups=2, o_rank=64, window=8, top_k=4,
                              index_heads=2, index_size=16, index_rotated=16, heavy=8),
    experts=ExpertsConfig(count=4, chosen=2, inner=128, shared_inner=128, limit=10.0, hashed=(0,)),
)  # fmt: skip
OURS = replace(presets.micro(64), experts=ExpertsConfig(count=4, chosen=2, inner=32, shared_inner=64))
CONFIGS = {"v3": V3, "v4": V4, "ours": OURS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name, tier, dtype=torch.bfloat16):
        if (name, tier, dtype) not in made:
            base = tmp_path_factory.mktemp(f"{name}-{tier}")
            torch.manual_seed(0)
            core = LanguageCore.from_config(CONFIGS[name]).eval()
            with torch.no_grad():
                core.embedding.weight.mul_(20)
            core.to(dtype).save_pretrained(base / "plain")
            ids = torch.arange(24) % 64
            quantize(base / "plain", base / "packed", tier=tier, method="round", passages=[Passage(token_ids_T=ids)])
            made[name, tier, dtype] = base / "packed"
        return made[name, tier, dtype]

    return folder


def decoded(core):
    cache = core.new_cache(1, 40)
    with torch.inference_mode():
        parts = [core(torch.arange(17)[None], cache=cache).logits_BTV]
        for token in range(6):
            parts.append(core(torch.tensor([[token]]), cache=cache).logits_BTV)
    return torch.cat(parts, 1).float()


@pytest.mark.parametrize("tier", ["q4", "q8"])
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_weights_give_what_opened_ones_give(name, tier, folders):
    folder = folders(name, tier)
    opened, packed = load_core(folder, dtype=torch.float32), load_core(folder, dtype=torch.float32, packed=True)
    expected = decoded(opened)
    assert (decoded(packed) - expected).abs().max() <= 1e-4 * expected.abs().max()
    few, rest = packed_bytes(packed)
    whole = sum(one.numel() * one.element_size() for one in opened.parameters())
    assert few > 0 and few + rest < 0.75 * whole
    assert any(isinstance(one, PackedLinear) for one in packed.modules())
    assert isinstance(packed.blocks[-1].experts, PlacedExperts)


@pytest.mark.parametrize("name", ["v3", "v4"])
def test_without_compiled_loops_the_numbers_are_the_same(name, folders, monkeypatch):
    expected = decoded(load_core(folders(name, "q4"), dtype=torch.float32))
    monkeypatch.setattr(native, "library", lambda: None)
    found = decoded(load_core(folders(name, "q4"), dtype=torch.float32, packed=True))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("home", ["host", "mapped"])
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_experts_can_be_placed(name, home, folders):
    folder = folders(name, "q4")
    placed = load_placed(folder, experts=home, memory=64 << 30)
    dtype = placed.core.embedding.weight.dtype
    expected = decoded(load_core(folder, dtype=dtype, packed=True))
    assert (decoded(placed.core) - expected).abs().max() <= 0.05 * expected.abs().max()
    assert placed.meter.used > 0 and placed.meter.bytes_used > 0


def test_a_plain_checkpoint_is_loaded_as_ever_when_packed_is_asked_for(tmp_path):
    torch.manual_seed(0)
    LanguageCore.from_config(V3).eval().save_pretrained(tmp_path)
    assert torch.equal(decoded(load_core(tmp_path, packed=True)), decoded(load_core(tmp_path)))


def test_a_packed_core_is_not_saved_as_half_a_checkpoint(folders, tmp_path):
    core = load_core(folders("v3", "q4"), packed=True)
    with pytest.raises(InputError, match="lie packed or elsewhere"):
        core.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()
