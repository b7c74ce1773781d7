"""Codes of cells: the same each time, spread over all values, and each beside the codes that lie around it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from vision import DeepEncoder, DeepEncoderConfig, DeepSeekViT, DeepSeekViTConfig, get_mode
from vision.codes import AROUND, NO_CODE, codes_of, lines_of, with_neighbours
from vision.views import Views


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_codes_are_whole_numbers_that_follow_the_features_alone():
    features = noise(8, 9, 16)
    codes = codes_of(features, bits=10)
    assert codes.dtype == torch.int64 and codes.shape == (8, 9) and 0 <= int(codes.min()) <= int(codes.max()) < 1024
    assert torch.equal(codes, codes_of(features * 3 + 5, bits=10)) and torch.equal(codes, codes_of(features, bits=10))
    assert not torch.equal(codes, codes_of(features, bits=10, seed=1))
    assert len(codes.unique()) > 50
    same = features.clone()
    same[3, 4] = same[0, 0]
    assert codes_of(same, bits=10)[3, 4] == codes_of(same, bits=10)[0, 0]
    with pytest.raises(ValueError, match="1 to 24 bits, got 0"):
        codes_of(features, bits=0)


def test_near_features_share_most_bits_and_far_ones_about_half():
    first, step = noise(40, 40, 32), noise(40, 40, 32, seed=1)
    apart = {}
    for name, other in (("near", first + 0.1 * step), ("far", step)):
        differ = codes_of(first, bits=16) ^ codes_of(other, bits=16)
        apart[name] = float(sum((differ >> bit & 1).float().mean() for bit in range(16)) / 16)
    assert apart["near"] < 0.05 and apart["far"] == pytest.approx(0.5, abs=0.05)


def test_neighbours_are_those_around_and_the_edge_has_a_word_of_its_own():
    codes = torch.arange(12).view(3, 4)
    around = with_neighbours(codes, count=9, outside=99)
    assert around[1, 1].tolist() == [5, 4, 1, 0, 6, 9, 2, 8, 10]
    assert around[0, 0].tolist() == [0, 99, 99, 99, 1, 4, 99, 99, 5]
    assert len({place for place in AROUND}) == 9
    with pytest.raises(ValueError, match="1 to 9 places"):
        with_neighbours(codes, count=10, outside=99)


def test_newlines_have_no_code():
    features = noise(3 * 5, 8)
    lines = lines_of(features, 3, 4, bits=6, count=3)
    assert lines.shape == (15, 3) and (lines[4::5] == NO_CODE).all()
    cells = codes_of(features.view(3, 5, 8)[:, :4], bits=6)
    assert torch.equal(lines[:, 0].view(3, 5)[:, :4], cells) and lines[6].tolist() == [
        int(cells[1, 1]), int(cells[1, 0]), int(cells[0, 1])
    ]  # fmt: skip


def test_every_token_of_a_tiled_picture_has_its_place():
    """A code for each cell and none elsewhere; a cell at the edge of a tile has the next tile's cell beside it."""
    encoder = DeepEncoder(DeepEncoderConfig.micro(out_dim=8))
    mode = dataclasses.replace(get_mode("gundam"), side=128, tile=128)
    views = Views(mode=mode, size=(300, 260), whole_13SS=torch.empty(1, 3, 128, 128), grid=mode.tile_grid(300, 260))
    features = noise(views.tokens, 8)
    codes = encoder.codes(views, features, bits=8, count=3)
    columns, rows = views.grid
    across, down = 2 * columns, 2 * rows
    assert columns > 1 and codes.shape == (views.tokens, 3)
    assert int((codes[:, 0] >= 0).sum()) == views.paper_tokens and codes[-1].tolist() == [NO_CODE] * 3
    tiled = codes[: down * (across + 1)].view(down, across + 1, 3)
    assert torch.equal(tiled[:, 1:across, 1], tiled[:, : across - 1, 0])
    assert torch.equal(tiled[1:, :across, 2], tiled[:-1, :across, 0]) and (tiled[:, 0, 1] == 256).all()


def test_the_other_eyes_give_codes_too():
    eyes = DeepSeekViT(DeepSeekViTConfig(width=64, layers=1, heads=1, inner=32, out_dim=16)).eval()
    views = eyes.prepare(Image.effect_noise((120, 90), 80).convert("RGB"))
    with torch.inference_mode():
        features = eyes(views)
    codes = eyes.codes(views, features, bits=6, count=3)
    assert codes.shape == (views.tokens, 3) and int(codes.min()) >= 0
