"""From an opened picture to the pixels of a mode's views.

N tiles, S side in pixels.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .modes import Mode, get_mode

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_GREY = (127, 127, 127)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """A picture as the encoder takes it: the whole, and tiles row by row where the mode has them; values in -1..1."""

    mode: Mode
    size: tuple[int, int]
    whole_13SS: Tensor
    tiles_N3SS: Tensor | None = None
    grid: tuple[int, int] = (0, 0)

    @property
    def tokens(self) -> int:
        """Places in the language model's sequence: exactly what the encoder will return."""
        return self.mode.num_tokens(*self.size).sequence

    @property
    def paper_tokens(self) -> int:
        """The count without newlines and separator, as the paper gives it."""
        return self.mode.num_tokens(*self.size).paper


def prepare(picture: Image, mode: str | Mode = "tiny") -> Views:
    """Cut and scale `picture` (RGB, from `open_picture`) for `mode`; a side never scales below one pixel.

    Raises ValueError for an unknown mode, or a picture that is not RGB.
    """
    import torch
    from PIL import Image as pil

    chosen = get_mode(mode)
    if picture.mode != "RGB":
        raise ValueError(f"the picture must be RGB, got {picture.mode}; open it with vision.open_picture")
    side = chosen.side
    if chosen.stretch:
        whole = picture.resize((side, side), pil.Resampling.BICUBIC)
    else:
        whole = _padded(picture, side)
    boxes = tile_boxes(picture.width, picture.height, chosen)
    columns, rows = chosen.tile_grid(*picture.size)
    tiles = None
    if boxes:
        large = picture.resize((columns * chosen.tile, rows * chosen.tile), pil.Resampling.BICUBIC)
        starts = [(column * chosen.tile, row * chosen.tile) for row in range(rows) for column in range(columns)]
        cuts = [large.crop((x, y, x + chosen.tile, y + chosen.tile)) for x, y in starts]
        tiles = torch.stack([pixels_of(cut) for cut in cuts])
    return Views(
        mode=chosen, size=picture.size, whole_13SS=pixels_of(whole)[None], tiles_N3SS=tiles, grid=(columns, rows)
    )


def tile_boxes(width: int, height: int, mode: str | Mode) -> list[tuple[float, float, float, float]]:
    """Where the tiles lie in a picture of this size, (left, top, right, bottom) in its own pixels, row by row."""
    columns, rows = get_mode(mode).tile_grid(width, height)
    return [
        (column * width / columns, row * height / rows, (column + 1) * width / columns, (row + 1) * height / rows)
        for row in range(rows)
        for column in range(columns)
    ]


def _padded(picture: Image, side: int) -> Image:
    """The picture as large as it fits, centred on grey; Pillow's own `pad` fails where a side would become zero."""
    from PIL import Image as pil

    width, height = picture.size
    longer = max(width, height)
    inside = (max(1, round(width / longer * side)), max(1, round(height / longer * side)))
    canvas = pil.new("RGB", (side, side), _GREY)
    fitted = picture.resize(inside, pil.Resampling.BICUBIC)
    canvas.paste(fitted, (round((side - inside[0]) * 0.5), round((side - inside[1]) * 0.5)))
    return canvas


def pixels_of(picture: Image) -> Tensor:
    """Values in -1..1, [3, H, W]."""
    import numpy as np
    import torch

    pixels_HW3 = torch.from_numpy(np.array(picture, dtype=np.uint8))
    return pixels_HW3.permute(2, 0, 1).float() / 127.5 - 1.0
