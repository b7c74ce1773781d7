"""GPTQ, AWQ and rounding: packing as compressed-tensors has it, and errors in the order that the papers promise."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops.packed import open_words
from dsv4.quant.awq import channel_scales, clipped, output_error
from dsv4.quant.gptq import gptq
from dsv4.quant.grid import Grid, open_packed, pack_words, packed_bits, round_to


def correlated(seed: int, tokens: int = 512, width: int = 128) -> torch.Tensor:
    """Inputs with heavy-tailed channels that hang together, as hidden states do."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator) / width**0.5
    loud = torch.exp(torch.randn(width, generator=generator))
    return torch.randn(tokens, width, generator=generator) @ (mix + 0.5 * torch.eye(width)) * loud


@pytest.mark.parametrize("bits", [4, 8])
def test_words_are_those_of_compressed_tensors(bits):
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

    half = 2 ** (bits - 1)
    for shape in ((6, 64), (3, 6, 40), (5, 13)):
        codes = torch.randint(-half, half, shape, generator=torch.Generator().manual_seed(0)).to(torch.int8)
        words = pack_words(codes, bits)
        assert torch.equal(open_words(words, bits, shape[-1]), codes)
        assert packed_bits(words.shape[-1], shape[-1]) == bits
        if len(shape) == 2:
            assert torch.equal(words, pack_to_int32(codes, bits))
            assert torch.equal(unpack_from_int32(words, bits, torch.Size(shape)), codes)


def test_packed_parts_that_do_not_agree_are_refused():
    words = pack_words(torch.zeros(2, 16, dtype=torch.int8), 4)
    with pytest.raises(ValueError, match="do not divide 16 columns"):
        open_packed(words, torch.ones(2, 3), (2, 16))
    with pytest.raises(ValueError, match="says"):
        open_packed(words, torch.ones(2, 2), (3, 16))
    with pytest.raises(ValueError, match="cannot hold"):
        packed_bits(7, 16)
    with pytest.raises(ValueError, match="groups of 5"):
        round_to(torch.ones(2, 16), Grid(bits=4, group=5))


def test_an_error_of_weights_is_the_mean_error_of_outputs():
    x_TK = correlated(0)
    apart_NK = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    expected = (x_TK @ apart_NK.T).square().sum(-1).mean()
    assert torch.isclose(output_error(apart_NK, x_TK.T @ x_TK / len(x_TK)), expected, rtol=1e-4)


def test_methods_are_ordered_and_errors_fall_with_bits():
    x_TK = correlated(0)
    hessian = x_TK.T @ x_TK / len(x_TK)
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(2)) / 11
    errors = {}
    for bits in (4, 8):
        grid = Grid(bits=bits, group=32)
        scales = channel_scales([weight], [hessian], x_TK.abs().mean(0), grid)
        scaled_hessian = hessian / scales / scales[:, None]
        made = {
            "round": grid.open(*round_to(weight, grid)),
            "awq": grid.open(*clipped((weight * scales)[None], scaled_hessian[None], grid))[0] / scales,
            "gptq": grid.open(*gptq(weight[None], hessian[None], grid))[0],
        }
        errors[bits] = {name: float(output_error(one - weight, hessian)) for name, one in made.items()}
    assert errors[4]["gptq"] < errors[4]["awq"] < errors[4]["round"]
    assert all(errors[8][name] < errors[4][name] / 50 for name in errors[4])


def test_many_experts_at_once_are_each_alone():
    grid = Grid(bits=4, group=64)
    weights = torch.randn(3, 24, 128, generator=torch.Generator().manual_seed(0))
    hessians = torch.stack([correlated(seed).T @ correlated(seed) / 512 for seed in range(3)])
    codes, scales = gptq(weights, hessians, grid)
    for expert in range(3):
        alone = gptq(weights[expert : expert + 1], hessians[expert : expert + 1], grid)
        assert (codes[expert] != alone[0][0]).float().mean() < 0.01 and torch.allclose(scales[expert], alone[1][0])


def test_inputs_that_never_occurred_are_rounded_and_a_group_may_cross_a_block():
    x_TK = correlated(3, width=192)
    x_TK[:, 5] = 0
    hessian = (x_TK.T @ x_TK / len(x_TK))[None]
    weight = torch.randn(1, 8, 192, generator=torch.Generator().manual_seed(4))
    grid = Grid(bits=4, group=96)  # the second group begins inside the first block of 128 columns
    made = grid.open(*gptq(weight, hessian, grid))
    plain = grid.open(*round_to(weight, grid))
    assert torch.isfinite(made).all()
    assert output_error(made - weight, hessian).sum() < output_error(plain - weight, hessian).sum()
