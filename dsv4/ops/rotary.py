"""Rotary positions on the last part of a head, forwards and backwards.

Shape letters: B batch, T tokens, H heads, D head size, R rotated size, P pairs = R / 2.
Source: Su et al. 2021 (arXiv 2104.09864); trailing interleaved pairs as in transformers' deepseek_v4, leading halves as
in the indexer of deepseek_v32; stretched speeds after YaRN (arXiv 2309.00071), as DeepSeek's models use it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dsv4.ops.numbers import wide


def angles(positions_BT: Tensor, rotated: int, *, theta: float = 1e4) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, T, P] in float32 of position · theta^(-2p / R)."""
    powers_P = torch.arange(0, rotated, 2, device=positions_BT.device, dtype=torch.float32) / rotated
    angle_BTP = positions_BT[..., None].float() * torch.pow(torch.full_like(powers_P, theta), -powers_P)
    return angle_BTP.cos(), angle_BTP.sin()


def turned_by(positions_BT: Tensor, speeds_P: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, T, P] in float32 of position · speed, both times `scale`."""
    angle_BTP = positions_BT[..., None].float() * speeds_P.to(positions_BT.device)
    return angle_BTP.cos() * scale, angle_BTP.sin() * scale


def yarn_speeds(rotated: int, *, theta: float, factor: float, original: int, fast: float, slow: float) -> Tensor:
    """Radians a position [P] in float32: quick pairs keep their speed, slow ones are divided by `factor`.

    A pair that turns more than `fast` times over `original` positions is quick, fewer than `slow` times slow; between
    them the two speeds are blended linearly. Limit case: a factor of 1 is `theta^(-2p / R)`.
    """
    plain_P = 1.0 / theta ** (torch.arange(0, rotated, 2, dtype=torch.float32) / rotated)

    def pair_turning(times: float) -> float:
        return rotated * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_turning(fast)), 0)
    high = min(math.ceil(pair_turning(slow)), rotated - 1)
    ramp_P = (torch.arange(rotated // 2, dtype=torch.float32) - low) / (high - low if high != low else 0.001)
    slowed_P = ramp_P.clamp(0, 1)
    return plain_P / factor * slowed_P + plain_P * (1 - slowed_P)


def rotate(x_D: Tensor, cos_P: Tensor, sin_P: Tensor) -> Tensor:
    """Turn the last 2P numbers of x, pair (2p, 2p + 1) by angle p; the numbers before them stay.

    `cos_P` and `sin_P` broadcast against x's leading dimensions. Turning with `-sin_P` undoes it.
    """
    rotated = 2 * cos_P.shape[-1]
    still, turning = x_D[..., : x_D.shape[-1] - rotated], x_D[..., x_D.shape[-1] - rotated :]
    even, odd = wide(turning).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos_P - odd * sin_P, even * sin_P + odd * cos_P), -1).flatten(-2).to(x_D.dtype)
    return torch.cat((still, turned), -1) if still.shape[-1] else turned


def rotate_halves(x_D: Tensor, cos_P: Tensor, sin_P: Tensor) -> Tensor:
    """Turn the first 2P numbers of x, pair (p, p + P) by angle p; the numbers after them stay."""
    pairs = cos_P.shape[-1]
    first, second = wide(x_D[..., :pairs]), wide(x_D[..., pairs : 2 * pairs])
    turned = torch.cat((first * cos_P - second * sin_P, second * cos_P + first * sin_P), -1).to(x_D.dtype)
    return torch.cat((turned, x_D[..., 2 * pairs :]), -1) if 2 * pairs < x_D.shape[-1] else turned
