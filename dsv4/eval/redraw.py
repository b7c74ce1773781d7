"""Pictures redrawn as SVG, scored by likeness (SSIM) on scenes and icons that were not trained as pictures to redraw.

Run as `python -m dsv4.eval.redraw --data build/data`. Scenes are laid out by chance, of held-out pairs among others; an
icon is shown in black on white. Shape letters: H, W pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.errors import unknown
from dsv4.limits import check_trace
from dsv4.redraw import SIDE

SCENES = ("one", "two", "pair", "three")
KINDS = (*SCENES, "shapes", "icon")
Shown = tuple[str, np.ndarray]  # what it is called, and its picture


def cases(data_dir: Path, kind: str, *, limit: int, seed: int = 0) -> Iterator[Shown]:
    """`limit` pictures of a kind with their captions; InputError for an unknown kind."""
    from dsv4.data.atlas import Atlas
    from dsv4.eval import seeing, shapescore

    if kind in SCENES:
        found = seeing.cases(data_dir, kind, limit=limit, seed=seed)
        for case, shown_HW3 in zip(found, seeing.pictures(found, Atlas.load(data_dir)), strict=True):
            yield case.caption.text(), np.asarray(shown_HW3)
    elif kind == "shapes":
        for case in shapescore.cases(data_dir, "position", limit=limit, seed=seed):
            yield case.prompt, shapescore.truth(case, size=512)
    elif kind == "icon":
        yield from _icons(data_dir, limit, seed)
    else:
        raise unknown("kind of picture", kind, KINDS)


def _icons(data_dir: Path, limit: int, seed: int) -> Iterator[Shown]:
    import random

    from dsv4.data.documents import Documents

    documents, svg = Documents(data_dir, seed=seed), part("generation.svg")
    for place in random.Random(f"redraw {seed}").sample(list(documents.named_icons), limit):
        text = svg.partial([int(token) for token in documents.icons["drawing"][int(place)]])
        yield documents.icon_request(int(place), 0), svg.rasterise(text, 512)


def run(
    studio: Any, data_dir: Path, kind: str, *, limit: int, seed: int = 0, trace: str = "auto"
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows of what was seen, how it was drawn and how like it is, and cells for a sheet: picture and drawing."""
    from PIL import Image

    from dsv4.messages import image

    svg, rows, cells = part("generation.svg"), [], []
    for caption, shown_HW3 in cases(data_dir, kind, limit=limit, seed=seed):
        content, started = io.BytesIO(), time.monotonic()
        Image.fromarray(shown_HW3).save(content, "PNG")
        made = studio.svg(picture=image(content.getvalue()), trace=trace)
        told = made.provenance["settings"]
        rows.append({"caption": caption, "seen": told["seen"], "ssim": told["likeness"]})
        rows[-1]["made_by"] = told.get("made_by", "words")
        rows[-1]["seconds"] = round(time.monotonic() - started, 1)
        words = f"SSIM {told['likeness']:.2f}, {rows[-1]['made_by']}: {told['seen']}"
        cells.append((words, [shown_HW3, svg.rasterise(made.text, 2 * SIDE)]))
    return rows, cells


def main(argv: list[str] | None = None) -> int:
    """Print mean likeness a kind, and the share at or above 0.8; write rows and a contact sheet where asked to."""
    from dsv4.eval.sheet import draw_sheet
    from dsv4.studio import Studio

    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.redraw", description="pictures redrawn as SVG")
    parser.add_argument("--data", required=True, type=Path, help="folder made by `dsv4 data build`")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between")
    parser.add_argument("--limit", type=int, default=20, help="pictures of each kind")
    parser.add_argument("--trace", default="auto", help="auto (default), never or always, as `dsv4 svg --trace`")
    parser.add_argument("--out", type=Path, help="also write the rows here, as JSON")
    parser.add_argument("--sheet", type=Path, help="also write pictures and drawings here, as one PNG")
    args = parser.parse_args(argv)
    studio, record, sheet = Studio.load(args.model), {}, []
    for kind in (name.strip() for name in args.kinds.split(",")):
        rows, cells = run(studio, args.data, kind, limit=args.limit, trace=check_trace(args.trace))
        alike = np.array([row["ssim"] for row in rows])
        print(
            f"{kind:<7} {len(rows):>3} pictures  SSIM {alike.mean():.3f}, middle {np.median(alike):.3f}, "
            f"{100 * (alike >= 0.8).mean():.0f} % at 0.8 or more, "
            f"{100 * np.mean([row['made_by'] == 'traced' for row in rows]):.0f} % traced",
            flush=True,
        )
        record[kind] = rows
        sheet += cells[:4]
    if args.out:
        args.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.sheet:
        draw_sheet(sheet, columns=8).save(args.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
