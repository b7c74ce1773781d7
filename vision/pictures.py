"""Open a picture as a person sees it: upright, on white, in eight bits, whatever the file holds."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000  # looked up in the header, before anything is decoded
MAX_RATIO = 100  # longer side by shorter side: beyond this nothing is left to see after scaling
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO")
_NAMED = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF"


def open_picture(source: str | os.PathLike[str] | bytes | Image) -> Image:
    """An upright RGB picture from a path, the bytes of a file, or a Pillow image; of an animation, the first frame.

    Transparency lies on white, CMYK goes through its colour profile, and deeper grey is scaled to eight bits.
    Raises ValueError, in one line, for what is missing, no picture, broken, too large or too narrow.
    """
    from PIL import Image as pil

    name = "the picture" if isinstance(source, bytes | pil.Image) else f"'{source}'"
    if isinstance(source, pil.Image):
        _check_size(source.size, name)
        return _as_seen(source, name)
    try:
        with _opened(source, name) as file:
            _check_size(file.size, name)
            return _as_seen(file, name)
    except pil.DecompressionBombError as error:
        raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels, the most that is read") from error


def _opened(source: str | os.PathLike[str] | bytes, name: str) -> Image:
    from PIL import Image as pil

    if isinstance(source, bytes):
        place: io.BytesIO | Path = io.BytesIO(source)
    else:
        place = Path(source)
        if not place.exists():
            raise ValueError(f"there is no file {name}")
        if not place.is_file():
            raise ValueError(f"{name} is not a file")
    pil.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)  # our own limit is lower, and an error
            return pil.open(place, formats=[kind for kind in FORMATS if kind in pil.OPEN])
    except pil.UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture that can be read ({_NAMED})") from error
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < 1:
        raise ValueError(f"{name} has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width} x {height} pixels; at most {MAX_PIXELS:,} are read, so scale it down")
    if max(size) > MAX_RATIO * min(size):
        raise ValueError(f"{name} is {width} x {height}: a side may be at most {MAX_RATIO} times the other, so crop it")


def _as_seen(picture: Image, name: str) -> Image:
    import struct

    from PIL import ImageOps

    try:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        return _rgb(upright)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        raise ValueError(f"{name} is broken and cannot be read: {_one_line(error)}") from error


def _rgb(picture: Image) -> Image:
    from PIL import Image as pil

    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture.copy()
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _eight_bits(picture).convert("RGB")
    if picture.mode == "CMYK":
        return _through_profile(picture)
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        white = pil.new("RGBA", seen.size, (255, 255, 255, 255))
        return pil.alpha_composite(white, seen).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Image) -> Image:
    """Grey of 16 bits, whole numbers or fractions, brought to 0..255 by the range its kind is written in."""
    import numpy as np
    from PIL import Image as pil

    values_HW = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    low, high = float(values_HW.min()), float(values_HW.max())
    if picture.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low >= 0:
        # 32-bit files mostly carry narrower data: the smallest usual range that holds it.
        tops = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0)
        low, high = 0.0, next((top for top in tops if high <= top), high)
    scaled_HW = (values_HW - low) * (255.0 / max(high - low, 1e-12))
    return pil.fromarray(scaled_HW.round().clip(0, 255).astype(np.uint8))


def _through_profile(picture: Image) -> Image:
    from PIL import ImageCms

    profile = picture.info.get("icc_profile")
    if profile:
        try:
            turned = ImageCms.profileToProfile(
                picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            turned = None  # a broken profile is no reason to refuse the picture
        if turned is not None:
            return turned
    return picture.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
