"""Number formats that several operators share."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """`x` in float32, or as it is when it is float64; what normalisers and softmaxes are computed in."""
    return x if x.dtype == torch.float64 else x.float()


def compute_dtype(like: Tensor) -> torch.dtype:
    """The format of activations: autocast's where autocast is on, the tensor's own elsewhere."""
    device = like.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return like.dtype
