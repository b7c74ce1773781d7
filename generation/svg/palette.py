"""The closed palette of a drawing: named colours for recolouring, shape colours, and colours that cover flat drawings.

Source: CSS Color 4 names; the other colours cover the inked area of flat drawings, chosen greedily in CIE Lab.
"""

from __future__ import annotations

import functools

import numpy as np

NAMED = (
    "red orange yellow green blue purple pink brown black white gray cyan teal navy gold magenta hotpink tomato".split()
)

SHAPE_COLOURS = {
    "red": "#dc2626",
    "orange": "#f58220",
    "yellow": "#f5d728",
    "green": "#22a04a",
    "blue": "#2563eb",
    "purple": "#803cbe",
    "pink": "#f472b6",
    "brown": "#784823",
    "cyan": "#28c8dc",
}

_COVER = (
    "#3b88c3 #ffcc4d #31373d #b2c2cc #da2f47 #c1694f #77b255 #ffdd99 #9575cd #5dadec #dbe2e5 #d99e82 #662113 #ffac33 "
    "#99aab5 #66757f #ea596e #226699 #ffdc5d #5c913b #f4900c #88c9f9 #ccd6dd #3f51b5 #ffe8b6 #aa8dd8 #be1931 #664500 "
    "#fa743e #a6d388 #ffd983 #2196f3 #ef9645 #bbddf5 #3e721d #292f33 #9266cc #744eaa #dd551f #dd2e44 #f4abba #d1c4e9 "
    "#4b545d #e1e8ed #8899a6 #a0041e #edb980 #553788 #1565c0 #f7dece #e91e63 #8a4b38 #8bc34a #9a4e1c #c6e5b3 #f5f8fa "
    "#55acee #9c27b0 #ff5722 #e2ea55 #65471b #009688 #a78e81 #ffc107 #f98097 #4caf50 #f18f26 #fcab40 #f44336 #ff8a65 "
    "#a7a9ac #909b50 #f9ca55 #a97c50 #e6e7e8 #ad1457 #1213bd #231f20 #5e35b1 #264612 #3b94d9 #f4c7b5 #939598 #bf360c "
    "#37474f #e6aaaa #e85e00 #bdbdbd #e5a157 #c15829 #fff3e0 #004a77 #6d6e71 #ffcc80 #d1d3d4 #aab8c2 #00bcd4 #7c533e "
    "#607d8b #aa00ff #58595b"
)

COLOURS: tuple[str, ...] = (*NAMED, *SHAPE_COLOURS.values(), *_COVER.split())
PAINTS: tuple[str, ...] = ("none", "currentColor", *COLOURS)
_PAINT_SET = frozenset(PAINTS)


def lab(rgb_N3: np.ndarray) -> np.ndarray:
    """Turn sRGB rows of 0..255 into CIE Lab rows (D65), [N, 3] to [N, 3]."""
    linear = np.asarray(rgb_N3, np.float64) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Read a CSS colour literal as red, green, blue of 0..255; alpha is ignored. Raises ValueError."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(colour.strip())[:3]
    except ValueError:
        raise ValueError(f"{colour!r} is not a colour; write a CSS name, #rgb, #rrggbb or rgb(r, g, b)") from None


@functools.cache
def _palette_lab() -> np.ndarray:
    return lab(np.array([rgb_of(colour) for colour in COLOURS]))


@functools.lru_cache(maxsize=4096)
def nearest_paint(paint: str) -> str:
    """Return the palette's paint nearest to a CSS paint; 'none' and 'currentColor' stay. Raises ValueError."""
    paint = paint.strip()
    if paint in _PAINT_SET:
        return paint
    if paint.lower() == "currentcolor":
        return "currentColor"
    if paint.lower() in ("none", "transparent"):
        return "none"
    wanted = lab(np.array([rgb_of(paint)]))
    return COLOURS[int(np.linalg.norm(_palette_lab() - wanted, axis=-1).argmin())]
