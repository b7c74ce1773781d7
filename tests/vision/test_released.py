"""Released layouts: every tensor finds its place, and an independent reader of the same file sees the same."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests import ocr_layout
from tests.ocr_layout import TINY_EYES, TINY_LANGUAGE
from vision import DeepEncoder, DeepEncoderConfig, get_mode
from vision.released import config_of, our_name
from vision.views import Views

LIMIT = 3e-6


def test_the_manifest_is_the_released_one_and_every_tensor_has_its_place():
    whole = ocr_layout.manifest(DeepEncoderConfig.full(), ocr_layout.Language())
    assert (len(whole), sum(math.prod(shape) for shape in whole.values())) == (2710, 3_336_106_240)
    dropped = [name for name in ocr_layout.eyes(DeepEncoderConfig.full()) if our_name(name) is None]
    assert dropped == ["model.vision_model.embeddings.patch_embedding.weight"]
    mapped = {ours: shape for name, shape in whole.items() if (ours := our_name(name)) is not None}
    assert config_of(mapped) == DeepEncoderConfig.full()
    with torch.device("meta"):
        encoder = DeepEncoder(DeepEncoderConfig.full())
    assert mapped == {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


def test_full_sizes_are_told_by_the_published_settings_too():
    told = {"vision_config": {"width": {"clip-l-14-224": {"heads": 16}, "sam_vit_b": {"global_attn_indexes": [1]}}}}
    shapes = {ours: shape for name, shape in ocr_layout.eyes(TINY_EYES).items() if (ours := our_name(name))}
    assert config_of(shapes, told) == dataclasses.replace(TINY_EYES, clip_heads=16)


@pytest.fixture(scope="module")
def tensors():
    return ocr_layout.random_tensors(ocr_layout.manifest(TINY_EYES, TINY_LANGUAGE))


@pytest.fixture(scope="module")
def folder(tensors, tmp_path_factory):
    return ocr_layout.write(tmp_path_factory.mktemp("released"), tensors)


def test_shards_bare_names_and_types_load_alike(tensors, folder, tmp_path):
    plain = DeepEncoder.from_pretrained(folder)
    assert not plain.training and plain.config == TINY_EYES and plain.projector.weight.dtype == torch.float32
    sharded = DeepEncoder.from_pretrained(ocr_layout.write(tmp_path / "shards", tensors, shards=3))
    alone = {name.removeprefix("model."): value for name, value in tensors.items() if our_name(name)}
    bare = DeepEncoder.from_pretrained(ocr_layout.write(tmp_path / "bare", alone, shards=0))
    for other in (sharded, bare):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in plain.state_dict().items())
    half = DeepEncoder.from_pretrained(folder, dtype=torch.bfloat16)
    pixels = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        fine, coarse = plain.sequence(pixels), half.sequence(pixels)
    assert coarse.dtype == torch.bfloat16
    assert (coarse.float() - fine).norm() / fine.norm() < 0.05


@pytest.mark.parametrize("side", [256, 320, 512, 640])
def test_whole_sequences_equal_those_of_another_reader_of_the_file(folder, side):
    """transformers reads the same file by its own table of names, and joins tiles, rows and separator by itself."""
    from transformers import UnlimitedOcrConfig, UnlimitedOcrModel

    sam = {
        "hidden_size": 64, "output_channels": 16, "num_hidden_layers": 3, "num_attention_heads": 1, "image_size": 256,
        "window_size": 7, "global_attn_indexes": [1], "mlp_dim": 256, "downsample_channels": [32, 64],
    }  # fmt: skip
    clip = {
        "hidden_size": 64, "intermediate_size": 256, "patch_size": 14, "num_hidden_layers": 2,
        "num_attention_heads": 1, "image_size": 56,
    }  # fmt: skip
    text = {
        "hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 160, "intermediate_size": 32, "n_routed_experts": 4,
        "moe_intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2, "num_experts_per_tok": 2,
    }  # fmt: skip
    settings = UnlimitedOcrConfig(vision_config={"sam_config": sam, "encoder_config": clip}, text_config=text)
    peer, told = UnlimitedOcrModel.from_pretrained(folder, config=settings, output_loading_info=True)
    assert not told["missing_keys"] and not told["mismatched_keys"]
    chance = torch.Generator().manual_seed(side)
    whole, tiles = (torch.randn(n, 3, side, side, generator=chance) for n in (1, 6))
    mode = dataclasses.replace(get_mode("gundam"), side=side, tile=side)
    views = Views(mode=mode, size=(2 * side, 3 * side), whole_13SS=whole, tiles_N3SS=tiles, grid=(2, 3))
    encoder = DeepEncoder.from_pretrained(folder)
    with torch.inference_mode():
        ours = encoder(views)
        (wanted,) = peer.get_image_features(
            whole, pixel_values_local=tiles, num_local_patches=[6], patches_grid=[[2, 3]]
        ).pooler_output
    assert ours.shape == (views.tokens, 24) == wanted.shape
    assert (ours - wanted).norm() / wanted.norm() <= LIMIT


def test_what_does_not_fit_is_named(tensors, tmp_path):
    def refused(changed, says):
        with pytest.raises(ValueError, match=says):
            DeepEncoder.from_pretrained(ocr_layout.write(tmp_path / str(len(list(tmp_path.iterdir()))), changed))

    name = "model.sam_model.blocks.0.attn.qkv.bias"
    refused({key: value for key, value in tensors.items() if key != name}, "'sam.blocks.0.attn.qkv.bias' is missing")
    refused({**tensors, name: torch.zeros(5)}, r"has shape \[5\]")
    refused({**tensors, "model.sam_model.neck.9.weight": torch.zeros(5)}, "unknown tensor 'sam.neck.9.weight'")
    refused({**tensors, "model.audio.weight": torch.zeros(5)}, "unknown tensor 'model.audio.weight'")
    refused({"lm_head.weight": torch.zeros(5)}, "not the eyes of DeepSeek-OCR")
    with pytest.raises(ValueError, match="no weights"):
        DeepEncoder.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be read|can be read"):
        DeepEncoder.from_pretrained(tmp_path / "torn")
    outside = ocr_layout.write(tmp_path / "outside", tensors, shards=2)
    (outside / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../escape.safetensors"}}')
    with pytest.raises(ValueError, match="does not lie in the folder"):
        DeepEncoder.from_pretrained(outside)
