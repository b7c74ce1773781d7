"""Drawings are looked at as pictures, through the guarded renderer; scans that lie on their side can be turned."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dsv4 import InputError, document, image
from dsv4.pictures_in import open_pages, open_pictures

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="10" height="10" fill="#f00"/></svg>'


def test_a_drawing_is_seen_on_white_from_a_file_and_from_bytes(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text(DRAWING)
    for source in (path, DRAWING.encode(), b"\xef\xbb\xbf\n" + DRAWING.encode()):
        (seen,) = open_pictures([image(source)])
        assert seen.size == (1024, 512)
        assert seen.getpixel((200, 256)) == (255, 0, 0) and seen.getpixel((800, 256)) == (255, 255, 255)


def test_a_drawing_brings_nothing_in_from_outside(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "lime").save(secret)
    text = DRAWING.replace("<rect", f'<image href="{secret}" width="20" height="10"/><rect')
    (seen,) = open_pictures([image(text.encode())])
    assert not (np.asarray(seen) == (0, 255, 0)).all(-1).any()


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(InputError, match="is not a picture and cannot be drawn"):
        open_pictures([image(b"<svg><unclosed>")])
    path = tmp_path / "a.svg"
    path.write_text("<svg>" + " " * 600_000)
    with pytest.raises(InputError, match="at most 512,000 bytes|at most 512,000 of SVG"):
        open_pictures([image(path)])


@pytest.mark.parametrize(("turn", "red_at"), [(0, (2, 2)), (90, (17, 2)), (180, (37, 17)), (270, (2, 37))])
def test_pages_are_turned_clockwise(tmp_path, turn, red_at):
    page = Image.new("RGB", (40, 20), "white")
    page.paste((255, 0, 0), (0, 0, 5, 5))
    page.save(tmp_path / "a.tiff")
    ((number, seen),) = open_pages(document(tmp_path / "a.tiff", turn=turn), most=3)
    assert number == 1 and seen.size == ((40, 20) if turn in (0, 180) else (20, 40))
    assert seen.getpixel(red_at) == (255, 0, 0)
    assert int((np.asarray(seen)[..., 1] == 0).sum()) == 25


def test_another_turn_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match="0, 90, 180, 270 degrees, not 45"):
        document(tmp_path / "a.tiff", turn=45)
