"""What all layers of one forward pass share: positions, documents, masks, and how far to look.

Shape letters: B batch, T tokens, P pairs of rotated numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dsv4.core.cache import Cache
from dsv4.core.config import COMPRESSED, AttentionConfig, CoreConfig, YarnConfig
from dsv4.core.passing import Shared
from dsv4.ops.rotary import angles, turned_by, yarn_speeds
from dsv4.ops.visible import flex_mask

if TYPE_CHECKING:
    from concurrent.futures import Future

    from torch.nn.attention.flex_attention import BlockMask

FLEX_FROM = 256  # shorter rows are quicker with plain products


class Turn(NamedTuple):
    """Cosine and sine of every position, for heads and for the indexer's heads."""

    cos_BT1P: Tensor
    sin_BT1P: Tensor
    index_cos_BT1P: Tensor
    index_sin_BT1P: Tensor


@dataclass(kw_only=True, eq=False)
class Frame:
    """Made once a forward pass by `make_frame`."""

    start: int
    length: int
    near: Turn  # of ordinary layers
    far: Turn | None  # of layers with compressed entries
    token_ids_BT: Tensor | None
    segments_BT: Tensor | None
    cache: Cache | None
    sparse: bool
    index_loss: str | None  # None, `all` (over every seen entry) or `chosen` (over the selected ones)
    flex: dict[str, BlockMask] = field(default_factory=dict)
    coming: dict[int, Future[Tensor]] = field(default_factory=dict)  # rows of memory under way, by layer
    shared: Shared | None = None  # what layers with shared compressed entries hand on


def make_frame(
    config: CoreConfig,
    *,
    positions_BT: Tensor,
    batch: int,
    segments_BT: Tensor | None,
    cache: Cache | None,
    sparse: bool,
    index_loss: str | None,
    token_ids_BT: Tensor | None = None,
    compiled: bool = False,
) -> Frame:
    """Rotations for both head sizes, and block masks where FlexAttention will be used: by compiled blocks on CUDA."""
    attention = config.attention
    length = positions_BT.shape[1]
    frame = Frame(
        start=cache.length if cache is not None else 0,
        length=length,
        near=_turn(config, positions_BT, far=False),
        far=_turn(config, positions_BT, far=True) if set(config.reach) & set(COMPRESSED) else None,
        token_ids_BT=token_ids_BT,
        segments_BT=segments_BT,
        cache=cache,
        sparse=sparse,
        index_loss=index_loss,
        shared=Shared() if "shared_compressed" in config.reach else None,
    )
    if compiled and isinstance(attention, AttentionConfig) and uses_flex(positions_BT.device, length, cache):
        for kind, window in (("whole", None), ("sliding", attention.window)):
            if kind == "whole" or "sliding" in config.reach:
                frame.flex[kind] = flex_mask(
                    segments_BT, batch=batch, length=length, window=window, device=positions_BT.device
                )
    return frame


def uses_flex(device: torch.device, length: int, cache: Cache | None) -> bool:
    """FlexAttention only pays when compiled, on CUDA, for whole rows; elsewhere the plain form is used."""
    return device.type == "cuda" and cache is None and length >= FLEX_FROM and torch.is_grad_enabled()


def stretched(positions_BT: Tensor, rotated: int, *, theta: float, yarn: YarnConfig | None) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, T, P], stretched by YaRN where there is one."""
    if yarn is None:
        return angles(positions_BT, rotated, theta=theta)
    speeds_P = yarn_speeds(
        rotated, theta=theta, factor=yarn.factor, original=yarn.original, fast=yarn.fast, slow=yarn.slow
    )
    return turned_by(positions_BT, speeds_P, scale=yarn.turn_scale)


def _turn(config: CoreConfig, positions_BT: Tensor, *, far: bool) -> Turn:
    part = config.attention
    if isinstance(part, AttentionConfig):
        theta, yarn = (part.far_theta, part.yarn) if far else (part.theta, None)
    else:
        theta, yarn = part.theta, part.yarn
    both = [stretched(positions_BT, size, theta=theta, yarn=yarn) for size in (part.rotated, part.index_rotated)]
    return Turn(*(each[:, :, None] for pair in both for each in pair))
