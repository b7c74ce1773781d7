"""How long a picture or clip will take, said before it starts: two short passes are timed, the rest is arithmetic.

Shape letters: F frames, H and W pixels; N patches of all frames, D width of the head. A step of a transformer costs
N * (a + b * N): layers for every patch, attention for every pair. a and b follow from its sizes, the speed from timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

Shape = tuple[int, int, int]
SMALL: Shape = (2, 64, 64)  # what is timed: 128 patches, some hundredths of a second


def seconds_of(
    head: Any, shape: Shape, *, steps: int, guidance: float = 2.0, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds for frames, height and width `shape` in so many steps on this machine, as busy as it is now.

    Raises ValueError for a shape that the head cannot make.
    """
    from dsv4._parts import part

    part("generation.head").check_size(head.config, *shape)
    return seconds_at(pace_of(head, clock=clock), shape, steps=steps, guidance=guidance)


def pace_of(head: Any, *, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """How fast a head works here now, and the sizes that `work_of` needs: plain numbers for any process."""
    import torch

    device, config = next(head.parameters()).device, head.config
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
    sizes = {name: getattr(config, name) for name in ("patch", "heads", "head_dim", "ffn_dim")}
    return {"seconds": min(took) / work_of(config, SMALL), **sizes}


def seconds_at(pace: Mapping[str, float], shape: Shape, *, steps: int, guidance: float) -> float:
    """Seconds for a shape at a pace that `pace_of` found."""
    rows = 2 if guidance != 1 else 1
    return pace["seconds"] * steps * rows * work_of(SimpleNamespace(**pace), shape)


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
