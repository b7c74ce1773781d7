"""Reading documents: a stream of text page by page, each page a value with its boxes, no page ever dropped.

A reading holds text, never pictures, so memory does not grow with pages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.grounding import Box, parse_boxes, settled, without_boxes
from dsv4.limits import READ_PAGES, check_count
from dsv4.messages import Document, Image
from dsv4.pictures_in import open_pages, open_pictures
from dsv4.results import Usage, check_output, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Stopped = Literal["end", "length", "loop", "cancelled", "unreadable"]
TASKS = ("markdown", "ocr", "text", "figure", "describe", "locate")
UNREAD = ("nano",)  # shipped models that were not taught print
PAGE_BREAK = "\n\n---\n\n"
WARNINGS: dict[Stopped, str] = {
    "length": "the page was longer than the limit of tokens; its end is missing",
    "loop": "the model began to repeat itself; the repetition was cut off and what follows is missing",
    "cancelled": "reading was stopped; the end of this page is missing",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What was read on one page; `raw` is what the model wrote, `warning` says what is missing and why."""

    number: int
    text: str
    raw: str = ""
    boxes: tuple[Box, ...] = ()
    size: tuple[int, int] = (0, 0)
    stopped: Stopped = "end"
    warning: str = ""
    usage: Usage = field(default_factory=Usage)

    def overlay(self, picture: PilImage) -> PilImage:
        """A copy of the page's picture with the boxes drawn in."""
        width, height = picture.size
        return part("vision").draw_boxes(picture, [(box.label, box.pixels(width, height)) for box in self.boxes])

    def record(self) -> dict[str, Any]:
        """The page as JSON: boxes in thousandths and in pixels of the page as it was read."""
        boxes = [
            {
                "label": box.label,
                "box": [box.left, box.top, box.right, box.bottom],
                "pixels": [round(side, 1) for side in box.pixels(*self.size)],
            }
            for box in self.boxes
        ]
        about = {"page": self.number, "width": self.size[0], "height": self.size[1], "text": self.text}
        return {**about, "boxes": boxes, "stopped": self.stopped, "warning": self.warning}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A whole document as it was read."""

    pages: tuple[Page, ...]
    provenance: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Markdown of all pages, with a line between them; a warning stands as a comment where it belongs."""
        parts = []
        for page in self.pages:
            note = f"<!-- page {page.number}: {page.warning.replace('--', '- -')} -->" if page.warning else ""
            parts.append("\n\n".join(filter(None, [page.text, note])))
        return PAGE_BREAK.join(parts)

    @property
    def warnings(self) -> list[str]:
        """One line for each page that is not whole."""
        return [f"page {page.number}: {page.warning}" for page in self.pages if page.warning]

    def record(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {"pages": [page.record() for page in self.pages], "made_by": dict(self.provenance)}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `.md` or `.txt` as text, `.json` with boxes and warnings; raises InputError if that cannot be done."""
        target = check_output(path, "read")
        if target.suffix.lower() == ".json":
            content = json.dumps(self.record(), ensure_ascii=False, indent=1)
        else:
            content = self.text
        write_whole(target, (content + "\n").encode())
        return target


class PageWriter(Protocol):
    """What a model writes about one page: iterate for the pieces; the rest is known at the end.

    `raw` is what is kept of it: a loop is shown while it runs, and kept once.
    """

    raw: str
    stopped: Stopped
    usage: Usage

    def __iter__(self) -> Iterator[str]: ...


# Writes one page: its picture, and what says whether to stop.
WritePage = Callable[["PilImage", Callable[[], bool]], PageWriter]


class ReadStream:
    """A document as it is read. Iterate for the text; `.pages()` gives whole pages; `.reading` is all of it.

    All three go on from where the others are: the document is read once. `on_page(page, picture)` is called with each
    finished page and its picture, which is let go of afterwards.
    """

    def __init__(
        self,
        source: Document | Image,
        write: WritePage,
        *,
        provenance: Mapping[str, Any],
        dpi: int | None = None,
        on_page: Callable[[Page, PilImage], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._provenance, self._write, self._on_page, self._outside = provenance, write, on_page, cancelled
        self._cancelled = False
        self._done: list[Page] = []
        self._pieces = self._run(_opened(source, dpi))

    def __iter__(self) -> ReadStream:
        return self

    def __next__(self) -> str:
        for piece in self._pieces:
            if piece:
                return piece
        raise StopIteration

    def cancel(self) -> None:
        """End the reading before its next piece; what was read stays."""
        self._cancelled = True

    def pages(self) -> Iterator[Page]:
        """Pages as they are finished."""
        given = 0
        while True:
            while given < len(self._done):
                yield self._done[given]
                given += 1
            if next(self._pieces, None) is None and given == len(self._done):
                return

    @property
    def reading(self) -> Reading:
        """The whole reading; waits for what has not been read."""
        for _ in self._pieces:
            pass
        return Reading(pages=tuple(self._done), provenance=self._provenance)

    def _stop(self) -> bool:
        if self._outside is not None and self._outside():
            self._cancelled = True
        return self._cancelled

    def _run(self, pages: Iterator[tuple[int, PilImage | InputError]]) -> Iterator[str]:
        for number, opened in pages:
            if self._stop():
                return
            if self._done:
                yield PAGE_BREAK
            if isinstance(opened, InputError):
                self._done.append(Page(number=number, text="", stopped="unreadable", warning=str(opened)))
            else:
                yield from self._page(number, opened)
            yield ""  # the page is done: whoever waits for whole pages gets it before the next one is drawn

    def _page(self, number: int, picture: PilImage) -> Iterator[str]:
        writer = self._write(picture, self._stop)
        raw, given = "", 0
        for piece in writer:
            raw += piece
            clean = without_boxes(raw[: settled(raw)])
            if len(clean) > given:
                yield clean[given:]
                given = len(clean)
        clean = without_boxes(raw)
        if len(clean) > given:
            yield clean[given:]
        page = Page(
            number=number,
            text=without_boxes(writer.raw).strip(),
            raw=writer.raw,
            boxes=tuple(parse_boxes(writer.raw)),
            size=picture.size,
            stopped=writer.stopped,
            warning=WARNINGS.get(writer.stopped, ""),
            usage=writer.usage,
        )
        if self._on_page is not None:
            self._on_page(page, picture)
        self._done.append(page)


def check_reader(studio: object) -> None:
    """Raise InputError when a model cannot read documents: it has no such verb, or has not learnt print."""
    name = str(getattr(studio, "name", "this model"))
    if not hasattr(studio, "read") or name in UNREAD:
        raise InputError(
            f"the model '{name}' cannot read documents: it has not learnt print. Load one that can, for example a "
            "folder as DeepSeek-OCR is released, with --model FOLDER"
        )


def check_task(task: str, find: str, allowed: tuple[str, ...] = TASKS) -> str:
    """A name from TASKS that this model knows; `locate` needs something to find. Raises InputError."""
    if task not in allowed:
        raise unknown("reading task", task, allowed)
    if (task == "locate") != bool(find.strip()):
        raise InputError("the task 'locate' and find='what to look for' go together")
    return task


def with_pages(source: Document | Image, pages: tuple[int, ...]) -> Document | Image:
    """The source with `pages` in place of its own, when there are any; InputError for a picture or too many."""
    if not isinstance(source, Document | Image):
        raise InputError(f"read takes document(...) or image(...), got {type(source).__name__}")
    if not pages:
        return source
    if isinstance(source, Image):
        raise InputError("a picture has no pages; open a file of many pages with document(...)")
    check_count("pages", pages, READ_PAGES)
    return Document(source=source.source, pages=tuple(pages), turn=source.turn)


def _opened(source: Document | Image, dpi: int | None) -> Iterator[tuple[int, PilImage | InputError]]:
    if isinstance(source, Image):
        (picture,) = open_pictures([source])
        return iter([(1, picture)])
    return open_pages(source, most=READ_PAGES, dpi=dpi, keep_going=True)
