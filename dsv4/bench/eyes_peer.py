"""transformers' port of DeepEncoder, filled with the weights of one of ours: the oracle of tests and benchmarks.

Source: transformers, `models/unlimited_ocr` (the same encoder under another name).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vision import DeepEncoder

_SAM_NAMES = (
    (r"^sam\.", "sam_encoder."),
    (r"\.blocks\.(\d+)\.", r".layers.\1."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.mlp\.fc", ".mlp.lin"),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
)
_CLIP_FRONT = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
}
_CLIP_NAMES = (("attn.", "self_attn."), ("ln_", "layer_norm"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"))


def peer_of(encoder: DeepEncoder) -> nn.Module:
    """The port with the same sizes and the same weights; its `last_hidden_state` is what our `features` gives."""
    import torch
    from transformers import UnlimitedOcrVisionConfig, UnlimitedOcrVisionModel

    settings: Any = UnlimitedOcrVisionConfig(sam_config=_sam(encoder), encoder_config=_clip(encoder))
    settings._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = UnlimitedOcrVisionModel(settings)
    mapped = {new: value for key, tensor in encoder.state_dict().items() for new, value in _theirs(key, tensor)}
    model.load_state_dict(mapped, assign=True)
    for name, value in model.named_buffers():
        if value.is_meta:  # the numbers of positions are made when the model is, and no part of the weights
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], torch.arange(value.numel()).view(value.shape))
    return model.eval()


def _sam(encoder: DeepEncoder) -> dict[str, Any]:
    config = encoder.config
    return {
        "hidden_size": config.sam_width,
        "output_channels": config.neck,
        "num_hidden_layers": config.sam_layers,
        "num_attention_heads": config.sam_heads,
        "image_size": config.native,
        "window_size": config.sam_window,
        "global_attn_indexes": list(config.sam_global),
        "mlp_dim": 4 * config.sam_width,
        "downsample_channels": [config.middle, config.clip_width],
    }


def _clip(encoder: DeepEncoder) -> dict[str, Any]:
    config = encoder.config
    return {
        "hidden_size": config.clip_width,
        "intermediate_size": 4 * config.clip_width,
        "patch_size": 14,
        "num_hidden_layers": config.clip_layers,
        "num_attention_heads": config.clip_heads,
        "image_size": 14 * config.native // 64,
    }


def _theirs(key: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """The port's names for one of our tensors; nothing for what stands behind its output."""
    if key.startswith("sam."):
        for pattern, new in _SAM_NAMES:
            key = re.sub(pattern, new, key)
        return [(key, tensor)]
    if key.startswith("net_"):
        return [(f"sam_encoder.proj.conv{1 if key[4] == '2' else 2}.weight", tensor)]
    if not key.startswith("clip."):
        return []
    key = key.removeprefix("clip.")
    if key in _CLIP_FRONT:
        return [(f"vision_encoder.{_CLIP_FRONT[key]}", tensor)]
    number, rest = key.removeprefix("transformer.resblocks.").split(".", 1)
    base = f"vision_encoder.encoder.layers.{number}."
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        return [(f"{base}self_attn.{q}_proj.{kind}", part) for q, part in zip("qkv", tensor.chunk(3), strict=True)]
    for old, new in _CLIP_NAMES:
        rest = rest.replace(old, new)
    return [(base + rest, tensor)]
