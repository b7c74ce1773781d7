"""Pictures that a file holds several of: pages of a TIFF, frames of a GIF or WebP, moments of a clip."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .pictures import MAX_PIXELS, as_seen, check_size, opened

if TYPE_CHECKING:
    from PIL.Image import Image

COUNTED = 600  # frames of a clip that are counted and chosen from exactly; a longer clip is looked at by its times


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


def clip_frames(source: str | os.PathLike[str], count: int) -> list[Image]:
    """`count` pictures at even times of a clip, fewer if it has fewer frames; only these are kept.

    Raises ValueError for what is no clip, holds no pictures, or has more pixels a frame than are read.
    """
    import av

    try:
        with av.open(str(source), metadata_errors="replace") as file:
            if not file.streams.video:
                raise ValueError(f"'{source}' holds no pictures")
            stream = file.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                size = f"{stream.width} x {stream.height}"
                raise ValueError(f"'{source}' has frames of {size} pixels; at most {MAX_PIXELS:,} are read")
            frames = _counted(file)
            if frames > COUNTED and file.duration:
                found = _at_times(file, count)
            else:
                places = {(2 * turn + 1) * min(frames, COUNTED) // (2 * count) for turn in range(count)}
                file.seek(0)
                found = _at_places(file, places)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"'{source}' is not a clip that can be read: {error}") from error
    if not found:
        raise ValueError(f"'{source}' holds no frames")
    return found


def _counted(file: Any) -> int:
    """How many packets of pictures there are, up to one more than COUNTED; nothing is decoded for it."""
    total = 0
    for packet in file.demux(video=0):
        total += packet.size > 0
        if total > COUNTED:
            break
    return total


def _at_places(file: Any, places: set[int]) -> list[Image]:
    found = []
    for place, frame in enumerate(file.decode(video=0)):
        if place in places:
            found.append(frame.to_image())
        if place >= max(places):
            break
    return found


def _at_times(file: Any, count: int) -> list[Image]:
    found = []
    for turn in range(count):
        seconds = file.duration / 1e6 * (2 * turn + 1) / (2 * count)
        file.seek(int(seconds * 1e6))
        near = None
        for near, _ in zip(file.decode(video=0), range(COUNTED), strict=False):
            if near.time is None or near.time >= seconds:
                break
        if near is not None:
            found.append(near.to_image())
    return found
