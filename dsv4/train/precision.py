"""Number format and compilation of a training step, by device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

F = TypeVar("F", bound=Callable[..., object])


def autocast(device: torch.device) -> torch.autocast:
    """Matrix products in bfloat16; parameters, norms and losses stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def compiled(function: F, device: torch.device) -> F:
    """`function` compiled for fixed shapes on an accelerator; as it is on a CPU, where compiling costs minutes."""
    if device.type == "cpu":
        return function
    return torch.compile(function, dynamic=False)
