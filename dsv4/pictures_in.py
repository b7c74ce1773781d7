"""Open what a message shows: pictures as they are, SVG drawn, documents page by page, clips as frames at even times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.limits import DOCUMENT_PAGES, PICTURE_RATIO, PICTURES, SVG_BYTES, check_count
from dsv4.messages import Document, Image, Video

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

SVG_SIDE = 1024  # pixels of the longer side at which a drawing is looked at


def open_pictures(shown: Iterable[Image | Document | Video]) -> list[PilImage]:
    """Upright RGB pictures of all parts, in order; raises InputError that names the part which cannot be read."""
    pictures: list[PilImage] = []
    for one in shown:
        if isinstance(one, Image):
            pictures.append(_open(one.source))
        elif isinstance(one, Document):
            pictures.extend(page for _, page in open_pages(one, most=DOCUMENT_PAGES))
        elif isinstance(one, Video):
            pictures.extend(_frames(one))
        else:
            kind = type(one).__name__
            raise InputError(f"show a picture as image(...), document(...) or video(...), got {kind}")
        check_count("pictures", pictures, PICTURES)
    return pictures


def open_pages(
    document: Document, *, most: int, dpi: int | None = None, keep_going: bool = False
) -> Iterator[tuple[int, PilImage | InputError]]:
    """(number, upright RGB picture) of a document's pages, one at a time, turned as the document says.

    With `keep_going` a page that cannot be drawn comes as the InputError that says why. Otherwise, and for what
    cannot be read at all, a page that is not there, or more than `most` pages, it is raised.
    """
    pages = _pdf_pages(document, most, dpi) if document.source.suffix.lower() == ".pdf" else _many(document, most)
    with closing(pages):
        for number, page in _named(pages, keep_going):
            if isinstance(page, ValueError) and not keep_going:
                raise InputError(str(page)) from page
            yield number, InputError(str(page)) if isinstance(page, ValueError) else turned(page, document.turn)


def _named(pages: Iterator[tuple[int, Any]], keep_going: bool) -> Iterator[tuple[int, Any]]:
    """The same pages; where the file itself breaks off behind a good one, the break stands for the next."""
    number = 0
    try:
        for number, page in pages:
            yield number, page
    except ValueError as error:
        if not keep_going or not number:
            raise InputError(str(error)) from error
        yield number + 1, error


def turned(picture: PilImage, degrees: int) -> PilImage:
    """The picture turned clockwise by 0, 90, 180 or 270 degrees."""
    return picture.rotate(-degrees, expand=True) if degrees else picture


def _pdf_pages(document: Document, most: int, dpi: int | None) -> Iterator[tuple[int, PilImage | ValueError]]:
    with part("vision").PdfFile(document.source, **({"dpi": dpi} if dpi else {})) as pdf:
        for number in wanted_pages(document, pdf.count, most=most):
            try:
                page = pdf.page(number)
            except ValueError as error:
                page = error
            yield number, page


def _many(document: Document, most: int) -> Iterator[tuple[int, PilImage | ValueError]]:
    check_count("pages", document.pages, most)
    return part("vision").open_frames(document.source, document.pages, most=most)


def wanted_pages(document: Document, count: int, *, most: int) -> list[int]:
    """The pages to read of a document that has `count`; InputError for one that is not there, and for too many."""
    beyond = [page for page in document.pages if page > count]
    if beyond:
        raise InputError(f"'{document.source}' has {count} pages; there is no page {beyond[0]}")
    wanted = list(document.pages) or list(range(1, count + 1))
    if len(wanted) > most:
        raise InputError(f"{len(wanted)} pages; at most {most} are read at once, so name them with pages=")
    return wanted


def _open(source: Path | bytes | PilImage) -> PilImage:
    try:
        if isinstance(source, Path) and source.suffix.lower() == ".svg":
            return _drawn(source)
        if isinstance(source, bytes) and source[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return _drawn(source)
        opened = part("vision").open_picture(source)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    if max(opened.size) > PICTURE_RATIO * min(opened.size):
        name, (width, height) = f"'{source}'" if isinstance(source, Path) else "the picture", opened.size
        most = f"a side may be at most {PICTURE_RATIO} times the other"
        raise InputError(f"{name} is {width} x {height}: {most}, so crop it")
    return opened


def _drawn(source: Path | bytes) -> PilImage:
    """An SVG rebuilt from the allow-list and drawn on white by the guarded child."""
    from PIL import Image as pil

    length = source.stat().st_size if isinstance(source, Path) else len(source)
    name = f"'{source}'" if isinstance(source, Path) else "what begins like a drawing is not a picture and"
    if length > SVG_BYTES:
        raise ValueError(f"{name} has {length:,} bytes, of which at most {SVG_BYTES:,} of SVG are read")
    text = source.read_bytes() if isinstance(source, Path) else source
    try:
        return pil.fromarray(part("generation.svg").rasterise(text, SVG_SIDE, "white"))
    except ValueError as error:
        raise ValueError(f"{name} cannot be drawn: {error}") from error


def _frames(video: Video) -> list[PilImage]:
    from PIL import Image as pil

    try:
        clip = part("generation.clips").read_clip(video.source, video.frames)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    return [_open(pil.fromarray(frame_HW3)) for frame_HW3 in clip.frames_NHW3]
