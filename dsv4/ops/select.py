"""Lightning indexer: cheap scores of every earlier entry, and the k best by score, then by nearness.

Shape letters: B batch, Q queries, S keys, I index heads, C index size, K chosen.
Source: DeepSeek-V3.2 report, equations 1-2. Ties are decided by position, the later one first: scores pass a ReLU, so
exact zeros are common, and which of them are taken must not depend on a library's order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dsv4.ops.linear import batched
from dsv4.ops.numbers import wide


def index_scores(q_BQIC: Tensor, weights_BQI: Tensor, keys_BSC: Tensor) -> Tensor:
    """Σ_i w_i · ReLU(q_i · k) / sqrt(I · C): [B, Q, S] in float32 or wider."""
    B, Q, heads, size = q_BQIC.shape
    weights_BQI1 = wide(weights_BQI)[..., None] * (1 / math.sqrt(heads * size))
    if B == Q == 1 and keys_BSC.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        # One query and many keys: quicker from the keys' side, where the heads lie next to each other.
        dots_SI = torch.mm(keys_BSC[0], q_BQIC[0, 0].T.contiguous())
        return torch.mv(dots_SI.relu_().float(), weights_BQI1[0, 0, :, 0])[None, None]
    dots_BQIS = batched(q_BQIC.reshape(B, Q * heads, size), keys_BSC.mT).view(B, Q, heads, -1)
    return (wide(dots_BQIS).relu() * weights_BQI1).sum(2)


def choose(scores_BQS: Tensor, seen_BQS: Tensor, k: int) -> Tensor:
    """Boolean [B, Q, S] of the k best seen keys of each query; all of them where at most k are seen.

    Equal scores: the later key wins.
    """
    if scores_BQS.shape[-1] <= k:
        return seen_BQS.expand_as(scores_BQS)
    masked_BQS = scores_BQS.masked_fill(~seen_BQS, float("-inf"))
    least_BQ1 = masked_BQS.topk(k, dim=-1).values[..., -1:]
    above_BQS = masked_BQS > least_BQ1
    level_BQS = masked_BQS == least_BQ1
    left_BQ1 = k - above_BQS.sum(-1, keepdim=True)
    from_end_BQS = level_BQS.flip(-1).cumsum(-1).flip(-1)
    return (above_BQS | (level_BQS & (from_end_BQS <= left_BQ1))) & seen_BQS


def chosen_places(chosen_BQS: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices [B, Q, k] of at most k chosen keys in order of place, and which of the k are real."""
    rank_BQS = chosen_BQS.cumsum(-1) - 1
    slots_BQS = torch.where(chosen_BQS, rank_BQS, k)
    places_S = torch.arange(chosen_BQS.shape[-1], device=chosen_BQS.device).expand_as(slots_BQS)
    index_BQK = torch.zeros(*chosen_BQS.shape[:-1], k + 1, dtype=torch.long, device=chosen_BQS.device)
    index_BQK = index_BQK.scatter(-1, slots_BQS, places_S)[..., :k]
    valid_BQK = torch.arange(k, device=chosen_BQS.device) < chosen_BQS.sum(-1, keepdim=True)
    return index_BQK, valid_BQK


def best_places(scores_BQS: Tensor, seen_BQS: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Indices [B, Q, k] of what `choose` chooses, in order of place, and which are real; S must be at least k.

    Where nothing at the border is equal, which is nearly always, this is one look for the k best; otherwise the rule of
    `choose` decides.
    """
    masked_BQS = scores_BQS if seen_BQS is None else scores_BQS.masked_fill(~seen_BQS, float("-inf"))
    best_BQK, places_BQK = masked_BQS.topk(k, dim=-1, sorted=False)
    least_BQ1 = best_BQK.amin(-1, keepdim=True)
    real_BQK = best_BQK > float("-inf")
    level = ((masked_BQS == least_BQ1).sum(-1) > (best_BQK == least_BQ1).sum(-1)) & real_BQK.all(-1)
    if not level.any():
        S = masked_BQS.shape[-1]
        sorted_BQK = places_BQK.masked_fill(~real_BQK, S).sort(-1).values
        return sorted_BQK.clamp(max=S - 1), sorted_BQK < S
    seen_BQS = torch.ones_like(scores_BQS, dtype=torch.bool) if seen_BQS is None else seen_BQS
    return chosen_places(choose(scores_BQS, seen_BQS, k), k)


def gather_rows(rows_BSD: Tensor, index_BQK: Tensor) -> Tensor:
    """rows[b, index[b, q, k]]: [B, Q, K, D]. Whole rows are copied, which is quicker than number by number."""
    pairs = zip(rows_BSD, index_BQK, strict=True)
    found = [rows_SD.index_select(0, index_QK.reshape(-1)) for rows_SD, index_QK in pairs]
    return (found[0][None] if len(found) == 1 else torch.stack(found)).view(*index_BQK.shape, -1)


def selection_loss(scores_BQS: Tensor, target_BQS: Tensor, seen_BQS: Tensor) -> Tensor:
    """Mean over queries of KL(target ‖ softmax of scores over what is seen), in nats.

    `target_BQS` is normalised here and detached; both sides are taken over `seen_BQS` alone.
    Source: DeepSeek-V3.2 report §2.1.
    """
    target = wide(target_BQS.detach()).masked_fill(~seen_BQS, 0.0)
    target = target / target.sum(-1, keepdim=True).clamp_min(1e-20)
    guess = torch.log_softmax(scores_BQS.masked_fill(~seen_BQS, float("-inf")), -1).masked_fill(~seen_BQS, 0.0)
    return (target * (target.clamp_min(1e-20).log() - guess)).sum(-1).mean()
