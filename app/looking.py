"""A file that was shown, opened as what it is; runs in the model's own process.

Shape letters: H height, W width, 3 colours.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import dsv4
from dsv4._parts import part
from dsv4.repository.unzip import unzip

DRAWN_SIDE = 512  # pixels at which a drawing is looked at


class Looker(ExitStack):
    """Looks at the files of one conversation; a zip is a repository, unpacked once and gone when this is left."""

    def __enter__(self) -> Self:
        self._repositories: dict[str, Any] = {}
        return super().__enter__()

    def __call__(self, path: str) -> Any:
        """A file as what it is."""
        if Path(path).suffix != ".zip":
            return look_at(path)
        if path not in self._repositories:
            room = self.enter_context(tempfile.TemporaryDirectory(prefix="dsv4-zip-"))
            self._repositories[path] = dsv4.repo(unzip(Path(path), Path(room) / "repository"))
        return self._repositories[path]


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
