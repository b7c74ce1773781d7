"""The sprites of the closed world: every thing in two looks and every coloured shape, kept as sheets, loaded as mips.

Shape letters: K things, P sprites (2 K things' looks, then the shapes), S sprite side in pixels.
Source: mip mapping after Williams 1983, "Pyramidal Parametrics"; premultiplied alpha after Porter & Duff 1984.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsv4.data.glyphs import build_glyphs
from dsv4.data.language import GROUNDS, SHAPE_COLOURS, SHAPE_NOUNS, SHAPES, clashes
from dsv4.data.motions import motion_table
from dsv4.data.sources import read_rows
from dsv4.data.things import read_things
from dsv4.errors import InputError, unknown

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

COLUMNS = 40  # sprites in a row of a sheet, the same in the source
NAMES, SHADED, FLAT = "names.json", "atlas_shaded.webp", "atlas_flat.webp"
LEVELS = 4  # each mip level has half the side of the one before
SHAPE_FILL = 0.86  # how much of its sprite a shape spans, so that neighbours never touch


def build_atlas(sources: Path, out: Path) -> None:
    """Write both sheets and `names.json` from `things.jsonl.zst` and `things_shaded.webp` in `sources`, and the glyphs.

    A thing without a flat drawing keeps an empty cell there and is marked as such. Raises InputError for bad sources.
    """
    from PIL import Image

    shaded_path = sources / "things_shaded.webp"
    if not shaded_path.is_file():
        raise InputError(f"'{sources}' lacks things_shaded.webp, the sheet of shaded pictures")
    things = sorted(read_things(read_rows(sources, "things.jsonl.zst")), key=lambda thing: thing.index)
    with Image.open(shaded_path) as sheet:
        width, height = sheet.size
    side = width // COLUMNS
    if [thing.index for thing in things] != list(range(len(things))) or height // side * COLUMNS < len(things):
        raise InputError(f"'{shaded_path}' does not hold one cell of {side} px for each of {len(things)} things")
    flat = Image.new("RGBA", (width, -(-len(things) // COLUMNS) * side))
    for thing in things:
        if thing.svg:
            flat.paste(_draw_svg(thing.svg, side), _corner(thing.index, side))
    packed = io.BytesIO()
    flat.save(packed, "WEBP", lossless=True, quality=80, method=4)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / SHADED, shaded_path.read_bytes())
    _write(out / FLAT, packed.getvalue())
    looks = [_read_sheet(out / name, len(things), side) for name in (SHADED, FLAT)]
    sprites = np.stack(looks, axis=1).reshape(-1, side, side, 4)
    record = {
        "side": side,
        "names": [thing.name for thing in things],
        "aliases": [list(thing.aliases) for thing in things],
        "flat": [bool(thing.svg) for thing in things],
        "unseen": {str(number): grounds for number, grounds in enumerate(vanishing(sprites)) if grounds},
    }
    _write(out / NAMES, json.dumps(record, ensure_ascii=False).encode())
    build_glyphs(out)


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the sprites are called: `things` by index, their aliases, and which of them have a flat drawing.

    unseen: the grounds on which a sprite would hardly be seen, for those sprites that have any.
    """

    side: int
    things: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    flat: tuple[bool, ...]
    unseen: Mapping[int, tuple[str, ...]]

    @classmethod
    def load(cls, data_dir: Path) -> Names:
        """Read `names.json`; InputError when `data_dir` holds none."""
        path = Path(data_dir) / NAMES
        if not path.is_file():
            raise InputError(f"there is no '{NAMES}' in '{data_dir}'; `dsv4 data build` writes it")
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            side=record["side"],
            things=tuple(record["names"]),
            aliases=tuple(tuple(names) for names in record["aliases"]),
            flat=tuple(record["flat"]),
            unseen={int(sprite): tuple(grounds) for sprite, grounds in record["unseen"].items()},
        )

    @cached_property
    def index(self) -> dict[str, int]:
        """Thing name to index."""
        return {name: number for number, name in enumerate(self.things)}

    def sprite(self, noun: str, *, flat: bool = False) -> int:
        """Which sprite draws a noun; shapes come first where a thing has the same name and look alike in both looks.

        Raises InputError naming the nearest noun for an unknown one.
        """
        if noun in _SHAPE_PLACE:
            return 2 * len(self.things) + _SHAPE_PLACE[noun]
        if noun not in self.index:
            raise unknown("thing", noun, self.things)
        return 2 * self.index[noun] + flat

    def has_flat(self, nouns: Sequence[str]) -> bool:
        """Whether all of these nouns can be drawn in the flat look; shapes always can."""
        return all(noun in _SHAPE_PLACE or self.flat[self.index[noun]] for noun in nouns)

    def shows(self, noun: str, ground: str, *, flat: bool = False) -> bool:
        """Whether a noun can be made out on a ground."""
        if noun in _SHAPE_PLACE:
            return not clashes(noun.split()[0], ground)
        return ground not in self.unseen.get(self.sprite(noun, flat=flat), ())


_SHAPE_PLACE = {noun: place for place, noun in enumerate(SHAPE_NOUNS)}


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """All sprites on one device.

    packed: int32, every mip level of every sprite as premultiplied RGBA bytes, level after level.
    motions: float32 [M, STEPS, 4], the fine table of motions.
    """

    names: Names
    packed: torch.Tensor
    motions: torch.Tensor

    @classmethod
    def load(cls, data_dir: Path, device: torch.device | str = "cpu") -> Atlas:
        """Read the sheets from a data folder; InputError when they are missing or do not fit `names.json`."""
        names = Names.load(data_dir)
        looks = [_read_sheet(Path(data_dir) / name, len(names.things), names.side) for name in (SHADED, FLAT)]
        for number, known in enumerate(names.flat):
            if not known:
                looks[1][number] = looks[0][number]
        return cls.of_sprites(names, np.stack(looks, axis=1).reshape(-1, names.side, names.side, 4), device)

    @classmethod
    def of_sprites(cls, names: Names, things_PSS4: np.ndarray, device: torch.device | str = "cpu") -> Atlas:
        """An atlas of these premultiplied sprites, both looks of each thing in turn, and of the coloured shapes."""
        import torch

        level = np.concatenate([things_PSS4, shape_sprites(names.side)])
        flat = []
        for _ in range(LEVELS):
            flat.append(np.ascontiguousarray(level).view(np.int32).reshape(-1))
            level = _halve(level)
        packed, motions = torch.from_numpy(np.concatenate(flat)), torch.from_numpy(motion_table())
        return cls(names=names, packed=packed.to(device), motions=motions.to(device))

    @property
    def side(self) -> int:
        """Side of a sprite at full size in pixels."""
        return self.names.side

    @property
    def count(self) -> int:
        """How many sprites there are."""
        return 2 * len(self.names.things) + len(SHAPE_NOUNS)

    @property
    def sprites(self) -> torch.Tensor:
        """All sprites at full size, premultiplied uint8 [P, S, S, 4]."""
        import torch

        full = self.packed[: self.count * self.side**2]
        return full.view(torch.uint8).view(self.count, self.side, self.side, 4)


def shape_atlas(side: int = 96) -> Atlas:
    """An atlas of the coloured shapes alone, which needs no data folder."""
    return Atlas.of_sprites(
        Names(side=side, things=(), aliases=(), flat=(), unseen={}), np.empty((0, side, side, 4), np.uint8)
    )


def shape_sprites(side: int, *, over: int = 8) -> np.ndarray:
    """Every coloured shape in the order of SHAPE_NOUNS, anti-aliased, premultiplied uint8 [54, S, S, 4]."""
    from PIL import Image

    covers = {}
    for shape in SHAPES:
        fine = _shape_cover(shape, side * over)
        covers[shape] = np.asarray(fine.resize((side, side), Image.Resampling.BOX), np.float32) / 255
    found = []
    for noun in SHAPE_NOUNS:
        colour, shape = noun.split()
        rgba = np.array([*SHAPE_COLOURS[colour], 255], np.float32)
        found.append(np.rint(covers[shape][..., None] * rgba).astype(np.uint8))
    return np.stack(found)


def vanishing(sprites_PSS4: np.ndarray, *, far: float = 40.0, share: float = 0.2) -> list[list[str]]:
    """For each premultiplied sprite the grounds from which less than `share` of it stands out by `far` of 255."""
    pixels_PN4 = sprites_PSS4[:, 2::4, 2::4].reshape(len(sprites_PSS4), -1, 4).astype(np.float32)
    clear_PN1 = 1 - pixels_PN4[..., 3:] / 255
    covered_P = (clear_PN1 < 0.7).sum((1, 2))
    found: list[list[str]] = [[] for _ in sprites_PSS4]
    for name, colour in GROUNDS.items():
        change_PN = np.linalg.norm(pixels_PN4[..., :3] + (clear_PN1 - 1) * np.array(colour, np.float32), axis=-1)
        for sprite in np.flatnonzero((change_PN > far).sum(1) < share * covered_P):
            found[sprite].append(name)
    return found


def _shape_cover(shape: str, side: int) -> Image:
    """The shape as a mask, spanning SHAPE_FILL of a square of `side` pixels."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    low, span = side * (1 - SHAPE_FILL) / 2, side * SHAPE_FILL
    high = low + span
    if shape == "circle":
        draw.ellipse([low, low, high, high], fill=255)
    elif shape == "square":
        draw.rectangle([low, low, high, high], fill=255)
    elif shape == "cross":
        a, b = low + span / 3, high - span / 3
        draw.rectangle([a, low, b, high], fill=255)
        draw.rectangle([low, a, high, b], fill=255)
    else:
        corners = {
            "triangle": [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)],
            "diamond": [(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)],
            "star": star_corners(),
        }[shape]
        draw.polygon([(low + x * span, low + y * span) for x, y in corners], fill=255)
    return mask


def star_corners(inner: float = 0.42) -> list[tuple[float, float]]:
    """Ten corners of a five-pointed star that fills the unit square; inner: radius of the inner ones to the outer."""
    angles = [math.pi * (number / 5 - 0.5) for number in range(10)]
    points = [
        (math.cos(angle) * (1, inner)[number % 2], math.sin(angle) * (1, inner)[number % 2])
        for number, angle in enumerate(angles)
    ]
    lows = [min(point[axis] for point in points) for axis in (0, 1)]
    spans = [max(point[axis] for point in points) - lows[axis] for axis in (0, 1)]
    return [((x - lows[0]) / spans[0], (y - lows[1]) / spans[1]) for x, y in points]


def _read_sheet(path: Path, count: int, side: int) -> np.ndarray:
    """The cells of a sheet, premultiplied uint8 [K, S, S, 4]."""
    from PIL import Image

    if not path.is_file():
        raise InputError(f"there is no '{path.name}' in '{path.parent}'; `dsv4 data build` writes it")
    with Image.open(path) as file:
        sheet = np.asarray(file.convert("RGBA"))
    rows, columns = sheet.shape[0] // side, sheet.shape[1] // side
    if rows * columns < count:
        raise InputError(f"'{path}' has {rows * columns} cells of {side} px, but {count} things are named")
    cells = sheet[: rows * side, : columns * side].reshape(rows, side, columns, side, 4).swapaxes(1, 2)
    cells = cells.reshape(-1, side, side, 4)[:count].copy()
    alpha = cells[..., 3:].astype(np.uint16)
    cells[..., :3] = (cells[..., :3] * alpha + 127) // 255
    return cells


def _halve(level_PSS4: np.ndarray) -> np.ndarray:
    """Every 2 x 2 pixels averaged; an odd last row or column is dropped."""
    side = level_PSS4.shape[1] // 2 * 2
    total = sum(level_PSS4[:, y:side:2, x:side:2].astype(np.uint16) for y in (0, 1) for x in (0, 1))
    return ((total + 2) // 4).astype(np.uint8)


def _draw_svg(svg: str, side: int) -> Image:
    import resvg_py
    from PIL import Image

    if "xmlns" not in svg:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    drawn = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True))
    with Image.open(io.BytesIO(drawn)) as file:
        return file.convert("RGBA").resize((side, side))


def _corner(index: int, side: int) -> tuple[int, int]:
    return index % COLUMNS * side, index // COLUMNS * side


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
