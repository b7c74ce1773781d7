"""Rotary positions on the last part of a head, forwards and backwards.

Shape letters: B batch, T tokens, H heads, D head size, R rotated size, P pairs = R / 2.
Source: Su et al. 2021 (arXiv 2104.09864); trailing interleaved pairs as in transformers' deepseek_v4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.ops.numbers import wide


def angles(positions_BT: Tensor, rotated: int, *, theta: float = 1e4) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, T, P] in float32 of position · theta^(-2p / R)."""
    powers_P = torch.arange(0, rotated, 2, device=positions_BT.device, dtype=torch.float32) / rotated
    angle_BTP = positions_BT[..., None].float() * torch.pow(torch.full_like(powers_P, theta), -powers_P)
    return angle_BTP.cos(), angle_BTP.sin()


def rotate(x_D: Tensor, cos_P: Tensor, sin_P: Tensor) -> Tensor:
    """Turn the last 2P numbers of x, pair (2p, 2p + 1) by angle p; the numbers before them stay.

    `cos_P` and `sin_P` broadcast against x's leading dimensions. Turning with `-sin_P` undoes it.
    """
    rotated = 2 * cos_P.shape[-1]
    still, turning = x_D[..., : x_D.shape[-1] - rotated], x_D[..., x_D.shape[-1] - rotated :]
    even, odd = wide(turning).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos_P - odd * sin_P, even * sin_P + odd * cos_P), -1).flatten(-2).to(x_D.dtype)
    return torch.cat((still, turned), -1) if still.shape[-1] else turned
