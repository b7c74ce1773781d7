"""Choose the next token from logits: greedy at temperature zero, else by chance from an explicit generator.

Shape letters: V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def sample(logits_V: Tensor, *, temperature: float, generator: torch.Generator | None = None) -> int:
    """One token id; `temperature` 0 takes the largest logit, ties going to the smaller id.

    The draw is made on the CPU in float64 by inverting the cumulative distribution, so one seed gives one text on
    every device. Raises ValueError when nothing is allowed (all logits are minus infinity).
    """
    import torch

    logits_V = logits_V.detach().float().cpu()
    if not torch.isfinite(logits_V).any():
        raise ValueError("no token is allowed here: every logit is minus infinity")
    if temperature == 0:
        return int(logits_V.argmax())
    weights_V = torch.softmax(logits_V.double() / temperature, dim=-1).cumsum(-1)
    point = torch.rand((), generator=generator, dtype=torch.float64) * weights_V[-1]
    return int(torch.searchsorted(weights_V, point, right=True).clamp(max=weights_V.numel() - 1))
