"""Token counts: by the published table, and equal to what the encoder returns for pictures of every size."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vision import (
    MODES,
    DeepEncoder,
    DeepEncoderConfig,
    advise,
    draw_boxes,
    draw_tiles,
    get_mode,
    prepare,
    tile_boxes,
)

PAPER = {"tiny": 64, "small": 100, "base": 256, "large": 400, "gundam": 256, "gundam-m": 400}
SEQUENCE = {"tiny": 73, "small": 111, "base": 273, "large": 421, "gundam": 273, "gundam-m": 421}


@pytest.mark.parametrize("name", MODES)
def test_a_small_picture_costs_what_the_tables_say(name):
    mode = get_mode(name)
    assert mode.num_tokens(300, 200) == (PAPER[name], SEQUENCE[name])


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
    assert (mode.tile_grid(*size), mode.num_tokens(*size)) == (grid, (paper, sequence))


@pytest.mark.parametrize(
    ("size", "grid", "sequence", "in_gundam_m"),
    [
        ((1240, 1754), (2, 3), 903, 2005),
        ((1920, 1080), (2, 1), 483, 949),
        ((5000, 5000), (2, 2), 693, 1477),
        ((641, 641), (2, 2), 693, 421),
    ],
)
def test_six_tiles_at_most_where_that_is_asked_for(size, grid, sequence, in_gundam_m):
    mode = get_mode("gundam", tiles=6)
    assert (mode.tile_grid(*size), mode.num_tokens(*size).sequence) == (grid, sequence)
    assert get_mode("gundam-m", tiles=6).num_tokens(*size).sequence == in_gundam_m


def test_a_wrong_limit_of_tiles_is_refused():
    with pytest.raises(ValueError, match="9 or 6, got 7"):
        get_mode("gundam", tiles=7)
    with pytest.raises(ValueError, match="'base' has no tiles.*gundam, gundam-m"):
        get_mode("base", tiles=6)


@given(width=st.integers(1, 30_000), height=st.integers(1, 30_000), tiles=st.sampled_from([9, 6]))
@settings(max_examples=300, deadline=None)
def test_grids_are_those_of_an_independent_program(width, height, tiles):
    from transformers.models.unlimited_ocr.image_processing_unlimited_ocr import get_optimal_tiled_canvas

    mode = get_mode("gundam", tiles=tiles)
    wanted = get_optimal_tiled_canvas((height, width), (640, 640), 2, tiles)
    assert mode.tile_grid(width, height) == (wanted if max(width, height) > 640 else (0, 0))


@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000), name=st.sampled_from(list(MODES)))
@settings(max_examples=300, deadline=None)
def test_counts_agree_with_each_other(width, height, name):
    """The true count is the paper's plus one newline for every row of features and one separator."""
    mode = get_mode(name)
    columns, rows = mode.tile_grid(width, height)
    lines = mode.cells + rows * mode.tile // 64
    count = mode.num_tokens(width, height)
    assert count.sequence == count.paper + lines + 1
    assert count.paper == columns * rows * (mode.tile // 64) ** 2 + (mode.side // 64) ** 2
    assert 0 < mode.valid_tokens(width, height) <= count.paper


def test_valid_tokens_as_published():
    """Table 2 of the paper: A4 pages fill 182 of 256 and 285 of 400."""
    assert get_mode("base").valid_tokens(1654, 2339) == pytest.approx(182, abs=1)
    assert get_mode("large").valid_tokens(1654, 2339) == pytest.approx(285, abs=2)
    assert get_mode("tiny").valid_tokens(1654, 2339) == 64


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("slides", "tiny"), ("book", "small"), ("report", "base"), ("newspaper", "gundam"), ("any", "large")],
)
def test_advice_is_the_cheapest_mode_that_is_nearly_best(kind, wanted):
    advice = advise(kind, 1240, 1754)
    assert advice.mode.name == wanted and advice.tokens == MODES[wanted].num_tokens(1240, 1754).sequence
    assert advice.edit_distance <= advice.best + 0.05 + 1e-9
    assert wanted.title() in advice.why and str(advice.tokens) in advice.why
    with pytest.raises(ValueError, match="did you mean 'newspaper'"):
        advise("newspapers", 10, 10)


def test_the_tiles_are_drawn_where_they_are_cut():
    picture = Image.new("RGB", (1200, 1800), "white")
    drawn = draw_tiles(picture, "gundam")
    assert drawn.size == picture.size and picture.getpixel((600, 900)) == (255, 255, 255)
    columns, rows = get_mode("gundam").tile_grid(1200, 1800)
    assert (columns, rows) == (2, 3)
    across = [x for x in range(1200) if drawn.getpixel((x, 300)) != (255, 255, 255)]
    down = [y for y in range(1800) if drawn.getpixel((900, y)) != (255, 255, 255)]
    assert all(any(abs(x - edge) <= 3 for x in across) for edge in (0, 600, 1199))
    assert all(any(abs(y - edge) <= 3 for y in down) for edge in (0, 600, 1200, 1799))
    assert len(across) < 60 and draw_tiles(picture, "base").getpixel((600, 900)) == (255, 255, 255)


def test_boxes_keep_inside_the_picture_whatever_they_say():
    picture = Image.new("RGB", (60, 40), "white")
    drawn = draw_boxes(picture, [("a\nlabel", (-50, 10, 1e9, 1e9)), ("", (30, 30, 10, 5))])
    assert drawn.size == (60, 40) and drawn.tobytes() != picture.tobytes()


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
            assert (views.paper_tokens, views.tokens) == get_mode(mode).num_tokens(*size)


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
