"""Root-mean-square normalisation that keeps the activation's format.

Shape letters: D the last dimension.
Source: Zhang and Sennrich 2019 (arXiv 1910.07467); weights may stay float32 while activations are bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.ops.numbers import wide


def rms_norm(x_D: Tensor, weight_D: Tensor | None = None, *, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension, in x's format.

    Limit case: a row of ones is unchanged up to eps. The mean is taken in float32 or wider.
    """
    if weight_D is None or weight_D.dtype == x_D.dtype:
        return F.rms_norm(x_D, (x_D.shape[-1],), weight_D, eps)
    wide_D = wide(x_D)
    scale_1 = torch.rsqrt(wide_D.square().mean(-1, keepdim=True) + eps)
    return (wide_D * scale_1 * weight_D).to(x_D.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight [size]."""

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x_D: Tensor) -> Tensor:
        return rms_norm(x_D, self.weight, eps=self.eps)
