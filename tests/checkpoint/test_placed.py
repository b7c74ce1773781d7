"""Experts placed in host memory or mapped: the same numbers as resident ones, counted uses, budgets that hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dsv4.bench import placed as bench
from dsv4.checkpoint.placed import load_placed
from dsv4.checkpoint.pretrained import load_core
from dsv4.core import presets
from dsv4.core.config import CoreConfig, ExpertsConfig, LanesConfig, LatentConfig
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError

V3 = CoreConfig(
    vocab_size=64, hidden=64, reach=("full",) * 3, tied=False, embed_norm=False, lanes=LanesConfig(count=1),
    attention=LatentConfig(heads=2, latent=32, plain=16, rotated=16, value=16, q_rank=32),
    experts=ExpertsConfig(count=8, chosen=2, inner=32, shared_inner=64, dense_inner=64, dense=(0,), score="sigmoid"),
)  # fmt: skip
CONFIGS = {"v3": V3, "ours": replace(presets.micro(64), experts=ExpertsConfig(count=8, chosen=2, inner=24,
                                                                            shared_inner=48))}  # fmt: skip
PLENTY = 64 << 30


def saved(name, folder, dtype):
    torch.manual_seed(0)
    LanguageCore.from_config(CONFIGS[name]).to(dtype).eval().save_pretrained(folder)
    return folder


def decoded(core):
    cache = core.new_cache(1, 40)
    with torch.no_grad():
        parts = [core(torch.arange(17)[None], cache=cache).logits_BTV]
        for token in range(6):
            parts.append(core(torch.tensor([[token]]), cache=cache).logits_BTV)
    return torch.cat(parts, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("home", ["host", "mapped"])
@pytest.mark.parametrize("name", CONFIGS)
def test_placed_experts_give_the_numbers_of_resident_ones(name, home, dtype, tmp_path):
    folder = saved(name, tmp_path, dtype)
    placed = load_placed(folder, experts=home, memory=PLENTY)
    expected, found = decoded(load_core(folder)), decoded(placed.core)
    assert (found - expected).abs().max() <= (1e-5 if dtype == torch.float32 else 0.05) * expected.abs().max()
    layers = sum(1 for block in placed.core.blocks if hasattr(block.experts, "store"))
    assert placed.meter.used >= layers * 6 * 2 and 0 < placed.meter.hit_rate < 1
    before = placed.meter.hits
    again = decoded(placed.core)
    assert torch.equal(again, found) and placed.meter.hits > before


def test_a_tight_budget_fetches_again_and_holds(tmp_path):
    folder = saved("v3", tmp_path, torch.float32)
    each = 3 * 32 * 64 * 4
    placed = load_placed(folder, experts="host", memory=3 * each)
    expected = decoded(load_core(folder))
    assert torch.allclose(decoded(placed.core), expected, atol=1e-5)
    hot = placed.core.blocks[1].experts.store.hot
    assert hot.held <= 3 * each and placed.meter.bytes_fetched > 8 * each
    mapped = load_placed(folder, experts="mapped", memory=PLENTY)
    pages = mapped.core.blocks[1].experts.store.pages
    pages.room = 3 * each
    assert torch.allclose(decoded(mapped.core), expected, atol=1e-5)
    assert pages.held <= 3 * each and mapped.meter.bytes_fetched > 8 * each
    assert "tokens/s" in mapped.says(10, 2.0) and "GB fetched" in mapped.says(10, 2.0)


def test_nothing_of_an_expert_is_copied_and_too_little_memory_is_said(tmp_path):
    folder = saved("v3", tmp_path, torch.float32)
    placed = load_placed(folder, experts="mapped", memory=PLENTY)
    gate, up, down = placed.core.blocks[1].experts.store.experts[3]
    names = {file.path.name for file, _, _ in placed.core.blocks[1].experts.store.ranges[3]}
    assert names == {"model.safetensors"} and gate.shape == up.shape == down.T.shape
    with pytest.raises(InputError, match="are left for experts; two of them take"):
        load_placed(folder, experts="mapped", memory=1000)
    with pytest.raises(InputError, match="did you mean 'mapped'"):
        load_placed(folder, experts="maped", memory=PLENTY)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_model_larger_than_its_memory_answers_within_it(tmp_path):
    """32 experts of 1.5 MB in 4 layers; the process may take what torch takes once it runs, and a quarter of that."""
    config = replace(V3, hidden=256, reach=("full",) * 5, experts=replace(V3.experts, count=32, inner=1024))
    torch.manual_seed(0)
    LanguageCore.from_config(config).bfloat16().save_pretrained(tmp_path / "large")
    LanguageCore.from_config(V3).bfloat16().save_pretrained(tmp_path / "tiny")
    size = bench.folder_bytes(tmp_path / "large")
    code = (
        "import sys, torch; from pathlib import Path; from dsv4.bench import placed as b;"
        "from dsv4.checkpoint import placed as p; torch.set_num_threads(1); f = Path(sys.argv[1]);"
        "b.decode(f / 'tiny', 64 << 30, 2);"  # what torch loads on the way belongs to torch
        "p.SLACK = 8 << 20; before = p._resident_now();"
        "made = b.decode(f / 'large', before + p.SLACK + b.folder_bytes(f / 'large') // 4, 24);"
        "print(before, b.peak_bytes(), made['fetched'], made['hit_rate'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert run.returncode == 0, run.stderr
    before, peak, fetched, hits = map(float, run.stdout.split())
    assert peak - before < 0.8 * size, (size, peak, before)  # activations and libraries come on top of the quarter
    assert fetched > size / 2 and 0 < hits < 1
