"""Read clips that people bring: every frame, or a few at even times, upright, and never more than the limits allow.

N chosen frames, H and W pixels as shown. What a file is comes from its first bytes, not from its name.
Sources: ISO 14496-12 (the display matrix), Matroska; FFmpeg reads films here, Pillow reads GIF, WebP and APNG.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 500_000_000
MAX_PIXELS = 4096 * 2304  # of one frame
MAX_FRAMES = 36_000  # in the file
MAX_SECONDS = 1_200.0
MAX_KEPT_BYTES = 1_000_000_000  # of all chosen frames together
_PICTURES = ("GIF8", "RIFF", "\x89PNG")
_NEAR = 48  # frames that are decoded one after the other rather than sought


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadClip:
    """Chosen frames, uint8 [N,H,W,3]; which they are and when they show (seconds); how many there are, at what rate."""

    frames_NHW3: np.ndarray
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    total: int
    fps: float


def read_clip(path: str | os.PathLike[str], frames: int | None = None) -> ReadClip:
    """Read a clip of a local file; `frames` of it from the middles of as many equal parts, or all of them.

    MP4, MOV, WebM, MKV, AVI, GIF, animated WebP and APNG. A phone's rotation is applied. A short clip gives each frame
    once at most.

    Raises FileNotFoundError; ValueError for what is no clip, is broken, or is beyond a limit, before it is decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no clip '{path}'")
    if frames is not None and frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    _within("bytes", path.stat().st_size, MAX_BYTES, path)
    with path.open("rb") as file:
        start = file.read(64)
    if start[:4].decode("latin-1") in _PICTURES and start[8:12] != b"AVI ":
        return _from_pictures(path, frames)
    return _from_film(path, frames, _container(start, path))


def _container(start: bytes, path: Path) -> str:
    """The name by which FFmpeg opens this kind only: a playlist or a script must never be guessed from its content."""
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if start[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    raise ValueError(f"'{path}' is not a clip that can be read; MP4, MOV, WebM, MKV, AVI, GIF, WebP and APNG are")


def _from_film(path: Path, frames: int | None, container: str) -> ReadClip:
    import av
    import numpy as np

    options = {"protocol_whitelist": "file"}
    try:
        with av.open(str(path), format=container, options=options, metadata_errors="replace") as film:
            if not film.streams.video:
                raise ValueError(f"'{path}' holds no pictures")
            stream: Any = film.streams.video[0]
            stream.thread_type = "AUTO"
            _within("pixels a frame", stream.width * stream.height, MAX_PIXELS, path)
            if stream.duration and stream.time_base:
                _within("seconds", float(stream.duration * stream.time_base), MAX_SECONDS, path)
            moments = _moments(film, stream, path)
            numbers = _chosen(len(moments), frames)
            _within("bytes decoded", len(numbers) * stream.width * stream.height * 3, MAX_KEPT_BYTES, path)
            wanted = [moments[number] for number in numbers]
            found = dict(_at(film, stream, wanted, numbers))
            numbers = [number for number, moment in zip(numbers, wanted, strict=True) if moment in found]
            wanted = [moment for moment in wanted if moment in found]
            rate = stream.average_rate or stream.guessed_rate
            times = tuple(float((moment - moments[0]) * stream.time_base) for moment in wanted)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"'{path}' is not a clip that can be read: {error}") from error
    if not found:
        raise ValueError(f"'{path}' holds no frames")
    frames_NHW3 = np.stack([found[moment] for moment in wanted])
    return ReadClip(
        frames_NHW3=frames_NHW3, numbers=tuple(numbers), times=times, total=len(moments), fps=float(rate or 0)
    )


def _moments(film: Any, stream: Any, path: Path) -> list[int]:
    """When every frame shows, in the stream's units: read from the packets, which costs no decoding."""
    moments = []
    for packet in film.demux(stream):
        if packet.pts is not None and not packet.is_discard:
            moments.append(packet.pts)
            _within("frames", len(moments), MAX_FRAMES, path)
    if not moments:
        raise ValueError(f"'{path}' holds no frames")
    moments.sort()
    return moments


def _at(film: Any, stream: Any, wanted: list[int], numbers: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The frames that show at `wanted`, sought where the next one is far, decoded in a row where it is near."""
    last = -_NEAR - 1
    decoding: Iterator[Any] = iter(())
    for moment, number in zip(wanted, numbers, strict=True):
        if number - last > _NEAR or last < 0:
            film.seek(moment, stream=stream, backward=True)
            decoding = film.decode(stream)
        for frame in decoding:
            if frame.pts is not None and frame.pts >= moment:
                yield frame.pts, _upright(frame)
                break
        last = number


def _upright(frame: Any) -> np.ndarray:
    import numpy as np

    picture_HW3 = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4  # counter-clockwise, as numpy turns
    return np.ascontiguousarray(np.rot90(picture_HW3, quarters))


def _from_pictures(path: Path, frames: int | None) -> ReadClip:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=("GIF", "WEBP", "PNG")) as file:
            total = getattr(file, "n_frames", 1)
            _within("pixels a frame", file.width * file.height, MAX_PIXELS, path)
            _within("frames", total, MAX_FRAMES, path)
            numbers = _chosen(total, frames)
            _within("bytes decoded", len(numbers) * file.width * file.height * 3, MAX_KEPT_BYTES, path)
            kept, starts, now = [], [], 0.0
            for number in range(total):
                file.seek(number)
                # Every frame is drawn on the one before it, so none can be passed over.
                file.load()
                starts.append(now / 1000)
                now += float(file.info.get("duration") or 100)
                if number in numbers:
                    kept.append(np.asarray(file.convert("RGB")))
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ValueError) and "limit" in str(error):
            raise
        raise ValueError(f"'{path}' is not a clip that can be read: {error}") from error
    times = tuple(starts[number] for number in numbers)
    return ReadClip(
        frames_NHW3=np.stack(kept), numbers=tuple(numbers), times=times, total=total, fps=round(1000 * total / now, 3)
    )


def _chosen(total: int, frames: int | None) -> list[int]:
    if frames is None:
        return list(range(total))
    return sorted({(2 * part + 1) * total // (2 * frames) for part in range(frames)})


def _within(what: str, value: float, limit: float, path: Path) -> None:
    if value > limit:
        raise ValueError(f"'{path}' has {value:,.0f} {what}; the limit is {limit:,.0f}")
