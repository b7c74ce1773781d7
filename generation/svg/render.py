"""Turn SVG into pixels: in a guarded child process for text from outside, in process for our own canonical text.

Shape letters: H, W pixels. Source: resvg through resvg_py; it reads files and deep nesting crashes it, hence the child.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .safe import rebuild
from .tree import SVG_NAMESPACE

if TYPE_CHECKING:
    import numpy as np

MAX_SIDE = 4096
TIMEOUT_SECONDS = 10.0


def rasterise(
    svg: str | bytes, size: int, background: str | None = "white", *, timeout: float = TIMEOUT_SECONDS
) -> np.ndarray:
    """Render any SVG safely; it is rebuilt from the allow-list first, then drawn in a limited child process.

    Args:
        svg: SVG text of any origin.
        size: longer side of the result in pixels, 1 to 4096.
        background: a CSS colour to draw on, or None for a transparent result.
        timeout: seconds before the child is ended.

    Returns uint8 [H, W, 3], or [H, W, 4] without a background. Raises ValueError for SVG that is refused by
    `rebuild`, cannot be drawn, or takes too long.
    """
    return rasterise_many([svg], size, background, timeout=timeout)[0]


def rasterise_many(
    svgs: Sequence[str | bytes], size: int, background: str | None = "white", *, timeout: float = TIMEOUT_SECONDS
) -> list[np.ndarray]:
    """As `rasterise` for several drawings in one child, as the frames of an animation; the timeout is for all."""
    import resvg_py

    size = _checked(size)
    background = _background(background)
    # XML cannot hold a NUL, so it can stand between documents.
    safe = "\0".join(rebuild(svg) for svg in svgs)
    child = Path(__file__).with_name("_render_child.py")
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(child), str(size), str(Path(resvg_py.__file__).parents[1])],
                input=safe.encode(),
                capture_output=True,
                cwd=empty,
                timeout=timeout,
                env={"LANG": "C.UTF-8"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"the SVG took longer than {timeout:g} seconds to draw") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"the SVG could not be drawn: {reason[-1] if reason else f'code {done.returncode}'}")
    return [_pixels(png, background) for png in _split(done.stdout)]


def _split(data: bytes) -> Iterator[bytes]:
    """The pictures of the child's answer, each behind its length in four bytes."""
    while data:
        length = int.from_bytes(data[:4], "big")
        yield data[4 : 4 + length]
        data = data[4 + length :]


def rasterise_trusted(svg: str, size: int, background: str | None = "white") -> np.ndarray:
    """Render SVG of our own making (decoded tokens, training data) in this process.

    Arguments and result as in `rasterise`. Never give it text from outside: the renderer reads files and can crash.
    """
    import resvg_py

    size = _checked(size)
    if "xmlns" not in svg[:400]:
        svg = svg.replace("<svg", f'<svg xmlns="{SVG_NAMESPACE}"', 1)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
    return _pixels(bytes(png), _background(background))


def _checked(size: int) -> int:
    if not 1 <= size <= MAX_SIDE:
        raise ValueError(f"size is 1 to {MAX_SIDE} pixels, not {size}")
    return int(size)


def _background(colour: str | None) -> str | None:
    if colour is not None:
        from .palette import rgb_of

        rgb_of(colour)
    return colour


def _pixels(png: bytes, background: str | None) -> np.ndarray:
    import numpy as np
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if background is None:
        return np.asarray(picture)
    ground = Image.new("RGBA", picture.size, background)
    return np.asarray(Image.alpha_composite(ground, picture).convert("RGB"))
