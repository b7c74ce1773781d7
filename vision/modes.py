"""The six ways to look at a picture, and what each costs in tokens.

Source: DeepSeek-OCR (arXiv 2510.18234), table 1. That table counts grid features only; the language model also reads
a newline behind every row and one separator, so both numbers are given here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import NamedTuple

STRIDE = 64  # pixels of a side that become one feature: patches of 16, then two convolutions of stride 2
TILE_LIMITS = (9, 6)  # of the published class, and of servers that are short of memory


class TokenCount(NamedTuple):
    """What a picture costs: features of the grid, as the paper counts, and places in the language model's sequence."""

    paper: int
    sequence: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mode:
    """One row of the table; sides in pixels.

    `side` is the whole view's; `tile` is 0 for a mode without tiles. `stretch` fits the picture by changing its
    aspect, otherwise it is padded with grey. `trained` is False where no released weights were made for the mode.
    """

    name: str
    side: int
    stretch: bool
    tile: int = 0
    max_tiles: int = 9
    trained: bool = True
    use: str = ""

    def __post_init__(self) -> None:
        if self.side <= 0 or self.side % STRIDE or self.tile < 0 or self.tile % STRIDE:
            raise ValueError(f"sides of mode '{self.name}' must be multiples of {STRIDE}, got {self.side}, {self.tile}")
        if self.max_tiles < 2:
            raise ValueError(f"max_tiles of mode '{self.name}' must be at least 2, got {self.max_tiles}")

    @property
    def cells(self) -> int:
        """Features along one side of the whole view."""
        return self.side // STRIDE

    def tile_grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles for a picture of this size; (0, 0) when the whole view shows it all."""
        if width < 1 or height < 1:
            raise ValueError(f"a picture has at least one pixel a side, got {width} x {height}")
        if not self.tile or max(width, height) <= self.tile:
            return 0, 0
        best, best_gap = (1, 1), float("inf")
        for columns, rows in _grids(self.max_tiles):
            gap = abs(width / height - columns / rows)
            # Among equal shapes the finer grid pays only if the picture has the pixels for it.
            finer = width * height > 0.5 * self.tile**2 * columns * rows
            if gap < best_gap or (gap == best_gap and finer):
                best, best_gap = (columns, rows), gap
        return best

    def num_tokens(self, width: int, height: int) -> TokenCount:
        """Both counts for a picture of this size; the sequence's is exactly what the encoder returns."""
        columns, rows = self.tile_grid(width, height)
        lines = rows * self.tile // STRIDE + self.cells  # a newline stands behind each, a separator behind them all
        paper = columns * rows * (self.tile // STRIDE) ** 2 + self.cells**2
        return TokenCount(paper=paper, sequence=paper + lines + 1)

    def valid_tokens(self, width: int, height: int) -> int:
        """Of the paper's count, the features that show picture and not padding."""
        tiles = self.num_tokens(width, height).paper - self.cells**2
        if self.stretch:
            return tiles + self.cells**2
        return tiles + math.ceil(self.cells**2 * min(width, height) / max(width, height))


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(name="tiny", side=512, stretch=True, use="slides, drawings, a few words"),
        Mode(name="small", side=640, stretch=True, use="books, reports"),
        Mode(name="base", side=1024, stretch=False, use="a dense page"),
        Mode(name="large", side=1280, stretch=False, use="a dense page with small print"),
        Mode(name="gundam", side=1024, stretch=False, tile=640, use="newspapers, large scans"),
        Mode(name="gundam-m", side=1280, stretch=False, tile=1024, trained=False, use="needs weights trained for it"),
    )
}


def get_mode(name: str | Mode, *, tiles: int | None = None) -> Mode:
    """The row called `name`, in any case; a `Mode` is given back. `tiles` is the most tiles it may cut: 9 or 6.

    Raises ValueError that names the nearest, and for a limit that is neither, or where there are no tiles.
    """
    mode = name if isinstance(name, Mode) else _row(name)
    if tiles is None:
        return mode
    if tiles not in TILE_LIMITS:
        raise ValueError(f"the most tiles are {' or '.join(map(str, TILE_LIMITS))}, got {tiles}")
    if not mode.tile:
        cut = [row.name for row in MODES.values() if row.tile]
        raise ValueError(f"mode '{mode.name}' has no tiles to limit; those with tiles are {', '.join(cut)}")
    return dataclasses.replace(mode, max_tiles=tiles)


def _row(name: str) -> Mode:
    key = str(name).strip().lower()
    if key not in MODES:
        near = difflib.get_close_matches(key, MODES, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown mode '{name}'{hint} Modes: {', '.join(MODES)}")
    return MODES[key]


def _grids(most: int) -> list[tuple[int, int]]:
    sides = range(1, most + 1)
    found = [(columns, rows) for columns in sides for rows in sides if 2 <= columns * rows <= most]
    return sorted(found, key=lambda grid: (grid[0] * grid[1], grid))
