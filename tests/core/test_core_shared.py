"""Compressed entries that layers share (CSA2): beside NeMo Automodel's V4.1, in caches, and at the release's size.

Values are rounded to grids, and the best are chosen: a number that lies on the border of two codes, or a tie, within
float32's rounding is decided by nothing. Only at and behind places where that happens may logits differ, and few do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dsv4.checkpoint.config_json import read_config
from dsv4.checkpoint.config_write import write_config
from dsv4.checkpoint.names import extra, recipe
from dsv4.core.cache import Cache
from dsv4.core.config import CoreConfig, SharingConfig
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.ops.fp4 import on_four_bits
from dsv4.ops.fp8 import on_grid
from tests.core import nemo_v41
from tests.core.released import cached
from tests.core.test_core_cache import KINDS

KINDS_OF_SHARING = ("_six", "_eight")
LENGTH = 61


def folder_of(folder: Path, name: str, seed: int) -> Path:
    text, shapes, _ = nemo_v41.kept(name)
    folder.mkdir()
    save_file(nemo_v41.weights(shapes, seed, pictures=True), folder / "model.safetensors")
    config = {"model_type": "deepseek_v41", "text_config": text, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(nemo_v41.tokenizer_json())
    return folder


class Borders:
    """Notes at which places of a whole pass a rounding or a choice is decided by less than float32's own rounding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flags_BT = torch.zeros(2, LENGTH, dtype=torch.bool)
        from dsv4.core import attention, shared_compressed

        monkeypatch.setattr(attention, "on_grid", self._rounding(attention.on_grid))
        monkeypatch.setattr(shared_compressed, "on_four_bits", self._rounding(shared_compressed.on_four_bits))
        monkeypatch.setattr(shared_compressed, "best_places", self._choice(shared_compressed.best_places))

    def _rounding(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def spied(x: Tensor, *how: Any) -> Tensor:
            if x.shape[1]:
                room = x.abs().amax(-1, keepdim=True) * 3e-7
                # A scale may change between the two; only a whole step of a code is a border.
                apart = (function(x + room, *how) - function(x - room, *how)).abs() > 100 * room
                self._note(apart.flatten(2).any(-1))
            return function(x, *how)

        return spied

    def _choice(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def spied(scores: Tensor, allowed: Tensor, k: int) -> Any:
            if scores.shape[-1] > k:
                ranked = scores.masked_fill(~allowed, float("-inf")).topk(k + 1, -1).values
                room = 3e-6 * ranked.masked_fill(ranked.isinf(), 0.0).abs().amax(-1)
                self._note((ranked[..., k - 1] - ranked[..., k] <= room) & ranked[..., k].isfinite())
            return function(scores, allowed, k)

        return spied

    def _note(self, flags: Tensor) -> None:
        ratio = LENGTH // flags.shape[1]
        self.flags_BT[:, ratio - 1 :: ratio][:, : flags.shape[1]] |= flags

    def check(self, found: Tensor, expected: Tensor, where: object) -> None:
        """Within 2e-5 of the largest wherever nothing hung on a border before, and nearly everywhere else."""
        length = found.shape[1]
        apart_BT = (found - expected[:, :length]).abs().amax(-1) > 2e-5 * expected.abs().max()
        clear_BT = self.flags_BT[:, :length].cumsum(-1) == 0
        assert clear_BT[:, :2].all() and not (apart_BT & clear_BT).any(), where
        assert apart_BT.float().mean() < 0.1, where


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", KINDS_OF_SHARING)
def test_logits_are_nemo_s(name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = LanguageCore.from_pretrained(folder_of(tmp_path / "given", name, seed))
    expected, (ids, pictures) = nemo_v41.kept(name)[2][seed], nemo_v41.inputs(LENGTH)
    memory = ids.masked_fill(pictures, -1)
    with monkeypatch.context() as patched, torch.no_grad():
        borders = Borders(patched)
        whole = core(ids, memory_ids_BT=memory).logits_BTV
    borders.check(whole, expected, "whole")
    with torch.no_grad():
        # Around a window (8), the first entry of two tokens, top-k (5) and the pool (4 blocks of 2) of both ratios.
        for length in (1, 2, 3, 5, 6, 8, 9, 10, 11, 12, 17):
            found = core(ids[:, :length], memory_ids_BT=memory[:, :length]).logits_BTV
            borders.check(found, expected, length)
        for rows in ("plain", "fp8"):
            cache, parts, start = core.new_cache(2, LENGTH, rows=rows, rewind=4), [], 0
            for stop in (9, 13, 14, 15, 16, 17, 18, 37, 38, 39, 40, 61):
                if start in (14, 17):  # a guess that is taken back, and a fork that is gone on from
                    core(ids[:, 3:6], cache=cache)
                    cache.truncate(start)
                    cache = cache.fork()
                part = core(ids[:, start:stop], memory_ids_BT=memory[:, start:stop], cache=cache)
                parts.append(part.logits_BTV)
                start = stop
            borders.check(torch.cat(parts, 1), expected, rows)


def test_gradients_are_nemo_s(tmp_path: Path) -> None:
    """Shared entries gather the gradients of every layer that reads them, roundings pass them on."""
    core = LanguageCore.from_pretrained(folder_of(tmp_path / "given", "_six", 0)).requires_grad_(True)
    ids, pictures = nemo_v41.inputs(LENGTH)
    logits = core(ids, memory_ids_BT=ids.masked_fill(pictures, -1)).logits_BTV
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    ours = {recipe(n, core.config, "deepseek_v41").rows[0][0]: p.grad for n, p in core.named_parameters()}
    kept = nemo_v41.gradients("_six")
    assert len(kept) == 6
    for name, expected in kept.items():
        assert (ours[name] - expected).abs().max() < 1e-4 * expected.abs().max(), name


def test_gradients_reach_every_element(build: Callable[..., LanguageCore]) -> None:
    core = build(KINDS["shared entries"]).train()
    ids = torch.randint(0, 256, (4, 60), generator=torch.Generator().manual_seed(1))
    output = core(ids, index_loss="chosen", sparse=True)
    (core.loss(output.hidden_BTD, ids) + output.index_loss + output.balance_loss).backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None, name
        if "attention." in name:
            assert (parameter.grad != 0).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_index_loss_reaches_indexers_alone(build: Callable[..., LanguageCore]) -> None:
    core = build(KINDS["shared entries"]).train()
    ids = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(1))
    for how, sparse in (("all", False), ("chosen", True)):
        core.zero_grad()
        core(ids, index_loss=how, sparse=sparse).index_loss.backward()
        reached = {name for name, one in core.named_parameters() if one.grad is not None and one.grad.abs().sum() > 0}
        assert reached == {name for name, _ in core.named_parameters() if "window_indexer" in name}


def test_one_layer_by_hand(build: Callable[..., LanguageCore]) -> None:
    """A source of ratio 2: pairs pooled by softmax of the gates, the best by score, a window and a sink."""
    config = CoreConfig.from_dict(KINDS["shared entries"].to_dict())
    plan = SharingConfig(ratios=(2,), sources=(0,), choosers=(0,), entry_tile=0, key_tile=0)
    attention = replace(config.attention, sharing=plan, grid=0)
    core = build(replace(config, attention=attention, reach=("shared_compressed",), engram=None))
    from tests.core.test_core_memory import _frame

    layer, x, T = core.blocks[0].attention, torch.randn(1, 11, 64, dtype=torch.float64), 11
    layer.top_k = 2
    frame = replace(_frame(core, T), sparse=True)
    with torch.no_grad():
        found = layer(x, frame)[0]
        cos, sin = frame.far.cos_BT1P[0, :, 0], frame.far.sin_BT1P[0, :, 0]

        def turn(v: Tensor, place: int, sign: int = 1) -> Tensor:
            turned = v.clone()
            pairs = torch.view_as_complex(v[..., -2 * cos.shape[-1] :].unflatten(-1, (-1, 2)).contiguous())
            by = torch.complex(cos[place].double(), sign * sin[place].double())
            turned[..., -2 * cos.shape[-1] :] = torch.view_as_real(pairs * by).flatten(-2)
            return turned

        def short(v: Tensor, place: int) -> Tensor:  # the indexer's heads turn by fewer pairs
            turned, pairs = v.clone(), frame.far.index_cos_BT1P.shape[-1]
            c, s = (one[0, place, 0].double() for one in (frame.far.index_cos_BT1P, frame.far.index_sin_BT1P))
            turned[..., -2 * pairs :] = torch.view_as_real(
                torch.view_as_complex(v[..., -2 * pairs :].unflatten(-1, (-1, 2)).contiguous()) * torch.complex(c, s)
            ).flatten(-2)
            return turned

        pool, index, eps = layer.pool, layer.window_indexer, core.config.norm_eps
        values, gates = x[0] @ pool.entry.weight.T, x[0] @ pool.gate.weight.T
        entries, keys = [], []
        for pair in range(T // 2):
            both = torch.softmax(gates[2 * pair : 2 * pair + 2], 0) * values[2 * pair : 2 * pair + 2]
            latent = both.sum(0)
            latent = latent / (latent.square().mean() + eps).sqrt() * pool.norm.weight
            key = index.key.weight @ latent
            keys.append(short(key / (key.square().mean() + eps).sqrt() * index.key_norm.weight, 2 * pair))
            entries.append(turn(latent, 2 * pair))
        for place in range(T):
            low = layer.query_norm(layer.query_down(x[0, place]))
            q = turn(layer.query_up(low).view(layer.heads, -1), place)
            iq = short(index.query(low).view(index.heads, -1), place)
            seen = range((place + 1) // 2)
            weight = index.weights(x[0, place])
            ranked = sorted(seen, key=lambda one: -float(((iq @ keys[one]).relu() * weight).sum()))
            near = [turn(layer.entry_norm(layer.entry(x[0, one])), one) for one in range(max(0, place - 7), place + 1)]
            rows = torch.stack(near + [entries[one] for one in ranked[:2]])
            powers = torch.exp(q @ rows.T / q.shape[-1] ** 0.5)
            out = powers @ rows / (powers.sum(-1, keepdim=True) + layer.sink.exp()[:, None])
            expected = layer._project(turn(out, place, -1)[None, None])[0, 0]
            assert (found[0, place] - expected).abs().max() < 1e-6, place


def test_packed_rows_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on a grid already is packed to the bit; whatever the chunks, and gathered or masked."""
    core = LanguageCore.from_pretrained(folder_of(tmp_path / "given", "_eight", 0))
    ids = nemo_v41.inputs(LENGTH)[0]
    for chunks in ((61,), (20, 1, 1, 1, 30)):
        plain, packed = cached(core, ids, chunks), cached(core, ids, chunks, rows="fp8")
        assert torch.equal(plain, packed)
    monkeypatch.setattr("dsv4.core.shared_compressed.GATHER_FROM", 1)
    monkeypatch.setattr("dsv4.core.shared_compressed.PIECE", 7)
    again = cached(core, ids, (20, 1, 30), rows="fp8")
    assert (again - cached(core, ids, (20, 1, 30))).abs().max() < 2e-5 * again.abs().max()


def test_bytes_a_token_are_the_release_s() -> None:
    """890 bytes a token behind the windows: four sources, one of ratio 1 and three of ratio 2, of 288 and 68 bytes."""
    config = replace(released(), engram=None)
    sizes = [Cache(config, batch=1, capacity=size, dtype=torch.bfloat16, device="meta", rows="fp8").nbytes
             for size in (1000, 3000)]  # fmt: skip
    assert (sizes[1] - sizes[0]) / 2000 == 890 == 2.5 * (288 + 68)
    window = Cache(config, batch=1, capacity=1000, dtype=torch.bfloat16, device="meta", rows="fp8")._entries[0]
    assert window.kept_BSD.shape == (1, 128, 528)


def test_folders_there_and_back(tmp_path: Path) -> None:
    given = folder_of(tmp_path / "given", "_eight", 0)
    core = LanguageCore.from_pretrained(given)
    core.save_pretrained(tmp_path / "saved")
    stored, back = (load_file(tmp_path / name / "model.safetensors") for name in ("given", "saved"))
    assert set(stored) | {"canonical_ids"} == set(back)
    assert all(torch.equal(stored[name], back[name]) for name in stored)
    again = LanguageCore.from_pretrained(tmp_path / "saved")
    assert again.config == core.config
    ids = nemo_v41.inputs(LENGTH)[0]
    with torch.no_grad():
        assert torch.equal(core(ids).logits_BTV, again(ids).logits_BTV)
    leading = LanguageCore.from_pretrained(given, layers=4)
    assert leading.config.attention.sharing == core.config.attention.sharing.leading(4)
    with torch.no_grad():
        assert torch.equal(leading(ids, taps=(4,)).taps[0], core(ids, taps=(4,)).taps[0])
    for name, where in (("layers.1.attn.indexer.wk.weight", "lacks"), ("layers.2.attn.indexer.wk.weight", "no place")):
        changed = dict(stored)
        if name in changed:
            del changed[name]
        else:
            changed[name] = stored["layers.1.attn.indexer.wk.weight"].clone()
        save_file(changed, given / "model.safetensors")
        with pytest.raises(InputError, match=rf"{where}.*{re.escape(name)}"):
            LanguageCore.from_pretrained(given)


def test_plans_that_cannot_be_are_refused() -> None:
    plan = dict(ratios=(0, 2, 1), sources=(1, 2), choosers=(1, 2))
    with pytest.raises(ValueError, match=r"every source must choose too, but \[2\]"):
        SharingConfig(**{**plan, "choosers": (1,)})
    with pytest.raises(ValueError, match="layer 2 needs a source of ratio 1"):
        SharingConfig(**{**plan, "sources": (1,)})
    with pytest.raises(ValueError, match="layer 0 has no compressed entries"):
        SharingConfig(**{**plan, "choosers": (0, 1, 2)})
    with pytest.raises(ValueError, match="must be the last of the sources"):
        SharingConfig(**plan, pool_source=1)
    part = KINDS["shared entries"].attention
    with pytest.raises(ValueError, match="holds less than top_k=5"):
        replace(part, sharing=replace(part.sharing, pool_blocks=2, pool_size=2), top_k=5)
    with pytest.raises(ValueError, match=r"layers \[0\] have shared compressed entries"):
        replace(KINDS["shared entries"], reach=("shared_compressed", "sliding", "full"))
    assert CoreConfig.from_dict(KINDS["shared entries"].to_dict()) == KINDS["shared entries"]


RELEASE: dict[str, Any] = dict(
    vocab_size=129_280, hidden_size=5120, moe_intermediate_size=2304, num_hidden_layers=40, num_attention_heads=64,
    num_key_value_heads=1, head_dim=512, qk_rope_head_dim=64, q_lora_rank=1280, o_lora_rank=1024, o_groups=8,
    n_routed_experts=384, n_shared_experts=1, num_experts_per_tok=6, scoring_func="sqrtsoftplus",
    topk_method="noaux_tc", routed_scaling_factor=1.5, swiglu_limit=10.0, sliding_window=128,
    compress_ratios=[0, 0] + [2] * 18 + [1] * 20 + [0] * 3, kv_source_layer_ids=[2, 8, 14, 20],
    index_source_layer_ids=[2, 8, 14, 20, 24, 28, 32, 36], index_n_heads=32, index_head_dim=128, index_topk=512,
    candidate_source_layer_id=20, candidate_topk_blocks=2048, candidate_block_size=8, hc_mult=4, hc_sinkhorn_iters=20,
    hc_eps=1e-6, rms_norm_eps=1e-20, rope_theta=1e4, compress_rope_theta=1.6e5, max_position_embeddings=1_048_576,
    rope_scaling={"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 65_536, "beta_fast": 32,
                  "beta_slow": 1},
    engram_layer_ids=[1, 14], engram_num_embeddings=[384_006_168, 384_016_682], engram_max_ngram_size=4,
    engram_vocab_size=16_000_000, engram_n_heads=8, engram_head_dim=256, engram_pad_token_id=2,
    engram_compressed_vocab_size=99_092, num_nextn_predict_layers=3, dspark_block_size=5,
    dspark_noise_token_id=128_799, dspark_target_layer_ids=[37, 38, 39], dspark_markov_rank=256,
    dspark_n_routed_experts=128, dspark_num_experts_per_tok=3,
)  # fmt: skip


def released() -> CoreConfig:
    return read_config({"model_type": "deepseek_v41", "image_token_id": 129_264, "text_config": RELEASE})


def published_names() -> set[str]:
    """The tensors of V4.1-Flash's language part, as its release names them (scales aside)."""
    names = {"embed.weight", "norm.weight", "head.weight"}
    for layer in range(40):
        parts = [f"{site}_norm.weight" for site in ("attn", "ffn")]
        parts += [f"hc_{site}_{what}" for site in ("attn", "ffn") for what in ("fn", "base", "scale")]
        parts += [f"attn.{what}.weight" for what in ("wq_a", "wq_b", "wkv", "wo_a", "wo_b", "q_norm", "kv_norm")]
        parts += ["attn.attn_sink", "ffn.gate.weight", "ffn.gate.bias", "ffn.gate.bias_vl"]
        if layer in (2, 8, 14, 20):
            parts += [f"attn.{what}.weight" for what in ("compressor.wkv", "compressor.norm", "indexer.wk",
                                                         "indexer.k_norm")]  # fmt: skip
            parts += ["attn.compressor.wgate.weight"] if layer < 20 else []
        if layer in (2, 8, 14, 20, 24, 28, 32, 36):
            parts += ["attn.indexer.wq_b.weight", "attn.indexer.weights_proj.weight"]
        units = [*(f"experts.{number}" for number in range(384)), "shared_experts"]
        parts += [f"ffn.{unit}.{matrix}.weight" for unit in units for matrix in ("w1", "w2", "w3")]
        if layer in (1, 14):
            parts += [f"engram.{what}" for what in ("embed.weight", "wkv.weight", "q_weight", "k_weight")]
        names |= {f"layers.{layer}.{part}" for part in parts}
    return names


def test_the_whole_release_by_names_and_shapes() -> None:
    """V4.1-Flash as published: 552 billion parameters and 196 billion of memory; every name, none left over."""
    config = released()
    with torch.device("meta"):
        core = LanguageCore(config, canonical_ids=torch.empty(129_280, dtype=torch.long))
    state = core.state_dict()
    names = [part for name in state for row in recipe(name, config, "deepseek_v41").rows for part in row]
    assert len(names) == len(set(names)) and set(names) == published_names()
    memory = sum(one.numel() for name, one in state.items() if "engram.table" in name)
    assert memory == (384_006_168 + 384_016_682) * 256 and round(memory / 1e9, 1) == 196.6
    total = sum(one.numel() for one in core.parameters())
    assert round((total - memory) / 1e9) == 552
    shapes = {recipe(name, config, "deepseek_v41").rows[0][0]: tuple(one.shape) for name, one in state.items()}
    assert shapes["layers.2.attn.compressor.wkv.weight"] == shapes["layers.2.attn.compressor.wgate.weight"]
    assert shapes["layers.20.attn.compressor.wkv.weight"] == (512, 5120)
    assert shapes["layers.20.attn.indexer.wk.weight"] == (128, 512)
    assert shapes["layers.36.attn.indexer.wq_b.weight"] == (32 * 128, 1280)
    assert shapes["layers.36.attn.indexer.weights_proj.weight"] == (32, 5120)
    assert shapes["layers.39.ffn.gate.bias_vl"] == (384,)
    left = extra(config, "deepseek_v41")
    for name in ("mtp.0.main_proj.weight", "vision.norm.weight", "aligner.w1.bias", "image_start"):
        assert left.search(name), name
    assert not left.search("layers.24.attn.indexer.wk.weight")
    again = read_config(write_config(config))
    assert again == config and config.attention.yarn.stretch == 1.0


def test_a_released_block_reads_what_its_source_made() -> None:
    """Reuse does not change what was chosen, a pool holds the newest block: seen on what a pass hands on."""
    from dsv4.core.shared_compressed import best_blocks

    plan = SharingConfig(ratios=(1,), sources=(0,), choosers=(0,), pool_blocks=2, pool_size=3)
    scores = torch.tensor([[[5.0, 0, 0, 1, 9, 0, 0, 0, 0, 2, 0]]])
    seen = torch.arange(11)[None, None] < 10
    found = best_blocks(scores, seen, plan)
    assert found.places[0, 0].tolist() == [1, 3] and found.real.all()
    few = best_blocks(scores[..., :3], seen[..., :3], plan)
    assert few.places[0, 0][few.real[0, 0]].tolist() == [0]


def test_rounding_twice_is_where_grids_differ() -> None:
    """FP8's grid and FP4 with powers of two hold their own numbers; e4m3 scales near zero do not, so raw rows go in."""
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 2, 64)[:, None]
    assert torch.equal(on_grid(on_grid(x, 32), 32), on_grid(x, 32))
    once = on_four_bits(x, 32, "e8m0")
    assert torch.equal(on_four_bits(once, 32, "e8m0"), once)
    once = on_four_bits(x, 16, "e4m3")
    assert not torch.equal(on_four_bits(once, 16, "e4m3"), once)
