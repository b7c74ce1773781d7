"""Reading a document as a job: what may be asked, whether the model can, and the files that come of it.

Runs in two processes, as `kinds` does. A reading leaves markdown, JSON with the boxes, and a picture of every page that
has boxes, with them drawn in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dsv4
from dsv4 import limits
from dsv4.errors import InputError
from dsv4.messages import DOCUMENT_SUFFIXES
from dsv4.reading import check_reader, check_task
from dsv4.results import Progress

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from dsv4.reading import Page

DEFAULTS: dict[str, Any] = {"mode": "gundam", "task": "markdown", "find": "", "pages": [], "max_tokens": 4096}
OVERLAYS = limits.DOCUMENT_PAGES  # pages whose boxes are drawn; the JSON has those of all
SHOWN_SIDE = 1200  # pixels of the longer side of a page with boxes


def check(params: Mapping[str, Any]) -> dict[str, Any]:
    """The whole settings of a reading; raises InputError for what `read` would refuse."""
    found = {name: params.get(name, value) for name, value in DEFAULTS.items()}
    shown, pages = list(params.get("shown", ())), found["pages"]
    if len(shown) != 1:
        raise InputError(f"reading takes one document or picture, got {len(shown)}")
    if not isinstance(found["task"], str) or not isinstance(found["find"], str):
        raise InputError("task and find are words")
    check_task(found["task"], found["find"])
    limits.check_mode(found["mode"])
    limits.check_numbers(max_tokens=found["max_tokens"])
    if not isinstance(pages, list) or not all(type(page) is int and 1 <= page < 10**6 for page in pages):
        raise InputError("pages is a list of page numbers, counted from 1")
    limits.check_count("pages", pages, limits.READ_PAGES)
    words = " ".join(str(params.get("prompt") or found["find"] or found["task"]).split())
    return {"prompt": limits.check_prompt(words), **found, "shown": shown}


def check_can(studio: Any, kind: str) -> None:
    """Raise InputError when the loaded model lacks a verb, or has not learnt it."""
    if kind == "read":
        check_reader(studio)
    try:
        getattr(studio, kind)
    except AttributeError as error:
        raise InputError(f"the model '{getattr(studio, 'name', '')}' cannot do this: it has no `{kind}`") from error


def perform(
    studio: Any,
    params: Mapping[str, Any],
    files: Mapping[str, str],
    out: Path,
    tell: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Read, and write `out` with several suffixes; returns what to know of it."""
    path, drawn = files[params["shown"][0]], list[str]()

    def on_page(page: Page, picture: PilImage) -> None:
        tell(Progress(step=page.number, total=max(page.number, len(params["pages"]))))
        if page.boxes and len(drawn) < OVERLAYS:
            drawn.append(str(out.with_name(f"{out.name}.page-{page.number}.png")))
            shown = page.overlay(picture)
            shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
            shown.save(drawn[-1])

    stream = studio.read(
        _opened(path),
        mode=params["mode"],
        task=params["task"],
        find=params["find"],
        pages=tuple(params["pages"]),
        max_tokens=params["max_tokens"],
        on_page=on_page,
        cancelled=cancelled,
    )
    for piece in stream:
        tell(Progress(step=0, total=0, text_delta=piece))
    reading = stream.reading
    written = [str(reading.save(out.with_name(f"{out.name}{suffix}"))) for suffix in (".md", ".json")]
    usage = {name: sum(getattr(page.usage, name) for page in reading.pages) for name in ("read", "written", "pictures")}
    told = {"text": reading.text, "pages": reading.record()["pages"], "warnings": reading.warnings}
    return {"files": [*drawn, *written], "made_by": dict(reading.provenance), "usage": usage, **told}


def _opened(path: str) -> Any:
    return dsv4.document(path) if Path(path).suffix in DOCUMENT_SUFFIXES else dsv4.image(path)
