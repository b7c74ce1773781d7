"""How long a picture or clip will take, said before it starts: two short passes are timed, the rest is arithmetic.

Shape letters: F frames, H and W pixels; N patches of all frames, D width of the head. A step of a transformer costs
N * (a + b * N): layers for every patch, attention for every pair. a and b follow from its sizes, the speed from timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Shape = tuple[int, int, int]
SMALL: Shape = (2, 64, 64)  # what is timed: 128 patches, some hundredths of a second


def seconds_of(
    head: Any, shape: Shape, *, steps: int, guidance: float = 2.0, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds for frames, height and width `shape` in so many steps on this machine, as busy as it is now.

    Raises ValueError for a shape that the head cannot make.
    """
    import torch

    from dsv4._parts import part

    part("generation.head").check_size(head.config, *shape)
    device = next(head.parameters()).device
    head.half_precision()  # as it will be used
    took = []
    with torch.inference_mode():
        condition = head.connector.null(1)
        for _ in range(4):  # the first is slower, and others may be disturbed
            started = clock()
            head(torch.zeros(1, 3, *SMALL, device=device), torch.ones(1, device=device), *condition)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            took.append(clock() - started)
    rows = 2 if guidance != 1 else 1
    return min(took) * steps * rows * work_of(head.config, shape) / work_of(head.config, SMALL)


def work_of(config: Any, shape: Shape) -> float:
    """Multiplications of one pass of one row, up to a factor that all shapes share."""
    frames, height, width = shape
    patches, size = frames * (height // config.patch) * (width // config.patch), config.heads * config.head_dim
    # Each layer: four projections of each of two attentions, a unit of `ffn_dim`, and attention among all patches.
    return patches * (8 * size**2 + 2 * size * config.ffn_dim + 2 * size * patches)


def told(seconds: float) -> str:
    """The time in words, no more exact than it is."""
    if seconds < 1.5:
        return "about a second"
    if seconds < 90:
        return f"about {round(seconds) if seconds < 10 else 5 * round(seconds / 5)} seconds"
    return f"about {round(seconds / 60)} minutes" if seconds >= 150 else "about two minutes"
