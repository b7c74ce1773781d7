"""Reading documents: page by page as a stream, boxes and warnings kept, memory flat, no page dropped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from app.cli import main
from app.commands.read import page_numbers
from dsv4 import EchoStudio, InputError, document, image
from dsv4.messages import Message
from dsv4.reading import PAGE_BREAK, Reading, ReadStream
from dsv4.results import Usage


@pytest.fixture
def paper(tmp_path) -> Path:
    """A PDF of three pages of 100 x 200 points."""
    pages = [Image.new("RGB", (100, 200), colour) for colour in ("red", "white", "blue")]
    path = tmp_path / "paper.pdf"
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=72)
    return path


def test_the_text_comes_in_pieces_and_the_pages_are_values(paper):
    stream = EchoStudio().read(document(paper), mode="base")
    first = next(stream)
    streamed = first + "".join(stream)
    said = "A page of 200 x 400, 273 tokens in mode base."
    assert [part.strip() for part in streamed.split(PAGE_BREAK)] == [said] * 3
    reading = stream.reading
    assert [(page.number, page.text, page.size, page.stopped) for page in reading.pages] == [
        (number, said, (200, 400), "end") for number in (1, 2, 3)
    ]
    assert reading.text == PAGE_BREAK.join([said] * 3) and not reading.warnings
    assert reading.provenance["settings"]["mode"] == "base"
    assert reading.pages[0].usage.pictures == 273


def test_some_pages_in_the_order_asked_for_one_after_the_other(paper):
    stream = EchoStudio().read(document(paper, pages=(1,)), pages=(3, 1), mode="tiny")
    pages = stream.pages()
    assert next(pages).number == 3
    assert [page.number for page in pages] == [1] and len(stream.reading.pages) == 2


def test_a_picture_is_a_document_of_one_page(scene):
    reading = EchoStudio().read(image(scene), mode="small").reading
    assert [page.size for page in reading.pages] == [(96, 64)]
    with pytest.raises(InputError, match="a picture has no pages"):
        EchoStudio().read(image(scene), pages=(1,))
    with pytest.raises(InputError, match="read takes document"):
        EchoStudio().read(Message.said("user", "hello"))


def test_a_cancelled_reading_keeps_what_was_read(paper):
    stream = EchoStudio().read(document(paper))
    pages = stream.pages()
    next(pages)
    stream.cancel()
    assert [page.number for page in stream.reading.pages] == [1]


class Writer:
    """A page of given pieces."""

    def __init__(self, pieces: list[str], stopped: str = "end") -> None:
        self.pieces, self.stopped, self.raw, self.usage = pieces, stopped, "".join(pieces), Usage()

    def __iter__(self):
        return iter(self.pieces)


def read(source, pieces: list[str], stopped: str = "end") -> ReadStream:
    return ReadStream(source, lambda picture, stop: Writer(pieces, stopped), provenance={})


def test_marks_are_never_shown_though_they_come_in_pieces(scene):
    whole = "<|ref|>title<|/ref|><|det|>[[1, 2, 300, 400]]<|/det|># Heading < 3 <b>bold</b>"
    for size in (1, 3, 7):
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
        stream = read(image(scene), pieces)
        assert "".join(stream) == "# Heading < 3 <b>bold</b>"
        (page,) = stream.reading.pages
        assert [(box.label, box.left, box.bottom) for box in page.boxes] == [("title", 1, 400)]


@pytest.mark.parametrize("stopped", ["loop", "length"])
def test_a_page_that_breaks_off_is_kept_with_a_warning(scene, stopped):
    reading = read(image(scene), ["what there is"], stopped).reading
    assert reading.pages[0].text == "what there is" and len(reading.warnings) == 1
    assert reading.text.startswith("what there is\n\n<!-- page 1: ")


def test_a_page_that_cannot_be_drawn_is_kept_with_the_reason(paper, monkeypatch):
    from vision import PdfFile

    drawn = PdfFile.page

    def failing(self, number):
        if number == 2:
            raise ValueError("page 2 cannot be drawn: it is broken")
        return drawn(self, number)

    monkeypatch.setattr(PdfFile, "page", failing)
    reading = EchoStudio().read(document(paper)).reading
    assert [page.stopped for page in reading.pages] == ["end", "unreadable", "end"]
    assert reading.warnings == ["page 2: page 2 cannot be drawn: it is broken"]
    with pytest.raises(InputError, match="it is broken"):
        EchoStudio().chat("read", document(paper)).reply  # noqa: B018 (a chat needs every page)


def test_files_hold_text_or_everything(paper, tmp_path):
    reading: Reading = EchoStudio().read(document(paper), pages=(2,)).reading
    assert reading.save(tmp_path / "a.md").read_text() == reading.text + "\n"
    (page,) = json.loads(reading.save(tmp_path / "a.json").read_text())["pages"]
    assert page["page"] == 2 and page["boxes"][0]["box"] == [250, 250, 749, 749]
    assert page["boxes"][0]["pixels"] == pytest.approx([50.1, 100.1, 149.9, 299.9], abs=0.1)
    with pytest.raises(InputError, match="unknown output format for read '.docx'"):
        reading.save(tmp_path / "a.docx")


def test_boxes_are_drawn_where_they_are(paper):
    kept = []
    stream = EchoStudio().read(document(paper), pages=(2,), on_page=lambda page, picture: kept.append((page, picture)))
    assert stream.reading.pages == (kept[0][0],)
    page, picture = kept[0]
    drawn = page.overlay(picture)
    assert drawn.size == picture.size
    changed = [y for y in range(400) if drawn.getpixel((140, y)) != picture.getpixel((140, y))]
    assert min(abs(y - 100) for y in changed) <= 1 and min(abs(y - 300) for y in changed) <= 1


def test_the_command_writes_text_boxes_and_pictures(paper, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DSV4_MODEL", "echo")
    out, boxes, overlay = tmp_path / "out.md", tmp_path / "boxes.json", tmp_path / "drawn"
    arguments = ["read", str(paper), "--mode", "gundam", "--tiles", "6", "--pages", "1,3"]
    assert main([*arguments, "-o", str(out), "--boxes", str(boxes), "--overlay", str(overlay)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text().count("in mode gundam") == 2
    assert [page["page"] for page in json.loads(boxes.read_text())["pages"]] == [1, 3]
    assert sorted(path.name for path in overlay.iterdir()) == ["page-0001.png", "page-0003.png"]
    assert main(["read", str(paper), "--mode", "tiny", "--pages", "2", "--turn", "90"]) == 0
    assert capsys.readouterr().out.strip() == "A page of 400 x 200, 73 tokens in mode tiny."
    assert main(["read", str(paper), "--json", "--pages", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["pages"][0]["text"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mode", "gundem"], "did you mean 'gundam'"),
        (["--tiles", "7"], "9 or 6"),
        (["--task", "markdwn"], "did you mean 'markdown'"),
        (["--task", "locate"], "go together"),
        (["--find", "x"], "go together"),
        (["--pages", "3-1"], "ranges such as 1-3,7"),
        (["--pages", "9"], "there is no page 9"),
        (["--pages", "1-999999"], "at most 2000"),
        (["--turn", "45"], "not 45"),
        (["-o", "out.docx"], "unknown output format"),
        (["--boxes", "out.md"], "so name it .json"),
        (["--overlay", "no/where"], "no folder"),
        (["--max-tokens", "0"], "max_tokens"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(paper, capsys, monkeypatch, arguments, says):
    monkeypatch.setenv("DSV4_MODEL", "echo")
    assert main(["read", str(paper), *arguments]) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_lists_of_pages():
    assert page_numbers("1-3, 7") == (1, 2, 3, 7) and page_numbers(None) == ()


MEASURE = """
import sys, dsv4
from dsv4 import document

def memory(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) // 1024

pages = dsv4.EchoStudio().read(document(sys.argv[1]), mode="tiny").pages()
for _ in range(5):
    next(pages)
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmHWM")
count = 5 + sum(1 for _ in pages)
print(count, memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_memory_does_not_grow_with_pages(tmp_path, python_environment):
    """Thirty pages of 850 x 1100 points take 32 MB each when drawn; held together they would take hundreds."""
    pages = [Image.new("RGB", (850, 1100), (8 * number, 90, 90)) for number in range(30)]
    path = tmp_path / "thirty.pdf"
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=72)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, env=python_environment, timeout=100
    )
    assert run.returncode == 0, run.stderr
    count, grown = map(int, run.stdout.split())
    assert count == 30 and grown < 40
