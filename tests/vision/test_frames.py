"""Files of many pictures: frames, pages and moments come one at a time, upright, in the order asked for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision import PdfFile, open_frames

COLOURS = ("red", "lime", "blue", "black")


def written(path: Path, **options) -> Path:
    pages = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return path


def colour(picture: Image.Image) -> str:
    seen = np.asarray(picture)[15, 20].astype(int)
    return min(COLOURS, key=lambda name: abs(np.asarray(Image.new("RGB", (1, 1), name))[0, 0].astype(int) - seen).sum())


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.tiff", {})])
def test_frames_of_animations_and_pages(tmp_path, name, options):
    path = written(tmp_path / name, **options)
    assert [(n, colour(page)) for n, page in open_frames(path, most=9)] == list(enumerate(COLOURS, 1))
    assert [(n, colour(page)) for n, page in open_frames(path, (3, 1), most=9)] == [(3, "blue"), (1, "red")]
    assert [colour(page) for _, page in open_frames(path.read_bytes(), (2,), most=9)] == ["lime"]
    with pytest.raises(ValueError, match="has 4 pages; there is no page 7"):
        list(open_frames(path, (7,), most=9))
    with pytest.raises(ValueError, match="more than 3 pages"):
        list(open_frames(path, most=3))


def test_a_page_that_is_too_large_is_refused_and_the_one_before_it_is_not(tmp_path, monkeypatch):
    from vision import pictures

    small, large = Image.new("RGB", (10, 10), "red"), Image.new("RGB", (90, 90))
    small.save(tmp_path / "a.tiff", save_all=True, append_images=[large])
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    pages = open_frames(tmp_path / "a.tiff", most=9)
    assert next(pages)[1].size == (10, 10)
    with pytest.raises(ValueError, match="90 x 90 pixels; at most 1,000"):
        next(pages)


def test_pages_of_a_pdf(tmp_path):
    path = written(tmp_path / "a.pdf", resolution=72)
    with PdfFile(path) as pdf:
        assert pdf.count == 4
        assert [(n, colour(page.resize((40, 30)))) for n, page in pdf.pages()] == list(enumerate(COLOURS, 1))
        assert pdf.page(2).size == (80, 60)
        with pytest.raises(ValueError, match="has 4 pages; there is no page 5"):
            pdf.page(5)
    with PdfFile(path, dpi=36) as pdf:
        assert pdf.page(1).size == (20, 15)


def test_a_pdf_whose_program_dies_goes_on_with_the_next_page(tmp_path):
    with PdfFile(written(tmp_path / "a.pdf")) as pdf:
        pdf._child.kill()
        pdf._child.wait()
        assert colour(pdf.page(3).resize((40, 30))) == "blue"
        os.kill(pdf._child.pid, signal.SIGSTOP)
        pdf.seconds = 0.2
        with pytest.raises(ValueError, match="page 1 of .* cannot be drawn"):
            pdf.page(1)
        pdf.seconds = 20.0
        assert colour(pdf.page(1).resize((40, 30))) == "red"


def huge_page() -> bytes:
    """A page whose box claims a square of two hundred million points a side."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200000000 200000000]>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 4\n0000000000 65535 f \n" + table
    return out + b"trailer\n<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start


def test_bad_pdfs_are_named_and_huge_pages_stay_small(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7 and nothing more")
    with pytest.raises(ValueError, match="'.*a.pdf' cannot be read: it is not a PDF"):
        PdfFile(path)
    with pytest.raises(ValueError, match="there is no file"):
        PdfFile(tmp_path / "none.pdf")
    path.write_bytes(huge_page())
    with PdfFile(path) as pdf:
        assert max(pdf.page(1).size) <= 4096
