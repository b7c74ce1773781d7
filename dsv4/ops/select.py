"""Lightning indexer: cheap scores of every earlier entry, and the k best by score, then by nearness.

Shape letters: B batch, Q queries, S keys, I index heads, C index size, K chosen.
Source: DeepSeek-V3.2 report, equations 1-2. Ties are decided by position, the later one first: scores pass a ReLU, so
exact zeros are common, and which of them are taken must not depend on a library's order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dsv4.ops import sparse_triton
from dsv4.ops.fp8 import e4m3, read_e4m3
from dsv4.ops.linear import batched
from dsv4.ops.numbers import wide

PIECE = 65_536  # keys that are scored at a time, so that what lies between stays in the processor's cache
LEAST = 1024  # the smallest piece of bfloat16 keys; ends are filled up to it
NARROW_FROM, SPAN = 131_072, 64  # scores of one row from which on spans are looked at first


def index_scores(q_BQIC: Tensor, weights_BQI: Tensor, keys_BSC: Tensor) -> Tensor:
    """Σ_i w_i · ReLU(q_i · k) / sqrt(I · C): [B, Q, S] in float32 or wider."""
    B, Q, heads, size = q_BQIC.shape
    weights_BQI1 = wide(weights_BQI)[..., None] * (1 / math.sqrt(heads * size))
    if sparse_triton.applies(q_BQIC, keys_BSC) and q_BQIC.dtype != torch.float64:
        return sparse_triton.scores(q_BQIC, weights_BQI1[..., 0], keys_BSC)
    if B == Q == 1 and keys_BSC.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        # One query and many keys: quicker from the keys' side, where the heads lie next to each other.
        q_CI, found_11S = q_BQIC[0, 0].T.contiguous(), _room(weights_BQI1, 1, 1, keys_BSC.shape[1])
        for start, keys_1PC in _pieces(keys_BSC):
            out_P = found_11S[0, 0, start : start + keys_1PC.shape[1]]
            torch.mv(torch.mm(keys_1PC[0], q_CI).relu_().float(), weights_BQI1[0, 0, :, 0], out=out_P)
        return found_11S[..., : keys_BSC.shape[1]]
    if torch.is_grad_enabled() or keys_BSC.device.type != "cpu":
        return _scored(q_BQIC, weights_BQI1, keys_BSC)
    found_BQS = _room(weights_BQI1, B, Q, keys_BSC.shape[1])
    for start, keys_BPC in _pieces(keys_BSC):
        found_BQS[..., start : start + keys_BPC.shape[1]] = _scored(q_BQIC, weights_BQI1, keys_BPC)
    return found_BQS[..., : keys_BSC.shape[1]]


def _room(like: Tensor, B: int, Q: int, S: int) -> Tensor:
    """Room for scores [B, Q, S], of whole pieces: what grows a little from tile to tile would never fit where the last
    lay, and with a little something kept in between the heap would grow by all of it each time."""
    return like.new_empty(B, Q, -(-S // PIECE) * PIECE)


def _pieces(keys_BSC: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Where pieces begin, and the pieces; bfloat16 ones are of few different sizes, the last is filled up with zeros.

    For every new shape of a bfloat16 product the library keeps half a megabyte, for the last thousand of them.
    """
    start, size, end = 0, PIECE, keys_BSC.shape[1]
    few = keys_BSC.dtype == torch.bfloat16
    while start < end:
        while few and size > max(LEAST, end - start):
            size //= 2
        keys_BPC = keys_BSC[:, start : start + size]
        short = size - keys_BPC.shape[1] if few else 0
        yield start, F.pad(keys_BPC, (0, 0, 0, short)) if short else keys_BPC
        start += size


def _scored(q_BQIC: Tensor, weights_BQI1: Tensor, keys_BSC: Tensor) -> Tensor:
    B, Q, heads, size = q_BQIC.shape
    dots_BQIS = batched(q_BQIC.reshape(B, Q * heads, size), keys_BSC.mT).view(B, Q, heads, -1)
    return (wide(dots_BQIS).relu() * weights_BQI1).sum(2)


def eight_bits(x_C: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes of the last dimension and its scale [..., 1] in float32: x is nearly code · scale."""
    scale_1 = wide(x_C).abs().amax(-1, keepdim=True).clamp_min(1e-12).float() / 127
    return torch.round(x_C / scale_1).to(torch.int8), scale_1


def index_scores_int8(q_BQIC: Tensor, weights_BQI: Tensor, codes_BSC: Tensor, scales_BS: Tensor) -> Tensor:
    """`index_scores` over keys in eight bits; queries are put into eight bits too: [B, Q, S] in float32.

    Scales are positive, so they pass the ReLU: a query's goes into its head's weight, a key's behind the sum.
    """
    B, Q, heads, size = q_BQIC.shape
    codes_BQIC, scale_BQI1 = eight_bits(q_BQIC)
    weights_BQI = weights_BQI.float() * scale_BQI1[..., 0] / math.sqrt(heads * size)
    if sparse_triton.applies(codes_BQIC, codes_BSC):
        return sparse_triton.scores(codes_BQIC, weights_BQI, codes_BSC, scales_BS)
    found_BQS = _room(weights_BQI, B, Q, codes_BSC.shape[1])[..., : codes_BSC.shape[1]]
    for row in range(B):
        q_QIC, w_QI = codes_BQIC[row].reshape(Q * heads, size), weights_BQI[row]
        for start in range(0, codes_BSC.shape[1], PIECE):
            keys_SC, out_QS = codes_BSC[row, start : start + PIECE], found_BQS[row, :, start : start + PIECE]
            dots_SN = _products(keys_SC, q_QIC).relu_().float()
            out_QS.copy_(torch.einsum("sqi,qi->qs", dots_SN.view(-1, Q, heads), w_QI))
    return found_BQS.mul_(scales_BS[:, None])


def index_scores_fp8(q_BQIC: Tensor, weights_BQI: Tensor, codes_BSC: Tensor, scales_BS: Tensor) -> Tensor:
    """`index_scores` over keys that are e4m3 codes (uint8); queries are rounded so too: [B, Q, S] in float32.

    Source: the indexer of DeepSeek-V3.2, whose keys are 128 codes and one float32 scale, 132 bytes.
    """
    codes_BQIC, scale_BQI1 = e4m3(q_BQIC)
    weights_BQI = weights_BQI.float() * scale_BQI1[..., 0]
    if sparse_triton.applies(codes_BQIC, codes_BSC):
        heads, size = q_BQIC.shape[2:]
        return sparse_triton.scores(codes_BQIC, weights_BQI / math.sqrt(heads * size), codes_BSC, scales_BS)
    dtype = torch.bfloat16 if q_BQIC.dtype == torch.bfloat16 else torch.float32  # both hold every code
    q_BQIC = read_e4m3(codes_BQIC, dtype)
    found_BQS = _room(weights_BQI, *q_BQIC.shape[:2], codes_BSC.shape[1])[..., : codes_BSC.shape[1]]
    for codes_BPC, out_BQP in zip(codes_BSC.split(PIECE, 1), found_BQS.split(PIECE, 2), strict=True):
        out_BQP.copy_(index_scores(q_BQIC, weights_BQI, read_e4m3(codes_BPC.contiguous(), dtype)))
    return found_BQS.mul_(scales_BS[:, None])


def _products(keys_SC: Tensor, q_NC: Tensor) -> Tensor:
    """keys · queries as int32 [S, N]; off the CPU as float32, which holds these sums exactly."""
    if keys_SC.device.type != "cpu":
        return keys_SC.float() @ q_NC.float().T
    return torch._int_mm(keys_SC, q_NC.T)


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

    Without `seen_BQS` every score above minus infinity is seen.

    Where nothing at the border is equal, which is nearly always, this is one look for the k best; otherwise the rule of
    `choose` decides.
    """
    B, Q, S = scores_BQS.shape
    if seen_BQS is None and S >= NARROW_FROM and (B * Q == 1 or scores_BQS.device.type == "cpu"):
        found = [_narrowed(scores_BQS[b, q, None, None], k) for b in range(B) for q in range(Q)]
        places_NK, real_NK = (torch.cat([one[part] for one in found], 1)[0] for part in (0, 1))
        return places_NK.view(B, Q, k), real_NK.view(B, Q, k)
    return _few(scores_BQS, k, seen_BQS)


def _few(scores_BQS: Tensor, k: int, seen_BQS: Tensor | None = None) -> tuple[Tensor, Tensor]:
    masked_BQS = scores_BQS if seen_BQS is None else scores_BQS.masked_fill(~seen_BQS, float("-inf"))
    best_BQK, places_BQK = masked_BQS.topk(k, dim=-1, sorted=False)
    least_BQ1 = best_BQK.amin(-1, keepdim=True)
    real_BQK = best_BQK > float("-inf")
    equal_BQ = sum((part_BQP == least_BQ1).sum(-1) for part_BQP in masked_BQS.split(PIECE, -1))
    level = (equal_BQ > (best_BQK == least_BQ1).sum(-1)) & real_BQK.all(-1)
    if not level.any():
        S = masked_BQS.shape[-1]
        sorted_BQK = places_BQK.masked_fill(~real_BQK, S).sort(-1).values
        return sorted_BQK.clamp(max=S - 1), sorted_BQK < S
    seen_BQS = masked_BQS > float("-inf") if seen_BQS is None else seen_BQS
    return chosen_places(choose(scores_BQS, seen_BQS, k), k)


def _narrowed(scores_11S: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`best_places` of one long row, looking only into spans whose best is not below that of the k-th best span.

    At least k scores are as high as that, so every one of the k best, and all that equal the least, lie in such spans.
    """
    whole = scores_11S.shape[-1] // SPAN * SPAN
    spans_NW = scores_11S[0, 0, :whole].view(-1, SPAN)
    tops_N = spans_NW.amax(-1)
    kept_K = (tops_N >= tops_N.topk(min(k, tops_N.shape[0]), sorted=False).values.amin()).nonzero()[:, 0]
    places_S = (kept_K[:, None] * SPAN + torch.arange(SPAN, device=kept_K.device)).flatten()
    places_S = torch.cat((places_S, torch.arange(whole, scores_11S.shape[-1], device=kept_K.device)))
    some_11K, real_11K = _few(scores_11S[..., places_S], k)
    return places_S[some_11K], real_11K


def hide_later(scores_BQS: Tensor) -> Tensor:
    """Scores of neighbouring queries, the last of which sees all S keys, with what lies behind each at minus infinity.

    In place: only the last Q keys are looked at.
    """
    Q = scores_BQS.shape[1]
    later_QQ = torch.ones(Q, Q, dtype=torch.bool, device=scores_BQS.device).triu(1)
    scores_BQS[..., -Q:].masked_fill_(later_QQ, float("-inf"))
    return scores_BQS


def selection_loss(scores_BQS: Tensor, target_BQS: Tensor, seen_BQS: Tensor) -> Tensor:
    """Mean over queries of KL(target ‖ softmax of scores over what is seen), in nats.

    `target_BQS` is normalised here and detached; both sides are taken over `seen_BQS` alone.
    Source: DeepSeek-V3.2 report §2.1.
    """
    target = wide(target_BQS.detach()).masked_fill(~seen_BQS, 0.0)
    target = target / target.sum(-1, keepdim=True).clamp_min(1e-20)
    guess = torch.log_softmax(scores_BQS.masked_fill(~seen_BQS, float("-inf")), -1).masked_fill(~seen_BQS, 0.0)
    return (target * (target.clamp_min(1e-20).log() - guess)).sum(-1).mean()
