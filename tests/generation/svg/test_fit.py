"""A drawing that is out of place comes to where the picture has it; its ground takes the picture's colour."""

from __future__ import annotations

import numpy as np
import pytest

from generation.svg import fitted, in_row, likeness, rasterise

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
STAR = "M48 18L55 38L76 39L59 52L65 72L48 60L31 72L37 52L20 39L41 38Z"


def drawn(parts: str) -> str:
    return f"{HEAD}{parts}</svg>"


def alike(svg: str, picture_HW3: np.ndarray) -> float:
    return likeness(rasterise(svg, 64) / 255, picture_HW3 / 255)


def test_parts_move_and_grow_to_where_the_picture_has_them():
    wanted = drawn(
        '<rect width="96" height="96" fill="#cfe8d5"/><circle cx="70" cy="30" r="18" fill="red"/>'
        f'<g transform="translate(-2 22) scale(.7)"><path d="{STAR}" fill="navy"/></g>'
    )
    start = drawn(
        '<rect width="96" height="96" fill="white"/><circle cx="55" cy="48" r="13" fill="red"/>'
        f'<g transform="translate(5 10) scale(.5)"><path d="{STAR}" fill="navy"/></g>'
    )
    picture_HW3 = rasterise(wanted, 64)
    assert alike(start, picture_HW3) < 0.6
    made = fitted(start, picture_HW3)
    assert alike(made, picture_HW3) > 0.97
    assert "#cfe8d5" in made and made.count("<rect") == 1


def test_what_fits_already_stays_and_a_ground_is_put_behind_what_has_none():
    circle = drawn('<circle cx="48" cy="48" r="20" fill="blue"/>')
    made = fitted(circle, rasterise(circle, 64))
    assert alike(made, rasterise(circle, 64)) > 0.999 and "<rect" not in made
    on_mint = rasterise(circle, 64, "#aaeecc")
    assert 'fill="#aaeecc"' in fitted(circle, on_mint) and alike(fitted(circle, on_mint), on_mint) > 0.98


def test_an_icon_of_many_lines_is_moved_as_a_whole():
    lines = "".join(
        f'<circle cx="{10 + 5 * n}" cy="{20 + 47 * n % 60}" r="{2 + n % 5}" fill="black"/>' for n in range(14)
    )
    wanted = drawn(f'<g transform="translate(6 4)">{lines}</g>')
    made = fitted(drawn(lines), rasterise(wanted, 64))
    assert made.count("transform=") == 1 and made.count("<circle") == 14
    assert alike(made, rasterise(wanted, 64)) > 0.95


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="not well-formed"):
        fitted("<svg><", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="not 5"):
        in_row([drawn('<circle cx="48" cy="48" r="20" fill="blue"/>')] * 5)
