"""Take in what people show: decide by content what a file is, and refuse early what could not be looked at.

Only headers are read here. Pixels are decoded in the model's process, which may die of a hostile file alone.
"""

from __future__ import annotations

import base64
import binascii
import io
import re

from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.limits import UPLOAD_BYTES
from dsv4.repository.unzip import check_zip

from .media import Asset, Media

PICTURES = {
    "PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif",
}  # fmt: skip
KNOWN = "PNG, JPEG, WebP, GIF, BMP, TIFF, PDF, MP4, WebM, MOV, MKV, or a ZIP of a repository"
VIDEO_BRANDS = {b"qt  ": ".mov"}  # what an ISO media file calls itself; the others are MP4


class Unreadable(InputError):
    """A file that was understood to be a file, and cannot be used."""


def sniff(content: bytes) -> str:
    """The suffix that the content deserves, whatever its name says; raises Unreadable with the list of kinds."""
    if content[:5] == b"%PDF-":
        return ".pdf"
    if content[4:8] == b"ftyp":
        if content[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1"):
            return VIDEO_BRANDS.get(content[8:12], ".mp4")
    elif content[:4] == b"PK\x03\x04":
        try:
            check_zip(io.BytesIO(content))  # its table alone; it is unpacked in the model's process
        except InputError as error:
            raise Unreadable(str(error)) from error
        return ".zip"
    elif content[:4] == b"\x1aE\xdf\xa3":
        return ".webm" if b"webm" in content[:64] else ".mkv"
    suffix = PICTURES.get(_picture_format(content), "")
    if not suffix:
        raise Unreadable(f"this is not a file that can be shown to the model; take one of {KNOWN}")
    return suffix


def _picture_format(content: bytes) -> str:
    from PIL import Image

    limit = part("vision.pictures")
    try:
        with Image.open(io.BytesIO(content), formats=list(PICTURES)) as picture:
            width, height = picture.size
            if width * height > limit.MAX_PIXELS or min(width, height) < 1:
                raise Unreadable(f"the picture has {width} x {height} pixels; at most {limit.MAX_PIXELS:,} are read")
            return picture.format or ""
    except Image.DecompressionBombError as error:
        raise Unreadable(f"the picture has more than {limit.MAX_PIXELS:,} pixels, the most that is read") from error
    except Unreadable:
        raise
    except (OSError, SyntaxError, ValueError):
        return ""


def take_in(media: Media, content: bytes, *, owner: str, name: str, purpose: str) -> Asset:
    """Keep a file to be looked at; raises InputError when it is empty, too long or of no known kind."""
    if not content:
        raise Unreadable("the file is empty")
    if len(content) > UPLOAD_BYTES:
        raise InputError(f"the file has {len(content):,} bytes; at most {UPLOAD_BYTES:,} are taken")
    return media.keep(content, owner=owner, name=name, suffix=sniff(content), purpose=purpose)


def from_data_url(url: str) -> bytes:
    """The bytes of a `data:...;base64,...` address; raises InputError."""
    head, comma, coded = url.partition(",")
    if not comma or not head.lower().startswith("data:") or not head.lower().endswith(";base64"):
        raise InputError("write a picture as data:image/png;base64,... with its bytes in base64")
    coded = re.sub(r"\s+", "", coded)
    try:
        return base64.b64decode(coded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the base64 of a data: address is broken: {error}") from error
