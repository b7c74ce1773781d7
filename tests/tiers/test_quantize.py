"""Quantising whole models: what is kept, what others read, going on after a kill, memory, order of the methods."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from app.cli import main
from dsv4._parts import asset
from dsv4.checkpoint.pretrained import load_core
from dsv4.core import presets
from dsv4.core.config import AttentionConfig, CoreConfig, ExpertsConfig, HeadsConfig, LanesConfig, LatentConfig
from dsv4.core.hyper import first_lane
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.quant.grid import Grid
from dsv4.quant.policy import eight_bits
from dsv4.tiers import compare
from dsv4.tiers import layer as layer_module
from dsv4.tiers import run as run_module
from dsv4.tiers.layer import How, Work, attention_pass, experts_pass, memory_pass
from dsv4.tiers.run import Passage, _each, quantize
from dsv4.tiers.source import open_source
from dsv4.tokenizer import Tokenizer

EXPERTS = ExpertsConfig(count=4, chosen=2, inner=32, shared_inner=64, dense_inner=64, dense=(0,), score="softmax",
                        normalised=False, scale=1.0)  # fmt: skip
V2 = CoreConfig(
    vocab_size=64, hidden=64, reach=("full",) * 3, tied=False, embed_norm=False, lanes=LanesConfig(count=1),
    attention=LatentConfig(heads=2, latent=32, plain=16, rotated=16, value=16, q_rank=None), experts=EXPERTS,
)  # fmt: skip
V3 = replace(V2, attention=replace(V2.attention, q_rank=32), experts=replace(EXPERTS, score="sigmoid", normalised=True))
HEADS = replace(V2, attention=HeadsConfig(heads=4, kv_heads=2, size=16))
V4 = CoreConfig(
    vocab_size=64, hidden=64, reach=("sliding", "compressed_sparse", "heavily_compressed"), tied=False,
    embed_norm=False, lanes=LanesConfig(count=4),
    attention=AttentionConfig(heads=2, entry=32, rotated=16, q_rank=32, groups=2, o_rank=16, window=8, top_k=4,
                              index_heads=2, index_size=16, index_rotated=16, heavy=8),
    experts=ExpertsConfig(count=4, chosen=2, inner=32, shared_inner=32, limit=10.0, hashed=(0,)),
)  # fmt: skip
MICRO = replace(
    presets.micro(64),
    attention=replace(presets.micro(64).attention, q_rank=32, o_rank=16),
    experts=ExpertsConfig(count=4, chosen=2, inner=32, shared_inner=64),
)
FUSED = replace(MICRO, lanes=replace(MICRO.lanes, passes=1), engram=replace(MICRO.engram, form="fused"))
CONFIGS = {"v2": V2, "v3": V3, "heads": HEADS, "v4": V4, "ours": MICRO, "v41's forms": FUSED}


def saved(config, folder, *, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    core = LanguageCore.from_config(config).eval()
    with torch.no_grad():
        for parameter in core.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.2 * torch.randn_like(parameter))
        core.embedding.weight.mul_(20)
    core.to(dtype).save_pretrained(folder)
    return core


def passages(count=6, length=48, vocabulary=64):
    generator = torch.Generator().manual_seed(0)
    return [Passage(token_ids_T=torch.randint(0, vocabulary, (length,), generator=generator)) for _ in range(count)]


def made(config, tmp_path, *, method="gptq", tier="q4", **options):
    saved(config, tmp_path / "plain", dtype=options.pop("dtype", torch.float32))
    report = quantize(tmp_path / "plain", tmp_path / "out", tier=tier, method=method, passages=passages(), **options)
    return tmp_path / "out", report


def logits(core, ids):
    with torch.no_grad():
        return core(ids).logits_BTV


@pytest.mark.parametrize("method", ["round", "awq", "gptq"])
@pytest.mark.parametrize("name", ["v2", "v3"])
def test_transformers_reads_it_with_our_logits(name, method, tmp_path):
    out, _ = made(CONFIGS[name], tmp_path, method=method, dtype=torch.bfloat16)
    ours = load_core(out)
    ours.save_pretrained(tmp_path / "opened")
    ids = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1))

    def theirs(folder, dtype):
        with torch.no_grad():
            return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()(ids).logits

    assert torch.equal(theirs(out, torch.bfloat16), theirs(tmp_path / "opened", torch.bfloat16))
    found, expected = theirs(tmp_path / "opened", torch.float32), logits(ours.float(), ids)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("name", CONFIGS)
def test_only_what_may_be_is_packed_and_quantised_is_near(name, tmp_path):
    out, report = made(CONFIGS[name], tmp_path, tier="q8")
    names = set()
    for shard in out.glob("model-*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            names |= set(file.keys())
    packed = {one.removesuffix("_packed") for one in names if one.endswith("_packed")}
    assert packed and report.bits_a_weight > 8
    kept = ("norm", "gate.weight", "router", "hyper", "hc_", "index", "embed", "head", "compressor", "sink")
    assert not [one for one in packed if any(part in one for part in kept)]
    assert any("experts" in one for one in packed) and any("attn" in one or "attention" in one for one in packed)
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    assert config["format"] == "pack-quantized" and config["config_groups"]["group_0"]["weights"]["num_bits"] == 8
    ids = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1))
    found, expected = logits(load_core(out), ids), logits(load_core(tmp_path / "plain"), ids)
    agree = (found.argmax(-1) == expected.argmax(-1)).float().mean()
    assert agree > 0.9


class Unrounded(Grid):
    """A grid that rounds nothing, to see that scaling alone changes nothing."""

    def scales(self, weight_NK):
        return torch.ones(*weight_NK.shape[:-1], 1)

    def codes(self, weight_NK, scales_NG):
        return weight_NK

    def open(self, codes_NK, scales_NG):
        return codes_NK.clone()


@pytest.mark.parametrize("name", CONFIGS)
def test_scales_of_inputs_are_taken_back_exactly(name, tmp_path, monkeypatch):
    saved(CONFIGS[name], tmp_path / "plain")
    source, given = open_source(tmp_path / "plain"), passages()
    monkeypatch.setattr(layer_module, "fit", lambda weight, hessian, how: (weight, weight))
    monkeypatch.setattr(
        layer_module,
        "channel_scales",
        lambda weights, hessians, magnitude, grid: torch.rand(magnitude.shape, generator=generator) + 0.5,
    )
    generator = torch.Generator().manual_seed(5)
    lanes = source.config.lanes.count
    x_SNW = torch.randn(sum(len(one.token_ids_T) for one in given), lanes, 64, generator=generator)
    ids_S = torch.cat([one.token_ids_T for one in given])
    outputs = []
    single = source.frame.single_pass
    first_SN = first_lane(x_SNW[None])[0]
    for method in ("round", "awq"):
        pre_SN = first_SN.clone() if single else None
        how = How(method=method, grid=Unrounded(bits=8, group=16), rows=None, room=1)
        state = x_SNW.clone()
        with torch.no_grad():
            for number in range(source.config.layers):
                work = Work(block=source.block(number), layer=number, how=how, emit=lambda *given: None,
                            pre_SN=pre_SN)  # fmt: skip
                memory_pass(work, _each(source, given, state))
                attention_pass(work, _each(source, given, state))
                experts_pass(work, source, state, ids_S)
        outputs.append(state)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)
    frame_core = load_core(tmp_path / "plain")
    with torch.no_grad():  # and the pass by parts is the model's own
        expected = []
        for state, shifts, frame in _each(source, given, x_SNW):
            now, pre = state[None], first_lane(state[None]) if single else None
            for block in frame_core.blocks:
                now, *_, pre = block(now, shifts, frame, pre)
            expected.append(now[0])
    assert torch.allclose(outputs[0], torch.cat(expected), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [V3, FUSED], ids=["v3", "v41's forms"])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(config, tmp_path, monkeypatch):
    whole, _ = made(config, tmp_path)
    options = dict(tier="q4", method="gptq", passages=passages())
    with monkeypatch.context() as patch:  # in the middle of the second block, its states half rewritten

        def killed(work, *rest):
            if work.layer == 1:
                raise KeyboardInterrupt
            experts_pass(work, *rest)

        patch.setattr(run_module, "experts_pass", killed)
        with pytest.raises(KeyboardInterrupt):
            quantize(tmp_path / "plain", tmp_path / "again", **options)
    assert not (tmp_path / "again" / "config.json").exists()
    with pytest.raises(InputError, match="other settings .method gptq"):
        quantize(tmp_path / "plain", tmp_path / "again", **{**options, "method": "awq"})
    lines = []
    quantize(tmp_path / "plain", tmp_path / "again", told=lines.append, **options)
    assert "going on after block 1" in lines[0] and len(lines) == config.layers
    files = sorted(path.name for path in whole.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert all((whole / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_experts_one_at_a_time_are_the_same(tmp_path):
    saved(V3, tmp_path / "plain")
    for memory, name in ((4e9, "many"), (None, "few")):
        memory = memory or least(tmp_path / "plain")
        quantize(tmp_path / "plain", tmp_path / name, tier="q4", method="gptq", passages=passages(), memory=memory)
    ids = torch.arange(24)[None]
    assert torch.equal(logits(load_core(tmp_path / "many"), ids), logits(load_core(tmp_path / "few"), ids))


def least(folder):
    """What the error asks for, in bytes, one percent above."""
    with pytest.raises(InputError, match="one block and one expert") as caught:
        quantize(folder, folder / "x", tier="q4", method="gptq", passages=passages(), memory=1.0)
    return 1.01e9 * float(str(caught.value).split(" take ")[1].split(" GB")[0])


def test_on_a_real_layer_of_nano_the_methods_are_ordered_and_bits_help():
    source = open_source(asset("nano"))
    ids = [[*range(300 + 40 * row, 340 + 40 * row)] for row in range(12)]
    given = [Passage(token_ids_T=torch.tensor(row)) for row in ids]
    core_ids = torch.cat([one.token_ids_T for one in given])
    errors = {}
    with torch.no_grad():
        table = source.read("embedding.weight")
        start = torch.cat([source.frame._lanes(table[one.token_ids_T][None])[0] for one in given])
        for bits in (4, 8):
            for method in ("round", "awq", "gptq"):
                how = How(method=method, grid=Grid(bits=bits, group=64), rows=None, room=10**9)
                work = Work(block=source.block(0), layer=0, how=how, emit=lambda *given: None)
                state = start.clone()
                attention_pass(work, _each(source, given, state))
                experts_pass(work, source, state, core_ids)
                errors[bits, method] = work.errors
    for bits in (4, 8):
        total = {method: sum(errors[bits, method].values()) for method in ("round", "awq", "gptq")}
        assert total["gptq"] <= total["awq"] <= total["round"], (bits, total)
        for name in ("attention.query_up.weight", "experts.shared_in.weight", "experts.experts_in"):
            one = {method: errors[bits, method][name] for method in total}
            assert one["gptq"] <= one["awq"] <= one["round"], (bits, name, one)
    for method in ("round", "awq", "gptq"):
        assert all(errors[8, method][name] < errors[4, method][name] / 20 for name in errors[8, method])


def test_what_cannot_be_quantised_is_said(tmp_path):
    out, _ = made(V3, tmp_path)
    for change, words in (
        ({"tier": "q5"}, "unknown tier 'q5'"),
        ({"method": "gptk"}, "did you mean 'gptq'"),
        ({"passages": []}, "at least one passage"),
    ):
        options = {"tier": "q4", "method": "gptq", "passages": passages(), **change}
        with pytest.raises(InputError, match=words):
            quantize(tmp_path / "plain", tmp_path / "new", **options)
    with pytest.raises(InputError, match="quantised already"):
        quantize(out, tmp_path / "twice", tier="q4", method="gptq", passages=passages())
    with pytest.raises(InputError, match="holds a model already"):
        quantize(tmp_path / "plain", out, tier="q4", method="gptq", passages=passages())


def test_the_table_of_tiers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "lite_shaped", lambda folder: (saved(V3, folder), folder)[1])
    assert main(["eval", "tiers", "--model", "lite-shaped", "--limit", "4", "--out", str(tmp_path / "out.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(one["tier"], one["method"]) for one in lines[:4]] == [
        ("bf16", "–"), ("q8", "gptq"), ("q8", "awq"), ("q8", "round"),
    ]  # fmt: skip
    by_tier = {(one["tier"], one["method"]): one for one in lines}
    assert by_tier["q4", "gptq"]["divergence"] < by_tier["q4", "round"]["divergence"]
    assert by_tier["q8", "round"]["divergence"] < by_tier["q4", "round"]["divergence"] / 10
    assert by_tier["q4", "awq"]["megabytes"] < by_tier["q8", "awq"]["megabytes"]
    assert "Q4 within 3 to 6" in capsys.readouterr().out
    assert main(["eval", "tiers", "--limit", "4"]) == 2
    assert "name that folder" in capsys.readouterr().err


def test_the_command_quantises_and_a_model_of_ours_is_named_like_any(tmp_path, capsys):
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(asset("nano") / "tokenizer.json")
    Model.fresh(tokenizer, size="micro", keep=()).save(
        tmp_path / "micro", policy=eight_bits, about={"name": "micro", "size": "micro"}
    )
    (tmp_path / "text.txt").write_text("a red heart icon in a circle\nwhat is a heron, and what is it not\n")
    given = ["quantize", str(tmp_path / "micro"), "-o", str(tmp_path / "q8"), "--tier", "q8", "--group", "8"]
    assert main([*given, "--text", str(tmp_path / "text.txt")]) == 0
    assert "bits a quantised weight" in capsys.readouterr().out
    ids = torch.arange(20)[None]
    before, after = (logits(Model.load(tmp_path / name).core, ids) for name in ("micro", "q8"))
    assert not torch.equal(before, after) and (before - after).abs().max() < 0.1 * before.abs().max()
    assert main([*given[:-1], "0"]) == 2 and "--group must be above zero" in capsys.readouterr().err
