"""DeepSeek-OCR's checkpoint layout, generated: names and shapes of every tensor, and random checkpoints in it.

Source: the header of the released file: 2710 tensors, 3,336,106,240 parameters.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from vision import DeepEncoderConfig

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Language:
    """Sizes of the language part: plain attention, one dense layer, then mixtures of experts."""

    width: int = 1280
    layers: int = 12
    vocabulary: int = 129_280
    dense: int = 6848
    experts: int = 64
    expert: int = 896
    shared: int = 1792


TINY_EYES = DeepEncoderConfig(
    native=256, sam_width=64, sam_layers=3, sam_heads=1, sam_window=7, sam_global=(1,), neck=16, middle=32,
    clip_width=64, clip_layers=2, clip_heads=1, out_dim=24,
)  # fmt: skip
TINY_LANGUAGE = Language(width=24, layers=2, vocabulary=160, dense=32, experts=4, expert=8, shared=16)


def eyes(config: DeepEncoderConfig) -> Shapes:
    """The tensors of SAM, CLIP, projector and the two vectors, under their released names."""
    width, side, head = config.sam_width, config.native // 16, config.sam_width // config.sam_heads
    found: Shapes = {"sam_model.pos_embed": (1, side, side, width)}
    found |= {"sam_model.patch_embed.proj.weight": (width, 3, 16, 16), "sam_model.patch_embed.proj.bias": (width,)}
    for layer in range(config.sam_layers):
        base = f"sam_model.blocks.{layer}"
        reach = side if layer in config.sam_global else config.sam_window
        found |= {f"{base}.norm{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")}
        found |= {f"{base}.attn.rel_pos_{axis}": (2 * reach - 1, head) for axis in "hw"}
        found |= _linear(f"{base}.attn.qkv", 3 * width, width) | _linear(f"{base}.attn.proj", width, width)
        found |= _linear(f"{base}.mlp.lin1", 4 * width, width) | _linear(f"{base}.mlp.lin2", width, 4 * width)
    neck = config.neck
    found |= {"sam_model.neck.0.weight": (neck, width, 1, 1), "sam_model.neck.2.weight": (neck, neck, 3, 3)}
    found |= {f"sam_model.neck.{n}.{kind}": (neck,) for n in (1, 3) for kind in ("weight", "bias")}
    found["sam_model.net_2.weight"] = (config.middle, neck, 3, 3)
    found["sam_model.net_3.weight"] = (config.clip_width, config.middle, 3, 3)
    width, cells = config.clip_width, config.native // 64
    found |= {"vision_model.embeddings.class_embedding": (width,)}
    found |= {"vision_model.embeddings.position_embedding.weight": (cells**2 + 1, width)}
    found |= {"vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14)}
    found |= {f"vision_model.pre_layrnorm.{kind}": (width,) for kind in ("weight", "bias")}
    for layer in range(config.clip_layers):
        base = f"vision_model.transformer.layers.{layer}"
        found |= {f"{base}.layer_norm{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")}
        found |= _linear(f"{base}.self_attn.qkv_proj", 3 * width, width)
        found |= _linear(f"{base}.self_attn.out_proj", width, width)
        found |= _linear(f"{base}.mlp.fc1", 4 * width, width) | _linear(f"{base}.mlp.fc2", width, 4 * width)
    found |= _linear("projector.layers", config.out_dim, 2 * width)
    found |= {"image_newline": (config.out_dim,), "view_seperator": (config.out_dim,)}
    return {f"model.{name}": shape for name, shape in found.items()}


def language(sizes: Language) -> Shapes:
    """The tensors of the language part; head and embedding are not tied."""
    width = sizes.width
    found: Shapes = {"model.embed_tokens.weight": (sizes.vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(sizes.layers):
        base = f"model.layers.{layer}"
        found |= {f"{base}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
        found |= {f"{base}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        if layer == 0:
            found |= _gated(f"{base}.mlp", sizes.dense, width)
            continue
        found[f"{base}.mlp.gate.weight"] = (sizes.experts, width)
        found |= _gated(f"{base}.mlp.shared_experts", sizes.shared, width)
        for expert in range(sizes.experts):
            found |= _gated(f"{base}.mlp.experts.{expert}", sizes.expert, width)
    return {**found, "lm_head.weight": (sizes.vocabulary, width)}


def manifest(config: DeepEncoderConfig, sizes: Language) -> Shapes:
    """Every tensor of a checkpoint of these sizes."""
    return {**eyes(config), **language(sizes)}


def random_tensors(shapes: Shapes, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Values for every name, with relative positions and biases that matter."""
    chance = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        scale = 0.3 if "pos" in name or name.endswith("bias") else max(1, shape[-1]) ** -0.5
        value = torch.randn(shape, generator=chance) * scale
        made[name] = value + 1 if "norm" in name and name.endswith("weight") else value
    return made


def write(folder: Path, tensors: dict[str, torch.Tensor], *, shards: int = 1, settings: dict | None = None) -> Path:
    """A checkpoint folder: shards with an index, or with `shards` 0 one plain file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    names, places = list(tensors), {}
    if not shards:
        plain = {name: value.contiguous() for name, value in tensors.items()}
        save_file(plain, folder / "model.safetensors", {"format": "pt"})
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:06d}.safetensors"
        mine = {name: tensors[name].contiguous() for name in names[shard::shards]}
        save_file(mine, folder / file, {"format": "pt"})
        places |= dict.fromkeys(mine, file)
    if shards:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text(json.dumps(settings or {}))
    return folder


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _gated(name: str, inner: int, width: int) -> Shapes:
    up = {f"{name}.{kind}_proj.weight": (inner, width) for kind in ("gate", "up")}
    return {**up, f"{name}.down_proj.weight": (width, inner)}
