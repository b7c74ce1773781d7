"""The closed palette of a drawing: named colours for recolouring, shape colours, and colours that cover flat drawings.

Source: CSS Color 4 names; the other colours were chosen greedily to cover the fills of flat colour drawings in CIE Lab.
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
    "#3b88c3 #f9ca55 #292f33 #b2c2cc #c1694f #da2f47 #679e44 #ffdd99 #5dadec #662113 #8667c4 #66757f #cdd7df #d99e82 "
    "#ffac33 #97a8b3 #e8596e #226699 #a6d388 #f4900c #3e721d #e95f28 #ef9645 #664500 #e1e8ed #ffdc5d #90caf9 #ffe8b6 "
    "#ffcc4d #77b255 #aa8ed6 #ffd983 #be1931 #3949ab #bbddf5 #485359 #1e88e5 #a0041e #f4abba #744eaa #5c913b #fa743e "
    "#cbb8e9 #bf360c #dd2e44 #9266cc #8899a6 #c6e5b3 #ffc107 #dead74 #994308 #8a4b38 #31373d #553788 #f4c7b5 #f5f8fa "
    "#65471b #d81b60 #aeb3b2 #f18f26 #981ceb #231f20 #55acee #ff5722 #ff7892 #e954d2 #1565c0 #939598 #58595b #af7e57 "
    "#fcab40 #fcfb65 #dd551f #909b50 #cd95ff #d1d3d4 #e5a157 #8bc34a #37474f #6d6e71 #e6aaaa #264612 #4caf50 #f44336 "
    "#ef6c00 #bf345d #9c27b0 #3b94d9 #b55005 #414042 #7c533e #e6e7e8 #aab8c2 #fff3e0 #a6642a #5b6876 #ff8a65 #009688 "
    "#2196f3 #d3790d #a78e81"
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
