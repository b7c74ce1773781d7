"""A file that was shown, opened as what it is; runs in the model's own process.

Shape letters: H height, W width, 3 colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dsv4
from dsv4._parts import part

DRAWN_SIDE = 512  # pixels at which a drawing is looked at


def look_at(path: str) -> Any:
    """A file as what it is: a picture, a document or a clip; a drawing is looked at as a picture of it."""
    suffix = Path(path).suffix
    if suffix == ".svg":
        from PIL import Image

        picture_HW3 = part("generation.svg").rasterise(Path(path).read_text(encoding="utf-8"), DRAWN_SIDE)
        return dsv4.image(Image.fromarray(picture_HW3))
    if suffix == ".pdf":
        return dsv4.document(path)
    return dsv4.video(path) if suffix in (".mp4", ".webm", ".mov", ".mkv") else dsv4.image(path)
