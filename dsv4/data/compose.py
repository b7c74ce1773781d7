"""Draws scenes and clips on the device from sprites and places: turned, scaled, anti-aliased, laid over a ground.

Shape letters: B rows, N actors, F frames, H and W pixels, C colour channels with alpha.
Every pixel gathers its four texels from packed mips, so that one compiled kernel draws an actor and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from dsv4.data.atlas import LEVELS, Atlas
from dsv4.data.motions import STEPS


def render_pictures(batch: Mapping[str, Tensor], atlas: Atlas, size: int) -> Tensor:
    """Still pictures of a batch of placement arrays (see `scenes.Scenes`), float32 [B, 3, size, size] in -1..1."""
    return _draw(batch["sprite"], batch["place"].float(), batch["ground"], atlas, size)


def render_clips(batch: Mapping[str, Tensor], atlas: Atlas, size: int, frames: int) -> Tensor:
    """Clips of a batch of placement arrays with motions, float32 [B, 3, frames, size, size] in -1..1."""
    sprite_BN, place_BN4 = batch["sprite"], batch["place"].float()
    rows, actors = sprite_BN.shape
    step_F = torch.arange(frames, device=place_BN4.device) * (STEPS - 1) // max(1, frames - 1)
    path_BNF4 = atlas.motions[batch["motion"].long()][:, :, step_F]
    place_BNF4 = torch.stack(
        [
            place_BN4[:, :, None, 0] + path_BNF4[..., 0],
            place_BN4[:, :, None, 1] + path_BNF4[..., 1],
            place_BN4[:, :, None, 2] * path_BNF4[..., 2],
            place_BN4[:, :, None, 3] + path_BNF4[..., 3],
        ],
        dim=-1,
    )
    flat_place = place_BNF4.transpose(1, 2).reshape(rows * frames, actors, 4)
    flat_sprite = sprite_BN[:, None].expand(rows, frames, actors).reshape(rows * frames, actors)
    flat_ground = batch["ground"][:, None].expand(rows, frames, 3).reshape(rows * frames, 3)
    drawn = _draw(flat_sprite, flat_place, flat_ground, atlas, size)
    return drawn.view(rows, frames, 3, size, size).transpose(1, 2)


def cut_out(sprite_B: Tensor, place_B4: Tensor, atlas: Atlas, size: int) -> Tensor:
    """One actor a row over nothing: premultiplied float32 [B, 4, size, size] in 0..1."""
    return torch.stack(_actor(sprite_B, place_B4.float(), atlas, size), dim=1)


def to_bytes(pictures: Tensor) -> Tensor:
    """From -1..1 to uint8."""
    return pictures.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def _draw(sprite_BN: Tensor, place_BN4: Tensor, ground_B3: Tensor, atlas: Atlas, size: int) -> Tensor:
    ground = ground_B3.float() / 255
    channels = [ground[:, channel, None, None] for channel in range(3)]
    for actor in range(sprite_BN.shape[1]):
        *colours, alpha = _actor(sprite_BN[:, actor], place_BN4[:, actor], atlas, size)
        channels = [over + below * (1 - alpha) for over, below in zip(colours, channels, strict=True)]
    return torch.stack(channels, dim=1) * 2 - 1


def _actor(sprite_B: Tensor, place_B4: Tensor, atlas: Atlas, size: int) -> list[Tensor]:
    """Premultiplied red, green, blue and alpha, each [B, size, size] in 0..1; zero where the actor is not."""
    sample = _compiled_sample() if atlas.packed.is_cuda else _sample
    return sample(sprite_B, place_B4, atlas.packed, atlas.side, atlas.count, size)


@cache
def _compiled_sample() -> Callable[..., list[Tensor]]:
    return torch.compile(_sample, dynamic=False)


def _sample(sprite_B: Tensor, place_B4: Tensor, packed: Tensor, full: int, sprites: int, size: int) -> list[Tensor]:
    x, y, scale, turn = (place_B4[:, part, None, None] for part in range(4))
    # The level whose texels are about as large as a pixel, rather smaller than larger: blur shows more than aliasing.
    texels = full / (scale * size)
    level = (torch.log2(texels) - 0.25).round().clamp(0, LEVELS - 1).long()
    side = full >> level
    start = torch.zeros_like(level)
    for number in range(1, LEVELS):
        start = start + (level >= number) * (sprites * (full >> (number - 1)) ** 2)
    start = start + sprite_B.clamp(min=0).long()[:, None, None] * side * side

    pixel = (torch.arange(size, device=place_B4.device) + 0.5) / size
    across, down = (pixel[None, None, :] - x) / scale, (pixel[None, :, None] - y) / scale
    cosine, sine = turn.cos(), turn.sin()
    u = (cosine * across + sine * down + 0.5) * side - 0.5
    v = (cosine * down - sine * across + 0.5) * side - 0.5
    there = (sprite_B >= 0)[:, None, None]
    left, top = u.floor(), v.floor()
    total = [torch.zeros((), device=place_B4.device)] * 4
    for step_v in (0, 1):
        for step_u in (0, 1):
            column, row = left + step_u, top + step_v
            weight = (1 - (u - column).abs()) * (1 - (v - row).abs())
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side) & there
            column, row = column.clamp(min=0).minimum(side - 1), row.clamp(min=0).minimum(side - 1)
            texel = packed[start + row.long() * side + column.long()]
            weight = weight * inside / 255
            total = [kept + ((texel >> 8 * part) & 255) * weight for part, kept in enumerate(total)]
    return total
