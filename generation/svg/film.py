"""An animated SVG as still drawings and as frames, for clips, contact sheets and checks.

F frames, H and W pixels; times in seconds. Source: `animation` says what an animation shows at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .animation import MAX_SECONDS, duration, freeze
from .render import TIMEOUT_SECONDS, rasterise_many
from .safe import rebuild, write_tree
from .tree import load_tree

if TYPE_CHECKING:
    import numpy as np

FPS = 24


def at_time(svg: str | bytes, seconds: float) -> str:
    """The still drawing that an animated one shows at a time; it is rebuilt, so it is safe.

    Raises ValueError as `rebuild` does.
    """
    root = load_tree(rebuild(svg))
    freeze(root, seconds)
    return write_tree(root)


def frames(
    svg: str | bytes, size: int, *, fps: float = FPS, background: str | None = "white", seconds: float | None = None
) -> np.ndarray:
    """An animated SVG as frames, uint8 [F,H,W,3] (4 without a background): `fps` a second, for one whole run.

    Raises ValueError for a still drawing without `seconds`, for more than 60 seconds, and as `rasterise` does.
    """
    import numpy as np

    length = duration(svg) if seconds is None else seconds
    if not 0 < length <= MAX_SECONDS or not 0 < fps <= 120:
        raise ValueError(
            "the drawing does not move; give seconds, or draw one that does"
            if not length
            else f"frames take 0 to {MAX_SECONDS:g} seconds at 0 to 120 a second, got {length:g} at {fps:g}"
        )
    count = max(1, round(length * fps))
    stills = [at_time(svg, number / fps) for number in range(count)]
    return np.stack(rasterise_many(stills, size, background, timeout=TIMEOUT_SECONDS + count / 4))
