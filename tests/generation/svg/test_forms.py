"""Canonical form, composition, recolouring and shape scenes keep the picture."""

import json
from pathlib import Path

import numpy as np
import pytest

from generation.svg import (
    SHAPE_COLOURS,
    SHAPES,
    beside,
    canonical,
    in_circle,
    in_square,
    rasterise_trusted,
    recolour,
    repeated,
    scene,
    shape,
    shortened,
    vocabulary,
)

VOCAB = vocabulary()
DRAWINGS = json.loads(Path(__file__).with_name("drawings.json").read_text())
NS = 'xmlns="http://www.w3.org/2000/svg"'
FOREIGN = {
    "transforms": f'<svg {NS} viewBox="0 0 24 24"><g transform="translate(4 4) rotate(90 8 8)">'
    '<rect width="16" height="8" fill="red"/></g>'
    '<path transform="matrix(1 0 0 1 2 14)" d="m0 0h8v6h-8z" style="fill:#0000fe"/></svg>',
    "mirrored arc": f'<svg {NS} viewBox="0 0 96 96"><path transform="translate(96 0) scale(-1 1)"'
    ' d="M20 60a30 30 0 0 1 60 0z" fill="green"/></svg>',
    "turned oval": f'<svg {NS} viewBox="0 0 96 96"><ellipse cx="48" cy="48" rx="40" ry="16" fill="blue"'
    ' transform="rotate(30 48 48)"/></svg>',
    "short commands": f'<svg {NS} viewBox="0 0 48 48">'
    '<path d="M4 4h20v20l-4-4s-8 0-8 8 8 8 8 8q4 4 8 0t8 0A5 5 0 0140 40z"/></svg>',
    "polygons": f'<svg {NS} viewBox="0 0 48 24"><polygon points="4,4 20,4 12,20"/><polyline points="28 4 44 4 36 20"'
    ' fill="none" stroke="orange" stroke-width="2"/></svg>',
    "off the grid": f'<svg {NS} viewBox="0 0 96 96"><path d="M10 10C10 -40 86 -40 86 10V90H10z" fill="purple"/></svg>',
}


def _same(a: str, b: str) -> float:
    """Mean difference of two renderings, 0 to 255."""
    return float(np.abs(rasterise_trusted(a, 64).astype(int) - rasterise_trusted(b, 64)).mean())


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_svg_becomes_canonical_and_looks_the_same(name):
    text = canonical(FOREIGN[name])
    assert canonical(text) == text == VOCAB.decode(VOCAB.encode(text))
    source = FOREIGN[name]
    if name == "polygons":
        source = source.replace("0 0 48 24", "0 -12 48 48")
        source = source.replace('stroke-width="2"', 'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"')
    assert _same(source, text) < 4


def test_a_rotated_rectangle_lands_where_it_should():
    assert 'd="M 80 16V 80H 48V 16z"' in canonical(FOREIGN["transforms"])


@pytest.mark.parametrize(
    "text", ["<svg/>", '<svg viewBox="0 0 9 9"><rect width="4" height="4" fill="none"/></svg>', "hi"]
)
def test_nothing_to_draw_is_said(text):
    with pytest.raises(ValueError, match="nothing drawable|not well-formed"):
        canonical(text)


@pytest.mark.parametrize("name", DRAWINGS)
def test_composition_reuses_the_part_word_for_word(name):
    part = VOCAB.words(VOCAB.encode(DRAWINGS[name]))
    inside = " ".join(part[4:-1])
    if name == "groups":
        assert " ".join(part[3:-1]) in " ".join(VOCAB.words(VOCAB.encode(in_circle(DRAWINGS[name]))))
    for made, times in [
        (in_circle(DRAWINGS[name]), 1),
        (in_square(DRAWINGS[name]), 1),
        (repeated(DRAWINGS[name], 3), 3),
        (beside(DRAWINGS[name], DRAWINGS["glyph"]), 1),
    ]:
        words = " ".join(VOCAB.words(VOCAB.encode(made)))
        assert words.count(inside) >= times
        assert canonical(made) == made


def test_composition_keeps_the_drawing():
    icon = DRAWINGS["line icon"]
    half = rasterise_trusted(icon, 48).astype(int)
    pair = rasterise_trusted(beside(icon, icon), 96).astype(int)
    assert np.abs(pair[24:72, :48] - half).mean() < 1 and np.abs(pair[24:72, 48:] - half).mean() < 1
    with pytest.raises(ValueError, match="2, 3, 4 times, not 5"):
        repeated(icon, 5)


def test_recolour_changes_the_one_colour():
    red = recolour(DRAWINGS["line icon"], "red")
    assert red == DRAWINGS["line icon"].replace("currentColor", "red")
    assert recolour(red, "#0101ff") == DRAWINGS["line icon"].replace("currentColor", "blue")
    assert recolour(in_circle(red), "teal") == in_circle(recolour(red, "teal"))
    with pytest.raises(ValueError, match="has 3 colours"):
        recolour(DRAWINGS["primitives"], "red")
    with pytest.raises(ValueError, match="not a colour"):
        recolour(red, "rde")


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_fill_their_box_in_their_colour(kind):
    for colour, code in SHAPE_COLOURS.items():
        text = scene([shape(kind, colour, 40, 52, 40)])
        assert VOCAB.decode(VOCAB.encode(text)) == text
        pixels = rasterise_trusted(text, 96)
        rows, columns = np.nonzero((pixels != 255).any(-1))
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (20, 59, 32, 71)
        assert tuple(pixels[52, 40]) == tuple(int(code[at : at + 2], 16) for at in (1, 3, 5))


def test_shape_areas_tell_the_kinds_apart():
    ink = {
        kind: (rasterise_trusted(scene([shape(kind, "black", 48, 48, 60)]), 96) < 128).all(-1).mean() for kind in SHAPES
    }
    full = (60 / 96) ** 2
    share = {kind: round(float(area / full), 2) for kind, area in ink.items()}
    assert share["square"] == pytest.approx(1, abs=0.01) and share["circle"] == pytest.approx(0.785, abs=0.02)
    assert share["triangle"] == pytest.approx(0.5, abs=0.02) and share["diamond"] == pytest.approx(0.5, abs=0.02)
    assert share["cross"] == pytest.approx(0.56, abs=0.03) and 0.25 < share["star"] < 0.45


def test_grounds_and_mistakes():
    assert scene([shape("circle", "red", 48, 48, 20)], "white") == scene([shape("circle", "red", 48, 48, 20)])
    assert tuple(rasterise_trusted(scene([shape("circle", "red", 48, 48, 20)], "black"), 32)[0, 0]) == (0, 0, 0)
    with pytest.raises(ValueError, match="did you mean 'triangle'"):
        shape("triangel", "red", 48, 48, 20)


def _crumbly_ring(steps: int) -> str:
    """A polygon with so many corners that most of its steps are tiny."""
    turns = [2 * np.pi * step / steps for step in range(steps)]
    corners = "".join(f"L {round(48 + 40 * np.cos(turn))} {round(48 + 40 * np.sin(turn))}" for turn in turns[1:])
    return f'<svg viewBox="0 0 96 96" fill="teal"><path d="M 88 48{corners}z"/><circle cx="9" cy="9" r="4"/></svg>'


def test_a_long_drawing_is_shortened_and_keeps_its_looks():
    long = _crumbly_ring(240)
    assert len(VOCAB.encode(canonical(long))) > 700
    text = shortened(long, 500)
    assert len(VOCAB.encode(text)) <= 500 and canonical(text) == text
    assert _same(long, text) < 4
    assert shortened(text, 500) == text
    with pytest.raises(ValueError, match="cannot be shortened to 20"):
        shortened(long, 20)
