"""Open what a message shows: pictures as they are, documents page by page, clips as frames at even times."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.limits import DOCUMENT_PAGES, PICTURES, check_count
from dsv4.messages import Document, Image, Video

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage


def open_pictures(shown: Iterable[Image | Document | Video]) -> list[PilImage]:
    """Upright RGB pictures of all parts, in order; raises InputError that names the part which cannot be read."""
    pictures: list[PilImage] = []
    for one in shown:
        if isinstance(one, Image):
            pictures.append(_open(one.source))
        elif isinstance(one, Document):
            pictures.extend(_pages(one))
        elif isinstance(one, Video):
            pictures.extend(_frames(one))
        else:
            kind = type(one).__name__
            raise InputError(f"show a picture as image(...), document(...) or video(...), got {kind}")
        check_count("pictures", pictures, PICTURES)
    return pictures


def _open(source: Path | bytes | PilImage) -> PilImage:
    try:
        return part("vision").open_picture(source)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error


def _pages(document: Document) -> list[PilImage]:
    if document.source.suffix.lower() == ".pdf":
        return _pdf_pages(document)
    from PIL import Image as pil
    from PIL import ImageSequence

    try:
        with pil.open(document.source) as file:
            count = getattr(file, "n_frames", 1)
            wanted = _wanted(document, count)
            found = {i + 1: page.copy() for i, page in enumerate(ImageSequence.Iterator(file)) if i + 1 in wanted}
    except OSError as error:
        raise InputError(f"'{document.source}' is not a document that can be read: {error}") from error
    return [_open(found[page]) for page in wanted]


def _pdf_pages(document: Document) -> list[PilImage]:
    try:
        import pypdfium2
    except ModuleNotFoundError as error:
        raise InputError("reading a PDF needs one more package: pip install 'dsv4-studio[pdf]'") from error
    try:
        with pypdfium2.PdfDocument(document.source) as pdf:
            return [pdf[page - 1].render(scale=2).to_pil().convert("RGB") for page in _wanted(document, len(pdf))]
    except pypdfium2.PdfiumError as error:
        raise InputError(f"'{document.source}' is not a PDF that can be read: {error}") from error


def _wanted(document: Document, count: int) -> list[int]:
    beyond = [page for page in document.pages if page > count]
    if beyond:
        raise InputError(f"'{document.source}' has {count} pages; there is no page {beyond[0]}")
    wanted = list(document.pages) or list(range(1, count + 1))
    if len(wanted) > DOCUMENT_PAGES:
        raise InputError(f"{len(wanted)} pages; at most {DOCUMENT_PAGES} are read at once, so name them with pages=")
    return wanted


def _frames(video: Video) -> list[PilImage]:
    from PIL import Image as pil

    try:
        clip = part("generation.clips").read_clip(video.source, video.frames)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    return [_open(pil.fromarray(frame_HW3)) for frame_HW3 in clip.frames_NHW3]
