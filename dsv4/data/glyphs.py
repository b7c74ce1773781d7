"""Printed letters: strips of glyphs drawn once from the fonts at hand, and lines of text drawn from them on the device.

Shape letters: B rows, A faces, G glyphs, L lines of a picture, X and Y pixel columns and rows, H and W of a strip.
A line is drawn twice, its even and its odd letters, so that letters may reach into their neighbours' room.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsv4.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL.ImageFont import FreeTypeFont

SHEET, METRICS = "glyphs.png", "glyphs.json"
CHARACTERS = "".join(map(chr, range(32, 127)))
EM = 64  # pixels of the font size in the strips
HEIGHT = 80  # rows of a strip: a line with its descenders
BASELINE = 60
PAD = 12  # columns around a glyph's advance, for slanted letters that overhang
LEVELS = 3
FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansCondensed", "DejaVuSansMono", "DejaVuSerif",
    "DejaVuSerif-Bold", "LiberationSans-Regular", "LiberationSans-Bold", "LiberationSansNarrow-Regular",
    "LiberationSerif-Regular", "LiberationSerif-Italic", "LiberationMono-Regular",
)  # fmt: skip
HELD_FACES = ("DejaVuSerif-Italic", "LiberationSerif-Bold")


def build_glyphs(out: Path, *, faces: Sequence[str] = FACES, held: Sequence[str] = HELD_FACES) -> None:
    """Draw a strip of every face that is installed and write sheet and metrics.

    Where none is installed, the face inside Pillow stands for all of them and nothing is held out.
    """
    from PIL import Image

    found = [(name, name in held, font) for name in (*faces, *held) if (font := _open_font(name)) is not None]
    if sum(not out_of_training for _, out_of_training, _ in found) == 0:
        from PIL import ImageFont

        found = [("built in", False, ImageFont.load_default(EM))]  # type: ignore[list-item]
    strips, metrics = [], []
    for name, out_of_training, font in found:
        strip, starts, advances = _strip(font)
        strips.append(strip)
        metrics.append({"name": name, "held": out_of_training, "starts": starts, "advances": advances})
    width = -(-max(strip.shape[1] for strip in strips) // 2**LEVELS) * 2**LEVELS  # halves come out even
    sheet = np.concatenate([np.pad(strip, ((0, 0), (0, width - strip.shape[1]))) for strip in strips])
    packed = io.BytesIO()
    Image.fromarray(sheet).save(packed, "PNG", optimize=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / SHEET).write_bytes(packed.getvalue())
    (out / METRICS).write_text(json.dumps({"faces": metrics}), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Metrics of the strips in pixels at EM: where each glyph's advance begins in its strip, and how wide it is."""

    names: tuple[str, ...]
    held: tuple[bool, ...]
    starts_AG: np.ndarray
    advances_AG: np.ndarray

    @classmethod
    def load(cls, data_dir: Path) -> Faces:
        """Read the metrics; InputError when they are missing."""
        path = Path(data_dir) / METRICS
        if not path.is_file():
            raise InputError(f"there is no '{METRICS}' in '{data_dir}'; `dsv4 data build` writes it")
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["faces"]
        return cls(
            names=tuple(row["name"] for row in rows),
            held=tuple(row["held"] for row in rows),
            starts_AG=np.array([row["starts"] for row in rows], np.float32),
            advances_AG=np.array([row["advances"] for row in rows], np.float32),
        )

    def choices(self, *, held: bool = False) -> list[int]:
        """The faces of training, or the held-out ones; all when there are none of these."""
        return [face for face, out in enumerate(self.held) if out == held] or list(range(len(self.names)))


@dataclass(frozen=True, kw_only=True)
class GlyphSheets:
    """The strips on one device: uint8, all faces at one level, then all at half the size, and so on."""

    packed: torch.Tensor
    faces: int
    width: int

    @classmethod
    def load(cls, data_dir: Path, device: torch.device | str = "cpu") -> GlyphSheets:
        """Read the sheet; InputError when it is missing."""
        import torch
        from PIL import Image

        path = Path(data_dir) / SHEET
        if not path.is_file():
            raise InputError(f"there is no '{SHEET}' in '{data_dir}'; `dsv4 data build` writes it")
        with Image.open(path) as file:
            level = np.asarray(file.convert("L"))
        height, width = level.shape
        flat = []
        for _ in range(LEVELS):
            flat.append(level.reshape(-1))
            quads = level.reshape(level.shape[0] // 2, 2, level.shape[1] // 2, 2)
            level = np.rint(quads.mean((1, 3))).astype(np.uint8)
        packed = torch.from_numpy(np.concatenate(flat))
        return cls(packed=packed.to(device), faces=height // HEIGHT, width=width)


def render_text(batch: Mapping[str, torch.Tensor], sheets: GlyphSheets, size: int) -> torch.Tensor:
    """Pictures of printed lines (see `glyphs_layout.Page`), float32 [B, 3, size, size] in -1..1.

    Raises ValueError when the batch was laid out for another size.
    """
    columns_B2LX, line_BY, row_BY = batch["columns"], batch["line"].long(), batch["row"]
    if columns_B2LX.shape[-1] != size:
        raise ValueError(f"these lines are laid out for {columns_B2LX.shape[-1]} px, not for {size}")
    cover = _compiled_cover() if sheets.packed.is_cuda else _cover
    cover_BYX = cover(
        columns_B2LX, line_BY, row_BY, batch["scale"], batch["face"], sheets.packed, sheets.faces, sheets.width
    )
    cover_B1YX = cover_BYX.clamp(0, 1)[:, None]
    ink, paper = (batch[name].float()[:, :, None, None] / 127.5 - 1 for name in ("ink", "paper"))
    return paper + (ink - paper) * cover_B1YX


@cache
def _compiled_cover() -> Callable[..., torch.Tensor]:
    import torch

    return torch.compile(_cover, dynamic=False)


def _cover(
    columns_B2LX: torch.Tensor,
    line_BY: torch.Tensor,
    row_BY: torch.Tensor,
    scale_BL: torch.Tensor,
    face_B: torch.Tensor,
    packed: torch.Tensor,
    faces: int,
    width_all: int,
) -> torch.Tensor:
    """How much of every pixel is ink, not yet cut off at one: [B, Y, X]."""
    import torch

    scale_BY1 = scale_BL.gather(1, line_BY)[:, :, None]
    level = (-torch.log2(scale_BY1) - 0.25).round().clamp(0, LEVELS - 1).long()
    zoom, height, width = 1 << level, HEIGHT >> level, width_all >> level
    start = torch.zeros_like(level)
    for number in range(1, LEVELS):
        whole = faces * HEIGHT * width_all // 4 ** (number - 1)
        start = start + (level >= number) * whole
    start = start + face_B.long()[:, None, None] * height * width
    v = (row_BY[:, :, None] + 0.5) / zoom - 0.5
    cover = torch.zeros((), device=row_BY.device)
    for parity in (0, 1):
        picked = line_BY[:, :, None].expand(-1, -1, columns_B2LX.shape[-1])
        at_BYX = columns_B2LX[:, parity].gather(1, picked)
        u = torch.where(at_BYX < 0, -9.0, (at_BYX + 0.5) / zoom - 0.5)
        cover = cover + _bilinear(packed, start, u, v, width, height)
    return cover


def _bilinear(
    packed: torch.Tensor,
    start: torch.Tensor,
    u: torch.Tensor,
    v: torch.Tensor,
    width: torch.Tensor,
    height: torch.Tensor,
) -> torch.Tensor:
    """Cover in 0..1 at column u and row v of the strips that begin at `start`; zero outside."""
    left, top = u.floor(), v.floor()
    total = 0.0
    for step_v in (0, 1):
        for step_u in (0, 1):
            column, row = left + step_u, top + step_v
            weight = (1 - (u - column).abs()) * (1 - (v - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = start + row.clamp(min=0).minimum(height - 1).long() * width
            place = place + column.clamp(min=0).minimum(width - 1).long()
            total = total + packed[place] * (weight * inside / 255)
    return total


def _open_font(name: str) -> FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(f"{name}.ttf", EM)
    except OSError:
        return None


def _strip(font: FreeTypeFont) -> tuple[np.ndarray, list[float], list[float]]:
    """One face's glyphs side by side, where each advance begins, and the advances."""
    from PIL import Image, ImageDraw

    advances = [float(font.getlength(character)) for character in CHARACTERS]
    starts, pen = [], 0.0
    for advance in advances:
        starts.append(pen + PAD)
        pen += float(np.ceil(advance)) + 2 * PAD
    image = Image.new("L", (int(pen), HEIGHT))
    draw = ImageDraw.Draw(image)
    for character, start in zip(CHARACTERS, starts, strict=True):
        draw.text((start, BASELINE), character, font=font, fill=255, anchor="ls")
    return np.asarray(image), starts, advances
