"""Pictures that a file holds several of: pages of a TIFF, frames of a GIF or WebP, moments of a clip."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .pictures import as_seen, check_size, opened

if TYPE_CHECKING:
    from PIL.Image import Image


def open_frames(
    source: str | os.PathLike[str] | bytes, wanted: Sequence[int] = (), *, most: int
) -> Iterator[tuple[int, Image]]:
    """(number, upright RGB picture) of the wanted frames, counted from 1, as they are asked for; else of all frames.

    One frame is held at a time, and the size of each is looked at before it is decoded. Raises ValueError for what
    `open_picture` refuses, a frame that is not there, or more than `most` frames.
    """
    name = "the picture" if isinstance(source, bytes) else f"'{source}'"
    with opened(source, name) as file:
        for number in wanted or range(1, most + 2):
            try:
                file.seek(number - 1)
            except (EOFError, ValueError) as error:
                if not wanted:
                    return
                with opened(source, name) as again:  # Pillow counts wrongly after a failed seek
                    pages = getattr(again, "n_frames", 1)
                raise ValueError(f"{name} has {pages} pages; there is no page {number}") from error
            except (OSError, SyntaxError) as error:
                raise ValueError(f"{name} is broken at frame {number}: {error}") from error
            if not wanted and number > most:
                raise ValueError(f"{name} has more than {most} pages, so name them with pages=")
            check_size(file.size, name)
            yield number, as_seen(file, name)
