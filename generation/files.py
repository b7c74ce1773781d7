"""Write pictures, clips and SVGs: to a temporary name first, then renamed, so that a file is there whole or not at all.

F frames, H and W pixels; arrays are uint8 RGB. `provenance` goes into the file; None leaves it out. `clips` reads clips
back, `provenance` the record.
Sources: the muxers' and encoders' options as FFmpeg documents them; APNG as in PNG, third edition.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .provenance import EXIF_DESCRIPTION, PNG_KEY, from_text, into_svg, read_provenance, sidecar_path, to_text

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "CLIP_SUFFIXES",
    "read_provenance",
    "save_apng",
    "save_clip",
    "save_gif",
    "save_mp4",
    "save_png",
    "save_sidecar",
    "save_svg",
    "save_webm",
    "save_webp",
]

Target = str | os.PathLike[str]
Record = Mapping[str, Any] | None
CLIP_SUFFIXES = (".mp4", ".webm", ".webp", ".apng", ".gif")
_BT709 = 1  # the number of this colour standard in every field of a video stream that names one


def save_png(path: Target, picture_HW3: np.ndarray, provenance: Record = None) -> Path:
    """Write a picture (alpha as a fourth channel is kept). Raises ValueError for a wrong array, OSError for a path."""
    from PIL import Image, PngImagePlugin

    _check(picture_HW3, "a picture", "[H, W, 3]", channels=(3, 4))
    text = PngImagePlugin.PngInfo()
    if provenance is not None:
        text.add_itxt(PNG_KEY, to_text(provenance))
    with _whole(path) as temporary:
        Image.fromarray(picture_HW3).save(temporary, "PNG", pnginfo=text, optimize=True)
    return Path(path)


def save_webp(path: Target, array: np.ndarray, *, fps: float | None = None, provenance: Record = None) -> Path:
    """Write a picture [H,W,3], or a clip [F,H,W,3] that repeats, without loss. Raises as `save_png`; clips need fps."""
    from PIL import Image

    clip = array.ndim == 4
    frames = _frames(array, fps) if clip else [_check(array, "a picture", "[H, W, 3]", channels=(3, 4))]
    exif = Image.Exif()
    if provenance is not None:
        exif[EXIF_DESCRIPTION] = to_text(provenance)
    pictures = [Image.fromarray(frame) for frame in frames]
    timing = {"duration": _durations(len(pictures), fps, 1), "loop": 0} if clip and fps else {}
    with _whole(path) as temporary:
        pictures[0].save(
            temporary, "WEBP", save_all=clip, append_images=pictures[1:], lossless=True, method=4, exif=exif, **timing
        )
    return Path(path)


def save_gif(path: Target, frames_FHW3: np.ndarray, *, fps: float, provenance: Record = None) -> Path:
    """Write a clip that repeats; GIF times are hundredths of a second and 256 colours a frame. Raises as `save_png`."""
    from PIL import Image

    pictures = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in _frames(frames_FHW3, fps)]
    comment = {} if provenance is None else {"comment": to_text(provenance).encode("ascii")}
    with _whole(path) as temporary:
        pictures[0].save(
            temporary, "GIF", save_all=True, append_images=pictures[1:], loop=0,
            duration=_durations(len(pictures), fps, 10), **comment,
        )  # fmt: skip
    return Path(path)


def save_apng(path: Target, frames_FHW3: np.ndarray, *, fps: float, provenance: Record = None) -> Path:
    """Write a clip that repeats as animated PNG, without loss. Raises as `save_png`."""
    from PIL import Image, PngImagePlugin

    pictures = [Image.fromarray(frame) for frame in _frames(frames_FHW3, fps)]
    text = PngImagePlugin.PngInfo()
    if provenance is not None:
        text.add_itxt(PNG_KEY, to_text(provenance))
    with _whole(path) as temporary:
        pictures[0].save(
            temporary, "PNG", save_all=True, append_images=pictures[1:], loop=0, pnginfo=text,
            duration=_durations(len(pictures), fps, 1),
        )  # fmt: skip
    return Path(path)


def save_mp4(path: Target, frames_FHW3: np.ndarray, *, fps: float, provenance: Record = None) -> Path:
    """Write H.264 that browsers play: yuv420p, index in front; odd sides grow by one pixel, which copies the edge.

    Raises ValueError for a wrong array or rate, OSError when the path cannot be written.
    """
    # The index is moved to the front by reopening the file by name, so this cannot go to memory.
    front = {"movflags": "+faststart"}
    # Without frames that look ahead: where memory happens to lie decides how those are coded, in one clip of 300.
    steady = {"crf": "18", "preset": "veryfast", "bf": "0"}
    _film(path, frames_FHW3, fps, provenance, "mp4", front, "libx264", steady)
    return Path(path)


def save_webm(path: Target, frames_FHW3: np.ndarray, *, fps: float, provenance: Record = None) -> Path:
    """Write VP9 in WebM, for whoever may not play H.264; sides and errors as `save_mp4`."""
    best = {"crf": "18", "b": "0", "deadline": "realtime", "cpu-used": "5"}
    _film(path, frames_FHW3, fps, provenance, "webm", {}, "libvpx-vp9", best)
    return Path(path)


def save_clip(path: Target, frames_FHW3: np.ndarray, *, fps: float, provenance: Record = None) -> Path:
    """Write a clip as what the path's ending says, one of CLIP_SUFFIXES. Raises ValueError for another ending."""
    savers = dict(zip(CLIP_SUFFIXES, (save_mp4, save_webm, save_webp, save_apng, save_gif), strict=True))
    suffix = Path(path).suffix.lower()
    if suffix not in savers:
        raise ValueError(f"a clip is written as {', '.join(savers)}, not '{suffix or Path(path).name}'")
    return savers[suffix](path, frames_FHW3, fps=fps, provenance=provenance)


def save_svg(path: Target, svg: str, provenance: Record = None) -> Path:
    """Write an SVG as it is, the record as its metadata. Raises ValueError without an <svg>, OSError for a path."""
    text = svg if provenance is None else into_svg(svg, provenance)
    with _whole(path) as temporary:
        temporary.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    return Path(path)


def save_sidecar(path: Target, provenance: Mapping[str, Any]) -> Path:
    """Write the record beside the file `path`, for kinds of files that hold none; `read_provenance` finds it."""
    target = sidecar_path(path)
    assert from_text(to_text(provenance)) is not None
    with _whole(target) as temporary:
        temporary.write_text(to_text(provenance) + "\n", encoding="utf-8")
    return target


def _film(
    path: Target,
    frames_FHW3: np.ndarray,
    fps: float,
    provenance: Record,
    container: str,
    container_options: dict[str, str],
    codec: str,
    codec_options: dict[str, str],
) -> None:
    """Encode frames as yuv420p with their colours named, one packet a frame at exact times."""
    import av

    frames = _frames(frames_FHW3, fps)
    height, width = frames_FHW3.shape[1:3]
    rate = Fraction(fps).limit_denominator(1001)
    with _whole(path) as temporary, av.open(str(temporary), "w", format=container, options=container_options) as out:
        if provenance is not None:
            out.metadata["comment"] = to_text(provenance)
        stream: Any = out.add_stream(codec, rate=rate, options=codec_options)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        for frame_HW3 in frames:
            frame = av.VideoFrame.from_ndarray(_even(frame_HW3), format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        out.mux(stream.encode())


@contextmanager
def _whole(path: Target) -> Iterator[Path]:
    """A name in the same folder that becomes `path` when all went well; an OSError says in one line what did not."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if target.is_dir():
            raise IsADirectoryError("it is a folder; name a file in it")
        yield temporary
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot write '{target}': {reason}") from error
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass  # the folder is none or not ours: nothing was left there either


def _frames(frames_FHW3: np.ndarray, fps: float | None) -> list[np.ndarray]:
    if frames_FHW3.ndim != 4 or not len(frames_FHW3):
        raise ValueError(f"a clip must have shape [F, H, W, 3] with a frame at least, got {list(frames_FHW3.shape)}")
    if fps is None or not 0 < fps <= 240:
        raise ValueError(f"fps must be above 0 and at most 240, got {fps}")
    return [_check(frame, "a frame", "[H, W, 3]", channels=(3,)) for frame in frames_FHW3]


def _check(array: np.ndarray, what: str, shape: str, *, channels: tuple[int, ...]) -> np.ndarray:
    if array.ndim != 3 or array.shape[-1] not in channels or 0 in array.shape or str(array.dtype) != "uint8":
        raise ValueError(f"{what} must be uint8 of shape {shape}, got {array.dtype} {list(array.shape)}")
    return array


def _durations(frames: int, fps: float | None, step: int) -> list[int]:
    """Milliseconds for every frame in steps of `step`, such that rounding never adds up."""
    assert fps
    ends = [round(1000 * number / fps / step) * step for number in range(frames + 1)]
    return [max(step, after - before) for before, after in zip(ends, ends[1:], strict=False)]


def _even(frame_HW3: np.ndarray) -> np.ndarray:
    import numpy as np

    height, width = frame_HW3.shape[:2]
    return np.ascontiguousarray(np.pad(frame_HW3, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
