"""The k best without a word from the host: score and place are one whole number, so that no two are equal.

Shape letters: B batch, Q queries, S keys, K chosen.
The choice is that of `select.best_places` (higher score first, of equal ones the later key), whose look at the border
between taken and left makes the host wait. Source: order of IEEE numbers by their bits, as in radix sorting.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranked_places(scores_BQS: Tensor, seen_BQS: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Places [B, Q, k] of the k best seen keys in rising order, and which of them are real; S must be at least k.

    `seen_BQS` broadcasts against the scores, which are float32 or are taken as such. Where fewer than k are seen, the
    rest is not real and stands behind, at the last key.
    """
    S = scores_BQS.shape[-1]
    if k > S:
        raise ValueError(f"cannot choose {k} of {S} keys")
    places_S = torch.arange(S, device=scores_BQS.device)
    ranks_BQS = _risen(scores_BQS) | places_S
    if seen_BQS is not None:
        ranks_BQS = ranks_BQS.masked_fill(~seen_BQS, torch.iinfo(torch.int64).min)
    best_BQK = ranks_BQS.topk(k, dim=-1, sorted=False).values
    real_BQK = best_BQK > torch.iinfo(torch.int64).min
    found_BQK = (best_BQK & 0x7FFFFFFF).masked_fill(~real_BQK, S).sort(-1).values
    return found_BQK.clamp(max=S - 1), found_BQK < S


def _risen(scores: Tensor) -> Tensor:
    """Whole numbers in the order of the scores, the lower 32 bits empty; both zeros are one number."""
    bits = (scores.float() + 0.0).view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32
