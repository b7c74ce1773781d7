"""Checkpoint folders: strict names, closed configs, weights in eight and four bits, shards, conversion."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.cli import main
from dsv4.checkpoint.config_json import read_config
from dsv4.checkpoint.config_write import family, write_config
from dsv4.checkpoint.pretrained import Folder, convert, load_core, save_core
from dsv4.checkpoint.shards import Shards
from dsv4.core import presets
from dsv4.core.config import AttentionConfig, CoreConfig, ExpertsConfig, LanesConfig, LatentConfig
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.ops.lowbits import E2M1, open_blocks, open_four_bits

EXPERTS = dict(count=4, chosen=2, inner=8, shared_inner=16, dense_inner=24)
V3 = CoreConfig(
    vocab_size=32, hidden=16, reach=("full",) * 2, tied=False, embed_norm=False, lanes=LanesConfig(count=1),
    attention=LatentConfig(heads=2, latent=8, plain=8, rotated=4, value=6, q_rank=12),
    experts=ExpertsConfig(**EXPERTS, score="sigmoid", groups=2, groups_chosen=1, scale=2.5, dense=(0,)),
)  # fmt: skip
V4 = CoreConfig(
    vocab_size=32, hidden=32, reach=("sliding", "compressed_sparse"), tied=False, embed_norm=False,
    lanes=LanesConfig(count=4),
    attention=AttentionConfig(heads=2, entry=16, rotated=8, q_rank=32, groups=2, o_rank=8, window=4, top_k=2,
                              index_heads=2, index_size=16, index_rotated=8, heavy=8),
    experts=ExpertsConfig(count=4, chosen=2, inner=32, shared_inner=32, limit=10.0, hashed=(0,)),
)  # fmt: skip


def core_of(config: CoreConfig, seed: int = 0) -> LanguageCore:
    torch.manual_seed(seed)
    core = LanguageCore.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif name.endswith("place"):
                parameter.normal_()
    return core


def same(one: LanguageCore, other: LanguageCore) -> bool:
    ids = torch.randint(0, 32, (2, 19), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(one(ids).logits_BTV, other(ids).logits_BTV)


@pytest.mark.parametrize("config", [V3, V4, presets.micro(32)], ids=["deepseek_v3", "deepseek_v4", "dsv4"])
def test_round_trip_in_many_shards(config: CoreConfig, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    core = core_of(config)
    core.save_pretrained(tmp_path / "one")
    assert json.loads((tmp_path / "one" / "config.json").read_text())["model_type"] == request.node.callspec.id
    save_core(core, tmp_path / "many", shard_bytes=9_000)
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 2
    for name in ("one", "many"):
        again = LanguageCore.from_pretrained(tmp_path / name)
        assert again.config == config and same(core, again)
        assert not any(parameter.requires_grad for parameter in again.parameters())


def test_canonical_ids_travel_with_a_core_of_ours(tmp_path: Path) -> None:
    torch.manual_seed(0)
    core = LanguageCore.from_config(presets.micro(32), canonical_ids=torch.arange(32) // 2).eval()
    core.save_pretrained(tmp_path)
    assert same(core, LanguageCore.from_pretrained(tmp_path))


def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_core(core_of(V3), tmp_path, shard_bytes=9_000)
    read: list[str] = []
    once = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, name: (read.append(name), once(self, name))[1])
    folder = Folder(tmp_path)
    assert read == [] and folder.config == V3
    shapes = {name: tuple(tensor.shape) for name, tensor in core_of(V3).state_dict().items()}
    next(folder.tensors(shapes))
    assert read == ["model.embed_tokens.weight"]


def test_eight_bit_blocks_open_to_code_times_scale() -> None:
    codes = torch.randn(5, 7).to(torch.float8_e4m3fn)
    scales = torch.rand(3, 2) + 0.5
    found = open_blocks(codes, scales, block=(2, 4))
    for row in range(5):
        for column in range(7):
            assert found[row, column] == codes[row, column].float() * scales[row // 2, column // 4]
    powers = torch.tensor([[1, 127, 130]], dtype=torch.uint8).view(torch.float8_e8m0fnu)
    opened = open_blocks(torch.ones(2, 12).to(torch.float8_e4m3fn), powers, block=(2, 4))
    assert opened[0].tolist() == [2.0**-126] * 4 + [1.0] * 4 + [8.0] * 4
    with pytest.raises(ValueError, match=r"need \(3, 2\) scales"):
        open_blocks(codes, scales[:2], block=(2, 4))


def test_four_bit_codes_open_low_half_first() -> None:
    table = [*E2M1, *(-value for value in E2M1)]
    low, high = torch.randint(0, 16, (2, 3, 32), generator=torch.Generator().manual_seed(0))
    scales = torch.randint(120, 134, (3, 2), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found = open_four_bits((low | (high << 4)).to(torch.uint8).view(torch.int8), scales)
    assert found.shape == (3, 64)
    for row in range(3):
        for column in range(64):
            code = (high if column % 2 else low)[row, column // 2]
            assert found[row, column] == table[code] * 2.0 ** (int(scales[row, column // 32]) - 127)


def test_a_release_in_eight_bits(tmp_path: Path) -> None:
    """V3's layout: projections in blocks, `weight_scale_inv` beside them; norms, router and embeddings as they are."""
    save_core(core_of(V3), tmp_path / "plain")
    stored, opened = {}, {}
    for name, tensor in load_file(tmp_path / "plain" / "model.safetensors").items():
        if not name.endswith("proj.weight"):
            stored[name] = opened[name] = tensor
            continue
        scale = torch.rand(-(-tensor.shape[0] // 4), -(-tensor.shape[1] // 4)) + 0.5
        codes = tensor.to(torch.float8_e4m3fn)
        stored[name], stored[name + "_scale_inv"] = codes, scale
        opened[name] = open_blocks(codes, scale, block=(4, 4))
    write(tmp_path / "eight", stored, write_config(V3) | {"quantization_config": {"weight_block_size": [4, 4]}})
    write(tmp_path / "opened", opened, write_config(V3))
    assert same(load_core(tmp_path / "eight"), load_core(tmp_path / "opened"))


def test_a_release_in_four_bits(tmp_path: Path) -> None:
    """V4's layout: experts of two codes a byte, other projections in blocks, power-of-two scales; MTP left out."""
    save_core(core_of(V4), tmp_path / "plain")
    generator = torch.Generator().manual_seed(0)
    stored: dict[str, torch.Tensor] = {"mtp.0.norm.weight": torch.ones(3)}
    opened: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(tmp_path / "plain" / "model.safetensors").items():
        scale_name = name.removesuffix("weight") + "scale"
        if ".experts." in name:
            codes = torch.randint(0, 256, (tensor.shape[0], tensor.shape[1] // 2), generator=generator)
            codes = codes.to(torch.uint8).view(torch.int8)
            scale = torch.randint(120, 126, (tensor.shape[0], tensor.shape[1] // 32), generator=generator)
            stored[name], stored[scale_name] = codes, scale.to(torch.uint8).view(torch.float8_e8m0fnu)
            opened[name] = open_four_bits(codes, stored[scale_name])
        elif re.search(r"attn\.(indexer\.)?w\w+\.weight|shared_experts", name):
            codes = tensor.to(torch.float8_e4m3fn)
            scale = torch.randint(125, 129, (1, 1), generator=generator).to(torch.uint8).view(torch.float8_e8m0fnu)
            stored[name], stored[scale_name] = codes, scale
            opened[name] = open_blocks(codes, scale)
        else:
            stored[name] = opened[name] = tensor
    write(tmp_path / "four", stored, write_config(V4) | {"expert_dtype": "fp4"})
    write(tmp_path / "opened", opened, write_config(V4))
    four = load_core(tmp_path / "four")
    assert same(four, load_core(tmp_path / "opened"))
    assert load_core(tmp_path / "four", dtype=torch.bfloat16)(torch.arange(9)[None]).logits_BTV.dtype == torch.bfloat16


def write(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), "lacks model.norm.weight"),
        (lambda t: t.update({"model.layers.0.mlp.gato.weight": torch.ones(3)}), "no place for: .*gato"),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(3)}),
            r"'out_norm.weight' \(3,\), the model needs \(16,\)",
        ),
        (lambda t: t.update({"norm.weight": torch.ones(16)}), "are the same part"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: Any, message: str) -> None:
    save_core(core_of(V3), tmp_path)
    tensors = dict(load_file(tmp_path / "model.safetensors"))
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        load_core(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hiden_size": 3}, "unknown key 'hiden_size'; did you mean 'hidden_size'"),
        ({"attention_bias": True}, "attention_bias=True is not supported, only False"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"scoring_func": "softmax"}, "scoring_func='softmax' is not supported, only 'sigmoid'"),
        ({"model_type": "deepseek_v5"}, "unknown model_type 'deepseek_v5'; did you mean"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"topk_group": 9}, "cannot choose from 9 of 2 groups"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "'llama3' are not supported"),
        ({"rope_parameters": {"rope_type": "default", "wobble": 1}}, "wobble are not supported"),
    ],
)
def test_configs_that_mean_something_else_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config(write_config(V3) | change)


def test_folders_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no config.json"):
        load_core(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(write_config(V3)))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickled weights are not read"):
        load_core(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_core(tmp_path)


# What the releases' own config.json files say, as far as it matters here.
RELEASED = {
    "V2-Lite": {"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 10944,
        "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
        "n_shared_experts": 2, "n_routed_experts": 64, "num_experts_per_tok": 6, "kv_lora_rank": 512,
        "q_lora_rank": None, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "n_group": 1,
        "topk_group": 1, "topk_method": "greedy", "first_k_dense_replace": 1, "norm_topk_prob": False,
        "scoring_func": "softmax", "routed_scaling_factor": 1.0, "rope_theta": 10000, "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
        "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707}},
    "V3": {"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128, "n_shared_experts": 1,
        "n_routed_experts": 256, "num_experts_per_tok": 8, "kv_lora_rank": 512, "q_lora_rank": 1536,
        "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "n_group": 8, "topk_group": 4,
        "topk_method": "noaux_tc", "first_k_dense_replace": 3, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6},
    "V4-Flash": {"model_type": "deepseek_v4", "vocab_size": 129280, "hidden_size": 4096, "moe_intermediate_size": 2048,
        "num_hidden_layers": 43, "num_attention_heads": 64, "num_key_value_heads": 1, "head_dim": 512,
        "qk_rope_head_dim": 64, "q_lora_rank": 1024, "o_groups": 8, "o_lora_rank": 1024, "n_routed_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 6, "sliding_window": 128, "index_n_heads": 64,
        "index_head_dim": 128, "index_topk": 512, "num_hash_layers": 3, "compress_rope_theta": 160000,
        "compress_ratios": [0, 0] + [4, 128] * 20 + [4], "swiglu_limit": 10.0, "routed_scaling_factor": 1.5,
        "rope_scaling": {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536, "beta_fast": 32,
        "beta_slow": 1}},
}  # fmt: skip
TOTALS = {"V2-Lite": (15.7, 2.4), "V3": (671.0, 37.0), "V4-Flash": (284.0, 13.0)}  # billions, as published


@pytest.mark.parametrize("name", RELEASED)
def test_released_configs_count_what_was_published(name: str) -> None:
    from dsv4.core.count import count

    config = read_config(RELEASED[name])
    assert read_config(write_config(config)) == config and family(config) == RELEASED[name]["model_type"]
    found, (total, active) = count(config), TOTALS[name]
    assert found.total / 1e9 == pytest.approx(total, rel=0.01)
    assert found.active / 1e9 == pytest.approx(active, rel=0.12)  # publishers differ in counting embeddings


def test_convert_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    core = core_of(V4)
    save_core(core, tmp_path / "first")
    assert main(["convert", "first", "ours", "--to", "dsv4"]) == 0
    assert "blocks.0.attention.entry.weight" in load_file(tmp_path / "ours" / "model.safetensors")
    assert main(["convert", "ours", "back", "--to", "deepseek_v4"]) == 0
    first, back = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "back"))
    assert first.keys() == back.keys() and all(torch.equal(first[name], back[name]) for name in first)
    assert main(["convert", "first", "half", "--dtype", "bfloat16"]) == 0
    assert load_core(tmp_path / "half").embedding.weight.dtype == torch.bfloat16
    with pytest.raises(InputError, match="cannot be written as deepseek_v3"):
        convert(tmp_path / "first", tmp_path / "no", to="deepseek_v3")
    with pytest.raises(InputError, match="did you mean 'deepseek_v3'"):
        convert(tmp_path / "first", tmp_path / "no", to="deepseek_3")
    with pytest.raises(InputError, match="in place"):
        convert(tmp_path / "first", tmp_path / "first", to="dsv4")
