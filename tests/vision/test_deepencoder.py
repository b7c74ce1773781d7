"""The encoder against an independent one, with each known trap put in on purpose; training and inference agree."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from vision import DeepEncoder, DeepEncoderConfig, prepare

LIMIT = 3e-6
SMALL = DeepEncoderConfig(
    native=256, sam_width=64, sam_layers=3, sam_heads=1, sam_window=7, sam_global=(1,), neck=16, middle=32,
    clip_width=64, clip_layers=3, clip_heads=2, out_dim=24,
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> DeepEncoder:
    torch.manual_seed(0)
    made = DeepEncoder(SMALL).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "pos" in name or "bias" in name:
            parameter.normal_(std=0.3)
    # A small stream makes the epsilon of SAM's norms matter, as it does in released weights.
    made.sam.pos_embed.mul_(0.1)
    made.sam.patch_embed.proj.weight.mul_(0.05)
    made.sam.patch_embed.proj.bias.mul_(0.05)
    return made


@pytest.fixture(scope="module")
def oracle(encoder) -> nn.Module:
    """transformers' port of the same network, holding the same weights under its own names."""
    from transformers.models.unlimited_ocr.configuration_unlimited_ocr import UnlimitedOcrVisionConfig
    from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrVisionModel

    sam = {
        "hidden_size": SMALL.sam_width, "output_channels": SMALL.neck, "num_hidden_layers": SMALL.sam_layers,
        "num_attention_heads": SMALL.sam_heads, "image_size": SMALL.native, "window_size": SMALL.sam_window,
        "global_attn_indexes": list(SMALL.sam_global), "mlp_dim": 4 * SMALL.sam_width,
        "downsample_channels": [SMALL.middle, SMALL.clip_width],
    }  # fmt: skip
    clip = {
        "hidden_size": SMALL.clip_width, "intermediate_size": 4 * SMALL.clip_width, "patch_size": 14,
        "num_hidden_layers": SMALL.clip_layers, "num_attention_heads": SMALL.clip_heads,
        "image_size": 14 * SMALL.native // 64,
    }  # fmt: skip
    model = UnlimitedOcrVisionModel(UnlimitedOcrVisionConfig(sam_config=sam, encoder_config=clip)).eval()
    mapped = {new: value for key, tensor in encoder.state_dict().items() for new, value in _theirs(key, tensor)}
    told = model.load_state_dict(mapped, strict=False)
    assert not told.unexpected_keys and not told.missing_keys
    return model


def _theirs(key: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The oracle's names for one of our tensors; nothing for what stands behind its output."""
    if key.startswith("sam."):
        names = [
            (r"^sam\.", "sam_encoder."), (r"\.blocks\.(\d+)\.", r".layers.\1."), (r"\.norm([12])\.", r".layer_norm\1."),
            (r"\.mlp\.fc", ".mlp.lin"), (r"patch_embed\.proj\.", "patch_embed.projection."),
            (r"neck\.0\.", "neck.conv1."), (r"neck\.1\.", "neck.layer_norm1."), (r"neck\.2\.", "neck.conv2."),
            (r"neck\.3\.", "neck.layer_norm2."),
        ]  # fmt: skip
        for pattern, new in names:
            key = re.sub(pattern, new, key)
        return [(key, tensor)]
    if key.startswith("net_"):
        return [(f"sam_encoder.proj.conv{1 if key[4] == '2' else 2}.weight", tensor)]
    if not key.startswith("clip."):
        return []
    key = key.removeprefix("clip.")
    front = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_pre.weight": "pre_layrnorm.weight",
        "ln_pre.bias": "pre_layrnorm.bias",
    }
    if key in front:
        return [(f"vision_encoder.{front[key]}", tensor)]
    number, rest = re.match(r"transformer\.resblocks\.(\d+)\.(.*)", key).groups()
    base = f"vision_encoder.encoder.layers.{number}."
    if rest.startswith("attn.in_proj_"):
        return [(f"{base}self_attn.{q}_proj.{rest[13:]}", part) for q, part in zip("qkv", tensor.chunk(3), strict=True)]
    for old, new in (
        ("attn.", "self_attn."),
        ("ln_", "layer_norm"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    ):
        rest = rest.replace(old, new)
    return [(base + rest, tensor)]


def features(encoder: DeepEncoder, pixels: torch.Tensor) -> torch.Tensor:
    """What stands in front of the projector: the part that the oracle has."""
    kept = []
    hook = encoder.projector.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    with torch.inference_mode():
        encoder.grid(pixels)
    hook.remove()
    return kept[0]


def gap(encoder: DeepEncoder, oracle: nn.Module, side: int) -> float:
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        wanted = oracle(pixels).last_hidden_state
    return float((features(encoder, pixels) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("side", [256, 320, 512])
def test_features_equal_the_independent_encoders(encoder, oracle, side):
    assert gap(encoder, oracle, side) <= LIMIT


def test_sam_with_the_usual_epsilon_is_found_out(encoder, oracle, monkeypatch):
    for block in encoder.sam.blocks:
        for norm in (block.norm1, block.norm2):
            monkeypatch.setattr(norm, "eps", 1e-5)
    assert gap(encoder, oracle, 256) > LIMIT


def test_clip_with_the_exact_gelu_is_found_out(encoder, oracle, monkeypatch):
    for block in encoder.clip.transformer.resblocks:
        monkeypatch.setitem(block.mlp._modules, "gelu", nn.GELU())
    assert gap(encoder, oracle, 256) > 100 * LIMIT


def test_position_tables_without_antialias_are_found_out(encoder, oracle, monkeypatch):
    plain = F.interpolate

    def jagged(given, *args, **options):
        return plain(given, *args, **{key: value for key, value in options.items() if key != "antialias"})

    pixels = torch.randn(1, 3, 128, 128)  # smaller than native: only then antialiasing has anything to do
    with torch.inference_mode():
        wanted = oracle(pixels).last_hidden_state
    assert (features(encoder, pixels) - wanted).norm() / wanted.norm() <= LIMIT
    monkeypatch.setattr(F, "interpolate", jagged)
    assert (features(encoder, pixels) - wanted).norm() / wanted.norm() > 100 * LIMIT


def test_relative_positions_count(encoder, oracle):
    kept = encoder.sam.blocks[1].attn.rel_pos_h.clone()
    encoder.sam.blocks[1].attn.rel_pos_h.zero_()
    without = gap(encoder, oracle, 256)
    encoder.sam.blocks[1].attn.rel_pos_h.copy_(kept)
    assert without > 100 * LIMIT


def test_training_reads_what_inference_reads():
    torch.manual_seed(0)
    encoder = DeepEncoder(DeepEncoderConfig.micro()).eval()
    picture = Image.effect_noise((90, 70), 80).convert("RGB")
    views = prepare(picture, "tiny")
    with torch.inference_mode():
        alone = encoder(views)
        batch = encoder.sequence(torch.cat([torch.zeros_like(views.whole_13SS), views.whole_13SS]))
    torch.testing.assert_close(batch[1], alone, atol=1e-5, rtol=1e-4)


def test_a_fresh_encoder_learns_everywhere_and_speaks_at_the_cores_size():
    torch.manual_seed(0)
    encoder = DeepEncoder(DeepEncoderConfig.micro())
    out = encoder.sequence(torch.rand(1, 3, 512, 512) * 2 - 1)
    assert out.shape == (1, 73, 64)
    lengths = out.detach().norm(dim=-1)
    assert 0.3 < float(lengths.min()) and float(lengths.max()) < 4
    (out * torch.randn_like(out)).sum().backward()
    still = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize(("name", "millions"), [("nano", 7.515), ("full", 400.77), ("micro", 0.224)])
def test_sizes(name, millions):
    with torch.device("meta"):
        encoder = DeepEncoder(getattr(DeepEncoderConfig, name)())
    assert encoder.num_parameters() / 1e6 == pytest.approx(millions, abs=0.005)


def test_configs_are_closed_and_come_back():
    config = DeepEncoderConfig.nano(out_dim=96)
    assert DeepEncoderConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="did you mean 'clip_width'"):
        DeepEncoderConfig.from_dict({**config.to_dict(), "clip_widht": 1})
    with pytest.raises(ValueError, match="lacks neck"):
        DeepEncoderConfig.from_dict({key: value for key, value in config.to_dict().items() if key != "neck"})
    with pytest.raises(ValueError, match="names layer 9"):
        dataclasses.replace(config, sam_global=(9,))


def test_pixels_of_a_wrong_shape_are_refused(encoder):
    with pytest.raises(ValueError, match="in steps of 64"):
        encoder.sequence(torch.zeros(1, 3, 100, 128))


def test_importing_the_package_loads_no_torch():
    code = "import sys, vision; vision.MODES; vision.open_picture; print('torch' in sys.modules, 'PIL' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]
