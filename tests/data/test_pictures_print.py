"""Printed text: glyph strips, lines laid out from them, and their pictures."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from dsv4.data.glyphs import BASELINE, CHARACTERS, HEIGHT, PAD, Faces, GlyphSheets, render_text
from dsv4.data.glyphs_layout import (
    FEW_LINES,
    LINES,
    NO_LETTER,
    PATCH,
    SIDE,
    Page,
    _lay,
    held_line,
    print_lines,
    random_lines,
    random_page,
)
from dsv4.data.pictures import IGNORE, PictureStream
from dsv4.errors import InputError
from tests import picture_world

WORDS = ["harbour", "willow", "ink", "lantern"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return picture_world.write_world(tmp_path_factory.mktemp("world"))


def tensors(page: Page) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in page.arrays().items()}


def test_a_letter_at_its_own_size_is_its_glyph(data_dir):
    faces, sheets = Faces.load(data_dir), GlyphSheets.load(data_dir)
    place = CHARACTERS.index("R")
    page = Page.empty(1)
    start, advance = faces.starts_AG[0, place], faces.advances_AG[0, place]
    _lay(page.columns[0, :, 0], np.array([100.0]), np.array([start]), np.array([advance]), 1.0)
    page.row[0, 50 : 50 + HEIGHT] = np.arange(HEIGHT)
    drawn = render_text(tensors(page), sheets, SIDE)[0, 0]
    width = int(np.ceil(advance))
    strip = sheets.packed[: sheets.faces * HEIGHT * sheets.width].view(-1, sheets.width)[:HEIGHT]
    glyph = strip[:, int(start) - PAD : int(start) + width + PAD].float() / 255
    found = drawn[50 : 50 + HEIGHT, 100 - PAD : 100 + width + PAD]
    assert torch.allclose(found, 1 - 2 * glyph, atol=1e-5)
    assert glyph[: BASELINE + 1].sum() > 100 and glyph[BASELINE + 4 :].sum() < 1


@pytest.mark.parametrize("scale", [0.4, 0.9, 1.4])
def test_ink_grows_with_the_square_of_the_size(data_dir, scale):
    faces, sheets = Faces.load(data_dir), GlyphSheets.load(data_dir)
    place = CHARACTERS.index("o")

    def ink(scale: float) -> float:
        page = Page.empty(1)
        at = (faces.starts_AG[0, place : place + 1], faces.advances_AG[0, place : place + 1])
        _lay(page.columns[0, :, 0], np.array([100.0]), *at, scale)
        rows = int(HEIGHT * scale)
        page.row[0, 50 : 50 + rows] = (np.arange(rows) + 0.5) / scale - 0.5
        page.scale[0, 0] = scale
        return float((1 - render_text(tensors(page), sheets, SIDE)).sum())

    assert ink(scale) == pytest.approx(ink(1.0) * scale**2, rel=0.06)


def test_lines_stay_inside_and_apart(data_dir):
    faces, sheets = Faces.load(data_dir), GlyphSheets.load(data_dir)
    rng = random.Random(4)
    page = Page.empty(6)
    for index in range(6):
        lines = ["Willow, ink!", "QX-77 lantern harbour", "j", "gypsy"][: 1 + index % FEW_LINES]
        print_lines(page, index, lines, faces, index % len(faces.names), rng)
        page.ink[index], page.paper[index] = 0, 255
    pictures = render_text(tensors(page), sheets, SIDE)[:, 0]
    assert float(pictures[:, :3].min()) > 0.99 and float(pictures[:, :, :3].min()) > 0.99
    assert float(pictures[:, -3:].min()) > 0.99 and float(pictures[:, :, -3:].min()) > 0.99
    for index in range(6):
        dark_rows = (pictures[index] < 0).any(1).numpy()
        for line in range(1 + index % FEW_LINES):
            assert dark_rows[page.line[index] == line].any()


def test_lines_come_from_training_or_are_held_out():
    rng = random.Random(0)
    for held in (False, True):
        drawn = [line for _ in range(60) for line in random_lines(rng, WORDS, held=held)]
        assert all(held_line(line) == held for line in drawn)
        assert all(len(line) <= 56 and line.isascii() and line.strip() == line for line in drawn)


@pytest.mark.parametrize("characters", [64, 200, 512])
def test_a_page_has_about_as_many_characters_as_were_asked_for(characters):
    rng = random.Random(1)
    for held in (False, True):
        lines = random_page(rng, WORDS, characters=characters, held=held)
        assert held_line(lines[0]) == held and len(lines) <= LINES and all(line.isascii() for line in lines)
        assert characters <= sum(map(len, lines)) + 8 <= characters + 40


def test_a_wrong_size_and_too_many_lines_are_refused(data_dir):
    page = Page.empty(1)
    with pytest.raises(ValueError, match="laid out for 512"):
        render_text(tensors(page), GlyphSheets.load(data_dir), 256)
    with pytest.raises(ValueError, match="1 to 16 lines"):
        print_lines(page, 0, ["a"] * 17, Faces.load(data_dir), 0, random.Random(0))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"glyphs\.json"):
        Faces.load(tmp_path)
    with pytest.raises(InputError, match=r"glyphs\.png"):
        GlyphSheets.load(tmp_path)


def test_targets_of_a_page_are_its_lines(data_dir):
    stream = PictureStream(data_dir, "read", seed=0, rows=6)
    batch = stream.batch()
    for row in range(6):
        targets = batch["targets"][row]
        text = stream.tokenizer.decode(targets[targets != IGNORE])
        printed = sum(bool((batch["line"][row][batch["row"][row] > -8] == line).any()) for line in range(LINES))
        assert len(text.split("\n")) == printed
    assert not any(Faces.load(data_dir).held[face] for face in batch["face"]) or len(Faces.load(data_dir).names) == 1


def test_the_letter_over_a_patch_is_the_one_whose_room_holds_its_middle(data_dir):
    """Held against the picture: letters in reading order, ink where they are, none away from them."""
    faces, sheets = Faces.load(data_dir), GlyphSheets.load(data_dir)
    text = "HOME MW"
    pages = Page.empty(1)
    print_lines(pages, 0, [text], faces, 0, random.Random(3))
    row = pages.letters[0, 0]
    spoken = [CHARACTERS[code] for code in row if code != NO_LETTER]
    assert set(spoken) == set(text) - {" "}
    once = [letter for place, letter in enumerate(spoken) if place == 0 or spoken[place - 1] != letter]
    assert "".join(once) == text.replace(" ", "")  # from left to right, each letter's patches side by side
    drawn = render_text(tensors(pages), sheets, SIDE)[0, 0]
    paper = float(pages.paper[0, 0]) / 127.5 - 1
    inked = (drawn - paper).abs().amax(0).view(SIDE // PATCH, PATCH).amax(1) > 0.05
    # Over a patch with a letter there is ink in that letter's columns or beside them; far from letters there is none.
    for place, code in enumerate(row):
        if code != NO_LETTER:
            assert inked[max(0, place - 1) : place + 2].any()
    first, last = (int(np.flatnonzero(row != NO_LETTER)[end]) for end in (0, -1))
    assert not inked[: max(0, first - 1)].any() and not inked[last + 2 :].any()


def test_letters_equal_a_walk_along_the_advances(data_dir):
    faces, rng = Faces.load(data_dir), random.Random(5)
    for turn in range(20):
        page = Page.empty(1)
        lines = random_lines(rng, WORDS)
        print_lines(page, 0, lines, faces, 0, random.Random(turn))
        for number, line in enumerate(lines):
            scale = float(page.scale[0, number])
            covered = np.flatnonzero((page.columns[0, :, number] >= 0).any(0))
            pen = None
            for letter in line:  # the first column that the first letter's strip reaches gives the pen's start
                code = CHARACTERS.index(letter)
                if pen is None:
                    pen = float(covered[0]) + 0.5 + PAD * scale
                for place in range(SIDE // PATCH):
                    middle = (place + 0.5) * PATCH
                    if pen + 1 <= middle < pen + scale * faces.advances_AG[0, code] - 1:  # a pixel of play
                        wanted = NO_LETTER if letter == " " else code
                        assert page.letters[0, number, place] == wanted
                pen += scale * float(faces.advances_AG[0, code])
