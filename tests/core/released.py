"""Small models of the released families with random weights, as transformers builds them, and how to compare with them.

A choice of the best k is not determined where the k-th and the next score are equal (exact zeros are common behind a
ReLU) or nearer than rounding: such places, and all after them, are left out of a comparison, and counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    DeepseekV4Config,
    DeepseekV4ForCausalLM,
    DeepseekV32Config,
    DeepseekV32ForCausalLM,
)
from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2TextModel

from dsv4.core.model import LanguageCore

LATENT = dict(
    vocab_size=256, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, n_shared_experts=2, n_routed_experts=8, kv_lora_rank=32,
    qk_rope_head_dim=16, v_head_dim=24, qk_nope_head_dim=20, num_experts_per_tok=3, first_k_dense_replace=1,
    max_position_embeddings=2560, attn_implementation="eager",
)  # fmt: skip
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=40.0, original_max_position_embeddings=64, beta_fast=32,
            beta_slow=1)  # fmt: skip
V4 = dict(
    vocab_size=256, hidden_size=64, moe_intermediate_size=32, num_hidden_layers=5, num_attention_heads=4,
    num_key_value_heads=1, head_dim=32, q_lora_rank=48, num_experts_per_tok=2, n_routed_experts=8, n_shared_experts=1,
    max_position_embeddings=512, layer_types=["sliding_attention"] * 2 + ["compressed_sparse_attention",
    "heavily_compressed_attention", "compressed_sparse_attention"], mlp_layer_types=["hash_moe"] + ["moe"] * 4,
    compress_rates={"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}, partial_rotary_factor=0.5,
    sliding_window=8, o_groups=2, o_lora_rank=16, index_n_heads=16, index_head_dim=32, index_topk=3, hc_mult=4,
    rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32,
    "beta_slow": 1},
)  # fmt: skip


def v2(**changes: Any) -> nn.Module:
    rope = {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707}
    given = {"q_lora_rank": None, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "rope_parameters": rope}
    return DeepseekV2ForCausalLM(DeepseekV2Config(**{**LATENT, **given, **changes}))


def v3(**changes: Any) -> nn.Module:
    rope = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
    given = {"q_lora_rank": 48, "n_group": 4, "topk_group": 2, "rope_parameters": rope}
    return DeepseekV3ForCausalLM(DeepseekV3Config(**{**LATENT, **given, **changes}))


def v32(**changes: Any) -> nn.Module:
    given = {"q_lora_rank": 48, "n_group": 2, "topk_group": 1, "index_topk": 8, "index_head_dim": 32}
    return DeepseekV32ForCausalLM(DeepseekV32Config(**{**LATENT, **given, "index_n_heads": 16, **changes}))


def v4(**changes: Any) -> nn.Module:
    model = DeepseekV4ForCausalLM(DeepseekV4Config(**{**V4, **changes}))
    model.config._attn_implementation = "eager"
    return model


FAMILIES = {
    "V2-Lite": v2,
    "V2, groups": lambda: v2(q_lora_rank=48, topk_method="group_limited_greedy", n_group=4, topk_group=2),
    "V3": v3,
    "Moonlight": lambda: v3(q_lora_rank=None, n_group=1, topk_group=1, rms_norm_eps=1e-5, rope_parameters=None),
    "V3.2": v32,
    "V3.2, yarn": lambda: v32(rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}),
    "V4": v4,
    "V4, tiny eps": lambda: v4(rms_norm_eps=1e-20, swiglu_limit=0.5),
}


def randomise(model: nn.Module, seed: int, *, loud: float = 1.0) -> nn.Module:
    """Every parameter and buffer away from its start; `loud` multiplies the embeddings."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                start = 1.0 if "norm" in name and not name.endswith("bias") else 0.0
                parameter.copy_(start + 0.3 * noise(parameter))
            else:
                parameter.copy_(noise(parameter) * parameter.shape[-1] ** -0.5)
        model.get_input_embeddings().weight.mul_(8 * loud)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.1 * noise(buffer))
            elif name.endswith("tid2eid"):
                order = torch.rand(buffer.shape[0], 8, generator=generator).argsort(-1)
                buffer.copy_(order[:, : buffer.shape[1]])
    return model.eval()


def save_ocr(folder: Path, seed: int) -> tuple[nn.Module, Tensor]:
    """A folder as DeepSeek-OCR's: eyes beside a language part of ordinary attention; the peer and its head."""
    given = dict(vocab_size=256, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=3,
                 num_attention_heads=4, num_key_value_heads=4, n_shared_experts=2, n_routed_experts=8,
                 num_experts_per_tok=3, max_position_embeddings=512)  # fmt: skip
    kinds = ["dense", "sparse", "sparse"]
    config = DeepseekOcr2TextConfig(**given, mlp_layer_types=kinds, attn_implementation="eager")
    peer = randomise(DeepseekOcr2TextModel(config), seed)
    head_VD = torch.randn(256, 64, generator=torch.Generator().manual_seed(seed)) / 8
    tensors = {"lm_head.weight": head_VD, "model.sam_model.patch_embed.proj.weight": torch.zeros(3),
               "model.image_newline": torch.zeros(3), "model.view_seperator": torch.zeros(3)}  # fmt: skip
    for name, tensor in peer.state_dict().items():
        if name.endswith("experts.gate_up_proj"):
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                stem = f"model.{name.removesuffix('gate_up_proj')}{expert}."
                tensors |= {stem + "gate_proj.weight": gate.clone(), stem + "up_proj.weight": up.clone()}
        elif name.endswith("experts.down_proj"):
            for expert, down in enumerate(tensor):
                tensors[f"model.{name.removesuffix('down_proj')}{expert}.down_proj.weight"] = down.clone()
        elif "inv_freq" not in name:
            tensors[f"model.{name}"] = tensor.clone()
    folder.mkdir()
    save_file(tensors, folder / "model-00001-of-000001.safetensors")
    inner = {**given, "use_mla": False, "first_k_dense_replace": 1, "kv_lora_rank": None, "q_lora_rank": None,
             "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "topk_method": "greedy", "n_group": 1,
             "topk_group": 1, "rm_head": False, "lm_head": True, "torch_dtype": "float32"}  # fmt: skip
    whole = {"model_type": "DeepseekOCR", "language_config": inner, "vision_config": {"width": 1}}
    (folder / "config.json").write_text(json.dumps(whole))
    return peer, head_VD


class NearTies:
    """Notes at which places a choice of the best k hangs on less than rounding, in all layers of a forward pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flags: list[Tensor] = []
        from dsv4.core import compressed, reading

        for module in (reading, compressed):
            monkeypatch.setattr(module, "choose", self._spy(module.choose))

    def _spy(self, choose: Any) -> Any:
        def spied(scores_BQS: Tensor, seen_BQS: Tensor, k: int) -> Tensor:
            if scores_BQS.shape[-1] > k:
                top = scores_BQS.masked_fill(~seen_BQS, float("-inf")).topk(k + 1, -1).values
                near = (top[..., k - 1] - top[..., k]) < 1e-5 * top[..., 0].abs().clamp_min(1.0)
                self.flags.append(near & torch.isfinite(top[..., k]))
            return choose(scores_BQS, seen_BQS, k)

        return spied

    def clear_BT(self, batch: int, length: int) -> Tensor:
        """Places before which, and at which, nothing was near a tie. For whole passes in one tile."""
        hit_BT = torch.zeros(batch, length, dtype=torch.bool)
        for flag in self.flags:
            hit_BT |= flag
        return ~(hit_BT.cumsum(-1) > 0)


def relative(found: Tensor, expected: Tensor, clear_BT: Tensor) -> float:
    """Largest difference over the largest expected number, where the comparison is determined."""
    return ((found - expected).abs().amax(-1)[clear_BT].max() / expected.abs().max()).item()


def cached(core: LanguageCore, ids_BT: Tensor, chunks: tuple[int, ...], **options: Any) -> Tensor:
    """Logits of a row read in these chunks, the rest token by token."""
    cache, start, parts = core.new_cache(ids_BT.shape[0], ids_BT.shape[1], **options), 0, []
    while start < ids_BT.shape[1]:
        size = chunks[len(parts)] if len(parts) < len(chunks) else 1
        with torch.no_grad():
            parts.append(core(ids_BT[:, start : start + size], cache=cache).logits_BTV)
        start += size
    return torch.cat(parts, 1)
