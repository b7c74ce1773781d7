"""What pictures cost in tokens in each mode of the eyes, told before anything is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from dsv4._parts import part

from ..looking import DRAWN_SIDE

MEASURED = (".pdf", ".mp4", ".webm", ".mov", ".mkv")
PATIENCE = 10  # seconds that a file may take to be measured


def choices(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(label, name) of every mode; the label carries the cost of these pictures when there are any."""
    sizes = picture_sizes(paths)
    labels = []
    for name, mode in part("vision").MODES.items():
        title = name.title()
        labels.append((f"{title} · {tokens(mode, sizes)}" if sizes else title, name))
    return labels


def cost_line(paths: Sequence[str], mode: str, model: str = "") -> str:
    """One sentence: what these pictures cost in this mode; of a repository, also what this model makes of it."""
    sizes = picture_sizes(paths)
    if paths and all(Path(path).suffix.lower() == ".zip" for path in paths):
        taught = " Nano was not taught code: what it answers is of no use." if model == "nano" else ""
        return (
            "A repository takes the room that the question leaves; what it asks for comes first, and in full. "
            f"Reading it takes a while.{taught}"
        )
    if not sizes:
        lost = " None of the files can be read as a picture." if paths else ""
        return f"The cost of a picture in tokens is shown here before you send it.{lost}"
    count = "1 picture" if len(sizes) == 1 else f"{len(sizes)} pictures"
    chosen = part("vision").MODES[mode]
    measure = ", ".join(f"{width} × {height}" for width, height in sizes[:4])
    return (
        f"{count} ({escape(measure)}) will take <b>{tokens(chosen, sizes)} tokens</b> in mode "
        f"{escape(mode)}, which is for {escape(chosen.use)}."
    )


def tokens(mode: Any, sizes: Sequence[tuple[int, int]]) -> int:
    """The places that pictures of these sizes take in the sequence, separators included."""
    return sum(mode.num_tokens(width, height).sequence for width, height in sizes)


def picture_sizes(paths: Sequence[str]) -> list[tuple[int, int]]:
    """(width, height) of all pictures in these files, upright, from their headers alone."""
    from PIL import Image

    sizes: list[tuple[int, int]] = []
    for path in paths:
        suffix = Path(path).suffix.lower()
        if suffix == ".svg":
            sizes.append((DRAWN_SIDE, DRAWN_SIDE))
        elif suffix == ".zip":
            continue  # read as a repository, not as pictures
        elif suffix in MEASURED:
            sizes += _measured(path)
        else:
            try:
                with Image.open(path) as picture:
                    turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF orientation: 5 to 8 lie on their side
                    sizes.append(picture.size[::-1] if turned else picture.size)
            except (OSError, ValueError, Image.DecompressionBombError):
                continue  # said when it is sent; here it only has no cost
    return sizes


@lru_cache(maxsize=64)
def _measured(path: str) -> tuple[tuple[int, int], ...]:
    """What the pages of a PDF or the frames of a clip measure; nothing when that cannot be found out."""
    module = f"{(__package__ or '').rpartition('.')[0]}.measure"
    command = [sys.executable, "-m", module, path]
    try:
        run = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True, text=True)
        return tuple((int(width), int(height)) for width, height in json.loads(run.stdout) if width > 0 < height)
    except (subprocess.SubprocessError, OSError, ValueError):
        return ()
