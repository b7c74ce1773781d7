"""The encoder against an independent one, with each known trap put in on purpose; training and inference agree."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from dsv4.bench.eyes_peer import peer_of
from vision import DeepEncoder, DeepEncoderConfig, deepencoder, prepare

LIMIT = 3e-6
SMALL = DeepEncoderConfig(
    native=256, sam_width=64, sam_layers=3, sam_heads=1, sam_window=7, sam_global=(1,), neck=16, middle=32,
    clip_width=64, clip_layers=3, clip_heads=2, out_dim=24,
)  # fmt: skip


def randomised(config: DeepEncoderConfig) -> DeepEncoder:
    """Weights under which every table and every epsilon counts."""
    torch.manual_seed(0)
    made = DeepEncoder(config).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "pos" in name or "bias" in name:
            parameter.normal_(std=0.3)
    # A small stream makes the epsilon of SAM's norms matter, as it does in released weights.
    made.sam.pos_embed.mul_(0.1)
    made.sam.patch_embed.proj.weight.mul_(0.05)
    made.sam.patch_embed.proj.bias.mul_(0.05)
    return made


@pytest.fixture(scope="module")
def encoder() -> DeepEncoder:
    return randomised(SMALL)


@pytest.fixture(scope="module")
def oracle(encoder) -> nn.Module:
    """transformers' port of the same network, holding the same weights under its own names."""
    return peer_of(encoder)


def features(encoder: DeepEncoder, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.features(pixels)


def gap(encoder: DeepEncoder, oracle: nn.Module, *size: int) -> float:
    height, width = size if len(size) == 2 else (*size, *size)
    pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    with torch.inference_mode():
        wanted = oracle(pixels).last_hidden_state
    return float((features(encoder, pixels) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("size", [(256,), (320,), (512,), (640,), (128, 448), (448, 320)])
def test_features_equal_the_independent_encoders(encoder, oracle, size):
    assert gap(encoder, oracle, *size) <= LIMIT


def test_features_equal_at_the_published_width():
    """Two layers of each trunk as wide as the released ones, at the sides of the modes."""
    wide = dataclasses.replace(DeepEncoderConfig.full(), sam_layers=2, sam_global=(1,), clip_layers=2)
    encoder = randomised(wide)
    oracle = peer_of(encoder)
    for height, width in ((512, 512), (640, 640), (1024, 1024), (1280, 320)):
        pixels = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            wanted = oracle(pixels).last_hidden_state
        apart = (features(encoder, pixels) - wanted).norm() / wanted.norm()
        assert apart <= LIMIT, (height, width)


def test_features_of_the_other_order_are_found_out(encoder, oracle, monkeypatch):
    class Swapping:
        def __getattr__(self, name):
            return getattr(torch, name)

        def cat(self, parts, dim=0):
            return torch.cat(parts[::-1] if dim == -1 else parts, dim=dim)

    monkeypatch.setattr(deepencoder, "torch", Swapping())
    assert gap(encoder, oracle, 256) > 100 * LIMIT


def test_sam_with_clips_gelu_is_found_out(encoder, oracle, monkeypatch):
    from open_clip.transformer import QuickGELU

    for block in encoder.sam.blocks:
        monkeypatch.setitem(block.mlp._modules, "act", QuickGELU())
    assert gap(encoder, oracle, 256) > 100 * LIMIT


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


def test_relative_positions_count(encoder, oracle, monkeypatch):
    attention = encoder.sam.blocks[1].attn
    monkeypatch.setitem(attention._parameters, "rel_pos_h", nn.Parameter(torch.zeros_like(attention.rel_pos_h)))
    assert gap(encoder, oracle, 256) > 100 * LIMIT


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
