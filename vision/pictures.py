"""Open a picture as a person sees it: upright, on white, in eight bits, whatever the file holds."""

from __future__ import annotations

import io
import os
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000  # looked up in the header, before anything is decoded
MAX_JPEG_PIXELS = 4 * MAX_PIXELS  # a JPEG can be decoded at half size or less, so a larger one is still read
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO")
MOST_DEFLATED = 1040  # how many bytes one byte of a PNG's data can unfold into, by the bounds of deflate
_LEAST_BITS = {"RGB": 24, "RGBA": 32, "LA": 16, "I;16": 16, "I;16B": 16}
_NAMED = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF"


def open_picture(source: str | os.PathLike[str] | bytes | Image) -> Image:
    """An upright RGB picture from a path, the bytes of a file, or a Pillow image; of an animation, the first frame.

    Transparency lies on white, CMYK goes through its colour profile, and deeper grey is scaled to eight bits.
    A JPEG of up to four times the limit is read at half its size. Raises ValueError, in one line, for what is missing,
    no picture, broken or too large.
    """
    from PIL import Image as pil

    name = "the picture" if isinstance(source, bytes | pil.Image) else f"'{source}'"
    if isinstance(source, pil.Image):
        check_size(source.size, name)
        return as_seen(source, name)
    try:
        with opened(source, name) as file:
            return as_seen(file, name)
    except pil.DecompressionBombError as error:
        raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels, the most that is read") from error


def opened(source: str | os.PathLike[str] | bytes, name: str) -> Image:
    """The file with its header read and its size found to be allowed; nothing is decoded yet."""
    from PIL import Image as pil

    if isinstance(source, bytes):
        place: io.BytesIO | Path = io.BytesIO(source)
        length = len(source)
    else:
        place = Path(source)
        if not place.exists():
            raise ValueError(f"there is no file {name}")
        if not place.is_file():
            raise ValueError(f"{name} is not a file")
        length = place.stat().st_size
    pil.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)  # our own limit is lower, and an error
            file = pil.open(place, formats=[kind for kind in FORMATS if kind in pil.OPEN])
    except pil.DecompressionBombError as error:
        raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels, the most that is read") from error
    except pil.UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture that can be read ({_NAMED})") from error
    except (OSError, SyntaxError, struct.error) as error:
        raise ValueError(f"{name} cannot be read: {getattr(error, 'strerror', None) or _one_line(error)}") from error
    width, height = file.size
    if file.format == "JPEG" and MAX_PIXELS < width * height <= MAX_JPEG_PIXELS:
        file.draft("RGB", (width // 2, height // 2))
    check_size(file.size, name)
    if file.format == "PNG" and width * height * _LEAST_BITS.get(file.mode, 1) > 8 * MOST_DEFLATED * length:
        raise ValueError(
            f"{name} is broken: it claims {width} x {height} pixels, and {length:,} bytes cannot hold them"
        )
    return file


def check_size(size: tuple[int, int], name: str) -> None:
    """ValueError unless there are pixels, and not too many."""
    width, height = size
    if min(size) < 1:
        raise ValueError(f"{name} has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width} x {height} pixels; at most {MAX_PIXELS:,} are read, so scale it down")


def as_seen(picture: Image, name: str) -> Image:
    """A decoded, upright RGB copy; ValueError when the data is broken."""
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
    if picture.mode in ("CMYK", "LAB"):
        return _through_profile(picture)
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        seen = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
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
    """CMYK by the profile it carries, if that is one, and by plain arithmetic otherwise; LAB by its definition."""
    from PIL import ImageCms

    profile = picture.info.get("icc_profile")
    try:
        if picture.mode == "LAB":
            own: Any = ImageCms.createProfile("LAB")
        elif profile:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return picture.convert("RGB")
        turned = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        turned = None  # a broken profile is no reason to refuse the picture
    return turned if turned is not None else picture.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
