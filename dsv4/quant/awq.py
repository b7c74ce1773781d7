"""AWQ: input channels that matter are scaled up before rounding, and what feeds them is scaled down in return.

Shape letters: N rows, K columns (input channels), G groups of a row.
Source: arXiv 2306.00978: scales are a power of the mean input magnitude, the power and the clipped peak of each group
are searched. Difference: the output's error is taken from the second moment H of the inputs, tr(D H Dᵀ), which is the
same number without keeping the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dsv4.quant.grid import Grid, round_to

STEPS = 20  # powers that are tried, from 0 up to but not 1


def channel_scales(weights: Sequence[Tensor], hessians: Sequence[Tensor], magnitude_K: Tensor, grid: Grid) -> Tensor:
    """The scales [K] with which all `weights` [N, K] that read one input lose least together when rounded.

    hessians: [K, K] for each weight. magnitude_K: mean absolute input. A weight is multiplied by them, what feeds it
    divided.
    """
    magnitude_K = magnitude_K.float().clamp_min(1e-4)
    best_K, least = torch.ones_like(magnitude_K), float("inf")
    for step in range(STEPS):
        scales_K = magnitude_K.pow(step / STEPS)
        scales_K = scales_K / (scales_K.max() * scales_K.min()).sqrt()
        cost = 0.0
        for weight_NK, hessian_KK in zip(weights, hessians, strict=True):
            scaled = weight_NK.float() * scales_K
            apart_NK = grid.open(*round_to(scaled, grid)).sub_(scaled).div_(scales_K)
            cost += float(output_error(apart_NK, hessian_KK))
        if cost < least:
            best_K, least = scales_K, cost
    return best_K


def clipped(weight_ENK: Tensor, hessian_EKK: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes int8 [E, N, K] and scales [E, N, G] of an already scaled weight, each group's peak cut where that helps."""
    blocks_EGCC = _diagonal_blocks(hessian_EKK.float(), grid.group)
    scales_ENG = grid.searched(weight_ENK.float(), hessian_GCC=blocks_EGCC)
    return grid.codes(weight_ENK, scales_ENG), scales_ENG


def output_error(apart_NK: Tensor, hessian_KK: Tensor) -> Tensor:
    """Mean squared change of the output for a change of the weights, summed over rows: tr(D H Dᵀ)."""
    return ((apart_NK @ hessian_KK) * apart_NK).sum((-2, -1))


def _diagonal_blocks(hessian_EKK: Tensor, group: int) -> Tensor:
    groups = hessian_EKK.shape[-1] // group
    split = hessian_EKK.unflatten(-1, (groups, group)).unflatten(-3, (groups, group))  # [E, G, C, G, C]
    return torch.stack([split[..., place, :, place, :] for place in range(groups)], -3)
