"""Who made a file, from what: one record in PNG text, MP4, WebM and GIF comments, WebP EXIF, SVG metadata or a sidecar.

The record is JSON: `schema`, and whatever the maker tells, for us task, prompt, seed, model and settings. Writers take
None as the switch that leaves it out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

SCHEMA = "dsv4-provenance/1"
PNG_KEY = "provenance"
SVG_ID = "provenance"
EXIF_DESCRIPTION = 0x010E
_OPENING_TAG = re.compile(r"<svg\b(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")


def to_text(made_by: Mapping[str, Any]) -> str:
    """The record as one line of ASCII JSON; raises ValueError for what JSON cannot hold."""
    try:
        return json.dumps({"schema": SCHEMA, **made_by}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the provenance must be plain data that JSON can hold: {error}") from error


def from_text(text: str | bytes | None) -> dict[str, Any] | None:
    """The record in `text`, without its schema; None for anything else."""
    try:
        data = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        return None
    return data


def into_svg(svg: str, made_by: Mapping[str, Any]) -> str:
    """The SVG with its record as the first child, replacing one that was there; raises ValueError without a root."""
    svg = re.sub(rf'\s*<metadata id="{SVG_ID}">[^<]*</metadata>', "", svg)
    opening = _OPENING_TAG.search(svg)
    if opening is None or opening[0].endswith("/>"):
        raise ValueError("the text holds no <svg> element that metadata could be put into")
    record = f'\n  <metadata id="{SVG_ID}">{escape(to_text(made_by), quote=False)}</metadata>'
    return svg[: opening.end()] + record + svg[opening.end() :]


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Where the record of a file lies that cannot hold it: picture.png.json."""
    return Path(path).with_name(Path(path).name + ".json")


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record of a file that was saved here, or of its sidecar; None when there is none.

    Raises FileNotFoundError for a missing file, ValueError for one that is not of its kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    readers = {".svg": _from_svg, ".mp4": _from_film, ".webm": _from_film}
    reader = readers.get(path.suffix.lower(), _from_picture)
    found = from_text(reader(path))
    if found is None and sidecar_path(path).is_file():
        found = from_text(sidecar_path(path).read_text(encoding="utf-8"))
    return found


def _from_picture(path: Path) -> str | bytes | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.format == "WEBP":
                return picture.getexif().get(EXIF_DESCRIPTION)
            return picture.info.get(PNG_KEY) or picture.info.get("comment")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"'{path}' is not a picture that can be read") from error


def _from_film(path: Path) -> str | None:
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as clip:
            # Matroska writes its names in capitals.
            return {name.lower(): value for name, value in clip.metadata.items()}.get("comment")
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"'{path}' is not a clip that can be read") from error


def _from_svg(path: Path) -> str | None:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        root = parse(path).getroot()
    except (ParseError, DefusedXmlException, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not an SVG that can be read") from error
    for element in root if root is not None else ():
        if str(element.tag).rpartition("}")[2] == "metadata" and element.get("id") == SVG_ID:
            return element.text
    return None
