"""`dsv4 read`: a document into markdown, page by page, with boxes as JSON and as pictures."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dsv4
from dsv4 import limits
from dsv4.errors import InputError
from dsv4.messages import DOCUMENT_SUFFIXES, document, image
from dsv4.reading import check_task
from dsv4.results import check_output

from ..settings import resolve

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from dsv4.reading import Page

SOME_FAILED = 3


def run(args: argparse.Namespace) -> int:
    """Read, and say what is missing; status 3 when some page is not whole."""
    check_task(args.task, args.find)
    limits.check_tiles(args.mode, args.tiles)
    limits.check_numbers(max_tokens=args.max_tokens)
    pages = page_numbers(args.pages)
    for path, kind in ((args.output, "read"), (args.boxes, "read")):
        if path:
            check_output(path, kind)
    if args.boxes and Path(args.boxes).suffix.lower() != ".json":
        raise InputError(f"--boxes writes JSON, so name it .json, not '{args.boxes}'")
    overlay = _folder(args.overlay) if args.overlay else None
    source = _source(args, pages)
    studio, started = dsv4.load(resolve("model", args.model).value), time.monotonic()

    def on_page(page: Page, picture: PilImage) -> None:
        if overlay is not None:
            page.overlay(picture).save(overlay / f"page-{page.number:04d}.png")
        if not args.quiet and not args.json and sys.stderr.isatty():
            print(f"page {page.number}: {page.usage.pictures} picture tokens", file=sys.stderr)

    stream = studio.read(
        source,
        mode=args.mode,
        task=args.task,
        find=args.find,
        tiles=args.tiles,
        max_tokens=args.max_tokens,
        on_page=on_page,
    )
    shown = not args.json and not args.output
    for piece in stream:
        if shown:
            print(piece, end="", flush=True)
    reading = stream.reading
    if shown:
        print()
    for path in filter(None, (args.output, args.boxes)):
        reading.save(path)
    if args.json:
        print(json.dumps({**reading.record(), "seconds": round(time.monotonic() - started, 3)}, ensure_ascii=False))
    elif args.output and not args.quiet:
        print(args.output)
    if not args.json:
        for warning in reading.warnings:
            print(f"dsv4: {warning}", file=sys.stderr)
    return SOME_FAILED if reading.warnings else 0


def page_numbers(text: str | None) -> tuple[int, ...]:
    """`1-3,7` as (1, 2, 3, 7); raises InputError for anything else."""
    if not text:
        return ()
    numbers: list[int] = []
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", piece)
        if not found or int(found[1]) < 1 or (found[2] and int(found[2]) < int(found[1])):
            raise InputError(f"--pages takes numbers from 1 and ranges such as 1-3,7, not '{text}'")
        first, last = int(found[1]), int(found[2] or found[1])
        limits.check_count("pages", [*numbers, *range(first, last + 1)], limits.READ_PAGES)
        numbers += range(first, last + 1)
    return tuple(numbers)


def _source(args: argparse.Namespace, pages: tuple[int, ...]) -> Any:
    if Path(args.file).suffix.lower() in DOCUMENT_SUFFIXES:
        return document(args.file, pages=pages, turn=args.turn)
    if pages or args.turn:
        raise InputError("--pages and --turn are for documents: " + ", ".join(DOCUMENT_SUFFIXES))
    return image(args.file)


def _folder(name: str) -> Path:
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--overlay: '{name}' is a file; name a folder")
    if not folder.parent.is_dir():
        raise InputError(f"--overlay: no folder '{folder.parent}' to make '{folder.name}' in")
    folder.mkdir(exist_ok=True)
    return folder
