"""Group quantisation: error bounds, packing, and the folder that holds it."""

import numpy as np
import pytest
import torch

from dsv4.checkpoint.io import SHARD_BYTES, load_folder, save_folder
from dsv4.errors import InputError
from dsv4.quant.groups import dequantize, quantize


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_packing_is_exact_on_the_grid(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    weight = np.tile(np.arange(-top, top + 1), 8).astype(np.float32)[None].repeat(3, 0) * 0.5
    packed = quantize(weight, bits=bits, group=weight.shape[1])
    assert np.array_equal(dequantize(packed), weight)
    assert packed.codes.nbytes <= weight.size * bits / 8 + 1


def test_error_falls_with_bits_and_is_bounded_by_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)
    errors = [float(np.square(dequantize(quantize(weight, bits=bits)) - weight).mean()) for bits in (4, 6, 8)]
    assert errors[0] > 8 * errors[1] > 64 * errors[2]
    packed = quantize(weight, bits=8)
    step = packed.scales_RG.astype(np.float32).reshape(-1, 1)
    gap = np.abs(dequantize(packed) - weight).reshape(-1, packed.group)
    assert (gap <= step * 0.57).all()  # half a step, and what the half-precision scale adds at the peak


def test_four_bit_clip_search_beats_the_plain_maximum() -> None:
    weight = np.random.default_rng(1).standard_t(3, size=(256, 64)).astype(np.float32)
    scale = np.abs(weight).max(1, keepdims=True) / 7
    plain = np.clip(np.rint(weight / scale), -7, 7) * scale
    assert np.square(dequantize(quantize(weight, bits=4)) - weight).mean() < np.square(plain - weight).mean()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="bits must be"):
        quantize(np.ones((2, 2), np.float32), bits=9)
    with pytest.raises(ValueError, match="NaN"):
        quantize(np.array([[np.nan, 1.0]], np.float32))


def test_folder_round_trip_and_shards(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"layer.{i}.weight": torch.randn(1500, 2048, generator=generator) for i in range(6)}
    tensors["norm"] = torch.randn(7, generator=generator)
    written = save_folder(
        tmp_path, tensors, policy=lambda name, shape: 8 if len(shape) == 2 else None, about={"name": "t"}
    )
    assert written < 6 * 1500 * 2048 * 1.06
    assert all(path.stat().st_size <= SHARD_BYTES for path in tmp_path.glob("*.safetensors"))
    loaded, about = load_folder(tmp_path)
    assert about == {"name": "t"} and loaded.keys() == tensors.keys()
    assert torch.equal(loaded["norm"], tensors["norm"])
    for name, tensor in tensors.items():
        assert torch.allclose(loaded[name], tensor, atol=0.03)
    (tmp_path / "weights-00001.safetensors").unlink()
    with pytest.raises(InputError, match="weights-00001"):
        load_folder(tmp_path)
    with pytest.raises(InputError, match="no model.json"):
        load_folder(tmp_path / "nowhere")
