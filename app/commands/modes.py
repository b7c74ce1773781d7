"""`dsv4 modes`: what a picture or page costs in each mode, which is enough, and where it would be cut into tiles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dsv4 import limits
from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.messages import DOCUMENT_SUFFIXES, document, image
from dsv4.pictures_in import open_pages, open_pictures
from dsv4.results import check_output


def run(args: argparse.Namespace) -> int:
    """Print the table; with --draw, write the picture with the tiles of --mode."""
    vision = part("vision")
    if args.kind and args.kind not in vision.EDIT_DISTANCE:
        raise unknown("kind of document", args.kind, vision.EDIT_DISTANCE)
    chosen = limits.check_tiles(args.mode, args.tiles)
    if args.draw:
        check_output(args.draw, "image")
    picture = _first(args.file)
    rows = [_row(_limited(mode, args.tiles), *picture.size) for mode in vision.MODES.values()]
    advice = vision.advise(args.kind, *picture.size) if args.kind else None
    if args.draw:
        vision.draw_tiles(picture, chosen).save(args.draw)
    if args.json:
        about: dict[str, Any] = {"width": picture.width, "height": picture.height, "modes": rows}
        print(json.dumps({**about, "advice": advice.mode.name if advice else None}))
        return 0
    print(f"{picture.width} x {picture.height} pixels")
    print(f"{'mode':<9}{'tokens':>8}{'of paper':>10}{'valid':>8}{'tiles':>8}  for")
    for row in rows:
        tiles = "{}x{}".format(*row["tiles"]) if row["tiles"][0] else "-"
        print(f"{row['mode']:<9}{row['tokens']:>8}{row['paper']:>10}{row['valid']:>8}{tiles:>8}  {row['use']}")
    if advice:
        print(advice.why)
    return 0


def _row(mode: Any, width: int, height: int) -> dict[str, Any]:
    count = mode.num_tokens(width, height)
    return {
        "mode": mode.name,
        "tokens": count.sequence,
        "paper": count.paper,
        "valid": mode.valid_tokens(width, height),
        "tiles": list(mode.tile_grid(width, height)),
        "use": mode.use,
    }


def _limited(mode: Any, tiles: int | None) -> Any:
    return part("vision").get_mode(mode, tiles=tiles) if mode.tile else mode


def _first(name: str) -> Any:
    """The picture, or the first page of a document."""
    if Path(name).suffix.lower() not in DOCUMENT_SUFFIXES:
        (picture,) = open_pictures([image(name)])
        return picture
    for _, page in open_pages(document(name, pages=(1,)), most=1):
        return page
    raise InputError(f"'{name}' has no pages")
