"""What all layers of one forward pass share: positions, documents, masks, and how far to look.

Shape letters: B batch, T tokens, P pairs of rotated numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsv4.core.cache import Cache
from dsv4.core.config import CoreConfig
from dsv4.ops.rotary import angles
from dsv4.ops.visible import flex_mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

FLEX_FROM = 256  # shorter rows are quicker with plain products


@dataclass(kw_only=True, eq=False)
class Frame:
    """Made once a forward pass by `make_frame`."""

    start: int
    length: int
    cos_BT1P: Tensor
    sin_BT1P: Tensor
    index_cos_BT1P: Tensor
    index_sin_BT1P: Tensor
    segments_BT: Tensor | None
    cache: Cache | None
    sparse: bool
    index_loss: str | None  # None, `all` (over every seen entry) or `chosen` (over the selected ones)
    flex: dict[str, BlockMask] = field(default_factory=dict)


def make_frame(
    config: CoreConfig,
    *,
    positions_BT: Tensor,
    batch: int,
    segments_BT: Tensor | None,
    cache: Cache | None,
    sparse: bool,
    index_loss: str | None,
    compiled: bool = False,
) -> Frame:
    """Rotations for both head sizes, and block masks where FlexAttention will be used: by compiled blocks on CUDA."""
    attention = config.attention
    cos, sin = angles(positions_BT, attention.rotated, theta=attention.theta)
    index_cos, index_sin = angles(positions_BT, attention.index_rotated, theta=attention.theta)
    length = positions_BT.shape[1]
    frame = Frame(
        start=cache.length if cache is not None else 0,
        length=length,
        cos_BT1P=cos[:, :, None],
        sin_BT1P=sin[:, :, None],
        index_cos_BT1P=index_cos[:, :, None],
        index_sin_BT1P=index_sin[:, :, None],
        segments_BT=segments_BT,
        cache=cache,
        sparse=sparse,
        index_loss=index_loss,
    )
    if compiled and uses_flex(positions_BT.device, length, cache):
        for kind, window in (("whole", None), ("sliding", attention.window)):
            if kind == "whole" or "sliding" in config.reach:
                frame.flex[kind] = flex_mask(
                    segments_BT, batch=batch, length=length, window=window, device=positions_BT.device
                )
    return frame


def uses_flex(device: torch.device, length: int, cache: Cache | None) -> bool:
    """FlexAttention only pays when compiled, on CUDA, for whole rows; elsewhere the plain form is used."""
    return device.type == "cuda" and cache is None and length >= FLEX_FROM and torch.is_grad_enabled()
