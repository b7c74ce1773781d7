"""Flat pictures come back from their outlines; photographs are told apart; limits hold for any picture."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from generation.svg import is_flat, likeness, rasterise, rebuild, traced
from generation.svg.curves import outline
from generation.svg.flat import MOST_COLOURS, layers_of
from generation.svg.regions import regions_of
from generation.svg.trace import MOST_BYTES, MOST_PATHS

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
LOGO = (
    f'{HEAD}<rect width="96" height="96" fill="#fff4d6"/><circle cx="48" cy="48" r="38" fill="#1d4ed8"/>'
    '<circle cx="48" cy="48" r="26" fill="#fff4d6"/><path d="M30 66 48 24 66 66z" fill="#dc2626"/>'
    '<rect x="44" y="50" width="8" height="16" fill="#111827"/></svg>'
)
ICON = (
    f'{HEAD}<g fill="none" stroke="black" stroke-width="7" stroke-linecap="round"><circle cx="42" cy="42" r="24"/>'
    '<path d="M60 60 82 82"/></g></svg>'
)


def drawn(svg: str, side: int = 512) -> Image.Image:
    return Image.fromarray(rasterise(svg, side))


def like(picture: Image.Image, text: str) -> float:
    small_HW3 = np.asarray(picture.resize((64, 64), Image.Resampling.BOX))
    return likeness(rasterise(text, 64) / 255, small_HW3 / 255)


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def photograph(side: int = 256) -> Image.Image:
    """Soft light, texture and grain, as no drawing has them."""
    rng = np.random.default_rng(3)
    soft = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    grain_SS1 = rng.normal(0, 9, (side, side, 1)) + 25 * np.sin(np.arange(side) / 3)[:, None, None]
    return Image.fromarray(np.clip(np.asarray(soft) + grain_SS1, 0, 255).astype(np.uint8))


def noise(side: int, levels: int) -> Image.Image:
    grey_SS = np.random.default_rng(1).integers(0, levels, (side, side)) * (255 // (levels - 1))
    return Image.fromarray(np.repeat(grey_SS[..., None], 3, 2).astype(np.uint8))


@pytest.mark.parametrize(("svg", "least"), [(LOGO, 0.98), (ICON, 0.98)])
@pytest.mark.parametrize("side", [64, 150, 512, 900])
def test_a_flat_drawing_comes_back_from_its_outlines(svg, least, side):
    picture = drawn(svg, side)
    text = traced(picture, title="mine")
    assert is_flat(picture) and like(picture, text) >= (least if side > 64 else 0.95)
    assert rebuild(text) == text and "<title>mine</title>" in text
    assert traced(picture, title="mine") == text
    assert text.count("<path") <= 6 and len(text) < 4000


def test_colours_are_exact_and_the_ground_is_a_rect():
    text = traced(drawn(LOGO))
    assert re.search(r'<rect width="96" height="96" fill="#fff4d6"/>', text)
    assert set(re.findall(r'<path fill="(#\w+)"', text)) == {"#1d4ed8", "#dc2626", "#111827"}
    ring = next(line for line in text.splitlines() if "#1d4ed8" in line)
    assert 'fill-rule="evenodd"' in ring and ring.count("M") == 2  # the ground shows through the hole


def test_outlines_lie_between_pixels():
    text = traced(drawn(f'{HEAD}<path d="M20.3 17.6H71.9V80.2H20.3z" fill="#c00"/></svg>'))
    numbers = np.array([float(number) for number in re.findall(r"[\d.]+", re.search(r' d="([^"]*)"', text)[1])])
    corners = numbers.reshape(-1, 2)
    assert len(corners) == 5  # four lines, and where they start
    for corner in ((20.3, 17.6), (71.9, 17.6), (71.9, 80.2), (20.3, 80.2)):
        assert np.abs(corners - corner).max(1).min() < 0.06


def test_a_circle_is_few_curves_near_its_radius():
    turns = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    found = outline(50 + 25 * np.stack([np.cos(turns), np.sin(turns)], -1), 0.3)
    assert found is not None and len(found.pieces) <= 4
    start = found.start_2
    for piece in found.pieces:
        points = np.concatenate([start[None], piece])
        at = np.linspace(0, 1, 20)[:, None]
        curve = (1 - at) ** 3 * points[0] + 3 * at * (1 - at) ** 2 * points[1]
        curve = curve + 3 * at**2 * (1 - at) * points[2] + at**3 * points[3]
        assert np.abs(np.linalg.norm(curve - 50, axis=1) - 25).max() < 0.35
        start = piece[-1]
    assert np.allclose(start, found.start_2)
    assert outline(np.array([[0.0, 0], [0.4, 0], [0.4, 0.4]]), 0.3) is None


def test_regions_are_stacked_so_that_neighbours_leave_no_seam():
    label_SS = np.zeros((20, 20), int)
    label_SS[4:16, 4:10], label_SS[4:16, 10:16] = 1, 2
    label_SS[8:10, 12:14] = 3
    found = list(regions_of(np.eye(4, dtype=np.float32)[label_SS].transpose(2, 0, 1), 0, 1))
    assert [(one.colour, one.area) for one in found] == [(1, 144), (2, 72), (3, 4)]  # 1 reaches under 2, 2 under 3
    assert sum(one.area for one in regions_of(np.eye(4, dtype=np.float32)[label_SS].transpose(2, 0, 1), 0, 5)) == 216


def test_layers_say_what_each_pixel_is_made_of():
    layers = layers_of(np.asarray(drawn(LOGO, 256)))
    assert {tuple(colour) for colour in layers.colours_K3.tolist()} == {
        (255, 244, 214), (29, 78, 216), (220, 38, 38), (17, 24, 39)
    }  # fmt: skip
    assert np.allclose(layers.cover_KSS.sum(0), 1, atol=1e-5)
    assert layers.explained > 0.99 and layers.sharp > 0.99 and layers.crossings < 6


@pytest.mark.parametrize("quality", [40, 80])
def test_a_logo_saved_as_jpeg_is_flat_too(quality):
    picture = as_jpeg(drawn(LOGO), quality)
    assert is_flat(picture) and like(picture, traced(picture)) > 0.9


def test_photographs_noise_and_gradients_are_not_flat():
    ramp_SS3 = np.repeat(np.tile(np.linspace(0, 255, 256), (256, 1))[..., None], 3, 2).astype(np.uint8)
    for picture in (photograph(), noise(256, 2), noise(256, 16), Image.fromarray(ramp_SS3)):
        assert not is_flat(picture)


@pytest.mark.parametrize("picture", [noise(512, 2), noise(300, 6), photograph(512)], ids=["bits", "grey", "photo"])
def test_any_picture_stays_within_the_limits(picture):
    text = traced(picture)
    assert text.count("<path") <= MOST_PATHS and len(text.encode()) <= MOST_BYTES
    assert rebuild(text) == text
    assert len(layers_of(np.asarray(picture.resize((64, 64)))).colours_K3) <= MOST_COLOURS


def test_the_smallest_and_the_largest_pictures():
    assert traced(Image.new("RGB", (1, 1), "red")).count('<rect width="96" height="96" fill="#ff0000"/>') == 1
    assert "<path" not in traced(Image.new("RGB", (4000, 4000), "#123456"))
    with pytest.raises(ValueError, match="square"):
        traced(Image.new("RGB", (3, 4)))
