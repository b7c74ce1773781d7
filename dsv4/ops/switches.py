"""Fast paths of CUDA cards, each with an environment variable: 1 takes it on any card, 0 on none.

Without one they are taken on Hopper, where they were checked and timed (docs/gpu.md).
"""

from __future__ import annotations

import os

import torch

HOPPER = 9  # of a compute capability, the first number


def possible(name: str) -> bool:
    """Whether there is a CUDA card and the variable `name` is not 0. It touches no card, so that processes may fork."""
    return os.environ.get(name) != "0" and torch.cuda.is_available()


def taken_on(device: torch.device, name: str) -> bool:
    """Whether what the variable `name` switches is taken on this device."""
    said = os.environ.get(name)
    if device.type != "cuda" or said == "0":
        return False
    return said == "1" or torch.cuda.get_device_capability(device)[0] == HOPPER
