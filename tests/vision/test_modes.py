"""Token counts: by the published table, and equal to what the encoder returns for pictures of every size."""

from __future__ import annotations

import random

import pytest
import torch
from PIL import Image

from vision import MODES, DeepEncoder, DeepEncoderConfig, get_mode, prepare, tile_boxes

PAPER = {"tiny": 64, "small": 100, "base": 256, "large": 400, "gundam": 256, "gundam-m": 400}
SEQUENCE = {"tiny": 73, "small": 111, "base": 273, "large": 421, "gundam": 273, "gundam-m": 421}


@pytest.mark.parametrize("name", MODES)
def test_a_small_picture_costs_what_the_tables_say(name):
    mode = get_mode(name)
    assert (mode.paper_tokens(300, 200), mode.num_tokens(300, 200)) == (PAPER[name], SEQUENCE[name])


@pytest.mark.parametrize(
    ("size", "grid", "paper", "sequence"),
    [
        ((1240, 1754), (2, 3), 856, 903),
        ((1920, 1080), (4, 2), 1056, 1093),
        ((5000, 5000), (3, 3), 1156, 1203),
        ((641, 641), (2, 2), 656, 693),
        ((640, 640), (0, 0), 256, 273),
    ],
)
def test_gundam_tiles_as_published(size, grid, paper, sequence):
    mode = get_mode("gundam")
    assert (mode.tile_grid(*size), mode.paper_tokens(*size), mode.num_tokens(*size)) == (grid, paper, sequence)


def test_gundam_m_needs_no_tiles_up_to_its_own_tile():
    assert get_mode("gundam-m").tile_grid(1024, 1024) == (0, 0)
    assert get_mode("gundam-m").tile_grid(1025, 1024) != (0, 0)


def test_names_in_any_case_and_the_nearest_for_a_wrong_one():
    assert get_mode("Tiny") is MODES["tiny"]
    with pytest.raises(ValueError, match="did you mean 'gundam'"):
        get_mode("gundem")


class _Flat(DeepEncoder):
    """The real assembly around a trunk that costs nothing, so that large pictures can be counted."""

    def compress(self, pixels_N3SS):
        return torch.nn.functional.avg_pool2d(pixels_N3SS, 64).mean(1, keepdim=True).expand(-1, 64, -1, -1)


def test_count_equals_what_the_encoder_returns_for_any_size():
    encoder = _Flat(DeepEncoderConfig.micro(out_dim=8)).eval()
    encoder.clip = torch.nn.Sequential(torch.nn.Flatten(2), _Turn())
    chance = random.Random(0)
    sizes = [(1, 1), (20000, 3), (3, 20000), (640, 641), (1024, 1025), (2000, 30)]
    sizes += [(int(10 ** chance.uniform(0, 3.3)), int(10 ** chance.uniform(0, 3.3))) for _ in range(3)]
    for size in sizes:
        picture = Image.new("RGB", size)
        for mode in MODES:
            views = prepare(picture, mode)
            with torch.inference_mode():
                assert encoder(views).shape == (views.tokens, 8), (size, mode)
            assert views.tokens == get_mode(mode).num_tokens(*size)


class _Turn(torch.nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def test_tiles_stand_in_rows_in_front_of_the_whole_view():
    """A picture whose left half is black and right half white must come back as lines that go from dark to light."""
    encoder = _Flat(DeepEncoderConfig.micro(out_dim=8)).eval()
    encoder.clip = torch.nn.Sequential(torch.nn.Flatten(2), _Turn())
    picture = Image.new("RGB", (2560, 1280))
    picture.paste((255, 255, 255), (1280, 0, 2560, 1280))
    views = prepare(picture, "gundam")
    columns, rows = views.grid
    assert (columns, rows) == (4, 2) and len(tile_boxes(2560, 1280, "gundam")) == 8
    with torch.inference_mode():
        features_VD = encoder(views)
        dark, light = (encoder.grid(torch.full((1, 3, 64, 64), value))[0, 0, 0] for value in (-1.0, 1.0))
    lines = features_VD[: 10 * rows * (10 * columns + 1)].view(10 * rows, 10 * columns + 1, -1)
    torch.testing.assert_close(lines[:, :18], dark.expand(10 * rows, 18, -1))
    torch.testing.assert_close(lines[:, 22:-1], light.expand(10 * rows, 18, -1))
    torch.testing.assert_close(lines[:, -1], encoder.image_newline.expand(10 * rows, -1))
    torch.testing.assert_close(features_VD[-1], encoder.view_separator)
