"""Attention of many query heads over one shared entry a token, which is key and value at once, with or without a sink.

Shape letters: B batch, Q queries, S entries, H heads, D entry size, V numbers of an entry that are value, K chosen
entries, G key heads.
Source: V4 report §2.3.3; sink as in transformers' deepseek_v4 (a learned logit a head that only takes part in the
denominator). Absorbed latent attention (V2 report §2.1) is the same with another scale, no sink, and only the first V
numbers as value. No tensor of all queries times all entries is made: queries go in tiles.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsv4.ops.linear import batched
from dsv4.ops.numbers import wide

if TYPE_CHECKING or torch.cuda.is_available():  # only used there, and slow to import
    from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

TILE = 512


def attend(
    q_BQHD: Tensor,
    entries_BSD: Tensor,
    sink_H: Tensor | None,
    seen_BQS: Tensor | None,
    *,
    scale: float | None = None,
    value: int | None = None,
) -> Tensor:
    """softmax over seen entries and the sink, times the first `value` numbers of entries: [B, Q, H, V].

    `scale` is 1 / sqrt(D) unless given. Limit cases: no sink (or one of -inf) is plain softmax attention; one seen
    entry and no sink returns that entry. Every query must see an entry or have a finite sink. Scores are summed in
    float32 or wider.
    """
    B, Q, H, D = q_BQHD.shape
    scores_BQHS = batched(q_BQHD.reshape(B, Q * H, D), entries_BSD.mT).view(B, Q, H, -1)
    weights_BQHS = _weights(
        scores_BQHS, sink_H, None if seen_BQS is None else seen_BQS[:, :, None], scale or 1 / math.sqrt(D)
    )
    values_BSV = entries_BSD if value is None else entries_BSD[..., :value]
    return batched(weights_BQHS.to(q_BQHD.dtype).view(B, Q * H, -1), values_BSV).view(B, Q, H, -1)


def attend_chosen(
    q_BQHD: Tensor,
    chosen_BQKD: Tensor,
    sink_H: Tensor | None,
    valid_BQK: Tensor | None,
    *,
    scale: float | None = None,
    value: int | None = None,
) -> Tensor:
    """The same where each query has its own K gathered entries."""
    B, Q = q_BQHD.shape[:2]
    scores_BQHK = batched(q_BQHD.flatten(0, 1), chosen_BQKD.flatten(0, 1).mT).unflatten(0, (B, Q))
    valid = None if valid_BQK is None else valid_BQK[:, :, None]
    weights_BQHK = _weights(scores_BQHK, sink_H, valid, scale or 1 / math.sqrt(q_BQHD.shape[-1]))
    values_BQKV = chosen_BQKD if value is None else chosen_BQKD[..., :value]
    return batched(weights_BQHK.to(q_BQHD.dtype).flatten(0, 1), values_BQKV.flatten(0, 1)).unflatten(0, (B, Q))


def probabilities(
    q_BQHD: Tensor, entries_BSD: Tensor, sink_H: Tensor | None, seen_BQS: Tensor, *, scale: float | None = None
) -> Tensor:
    """The weights of `attend` [B, Q, H, S]; with a sink they sum to less than one, it holds the rest."""
    B, Q, H, D = q_BQHD.shape
    scores_BQHS = batched(q_BQHD.reshape(B, Q * H, D), entries_BSD.mT).view(B, Q, H, -1)
    return _weights(scores_BQHS, sink_H, seen_BQS[:, :, None], scale or 1 / math.sqrt(D))


def attend_heads(q_BQHD: Tensor, k_BSGD: Tensor, v_BSGV: Tensor, seen_BQS: Tensor | None, *, scale: float) -> Tensor:
    """Softmax attention with keys and values of G heads, each serving H / G query heads: [B, Q, H, V]."""
    B, Q, H, D = q_BQHD.shape
    G = k_BSGD.shape[2]
    q_BGRD = q_BQHD.view(B, Q, G, H // G, D).permute(0, 2, 1, 3, 4).reshape(B, G, Q * (H // G), D)
    scores_BGRS = (q_BGRD @ k_BSGD.permute(0, 2, 3, 1)).view(B, G, Q, H // G, -1)
    seen = None if seen_BQS is None else seen_BQS[:, None, :, None]
    weights = _weights(scores_BGRS, None, seen, scale).to(q_BQHD.dtype).flatten(2, 3)
    out_BGRV = (weights @ v_BSGV.transpose(1, 2)).view(B, G, Q, H // G, -1)
    return out_BGRV.permute(0, 2, 1, 3, 4).reshape(B, Q, H, -1)


def _weights(scores_BQHS: Tensor, sink_H: Tensor | None, seen: Tensor | None, scale: float) -> Tensor:
    scaled = wide(scores_BQHS) * scale
    if seen is not None:
        scaled = scaled.masked_fill(~seen, float("-inf"))
    if sink_H is None:
        return torch.softmax(scaled, -1)
    sink_H1 = wide(sink_H)[:, None]
    top = torch.maximum(scaled.amax(-1, keepdim=True), sink_H1).detach()
    powers = torch.exp(scaled - top)
    return powers / (powers.sum(-1, keepdim=True) + torch.exp(sink_H1 - top))


def attend_flex(q_BQHD: Tensor, entries_BSD: Tensor, sink_H: Tensor, mask: BlockMask) -> Tensor:
    """`attend` through FlexAttention: the sink scales the output by e^lse / (e^lse + e^sink)."""
    entries_B1SD = entries_BSD[:, None]
    aux = AuxRequest(lse=True)
    out_BHQD, extra = flex_attention(
        q_BQHD.transpose(1, 2), entries_B1SD, entries_B1SD, block_mask=mask, enable_gqa=True, return_aux=aux
    )
    assert extra.lse is not None  # it was asked for
    kept_BHQ = torch.sigmoid(extra.lse - sink_H.float()[:, None])
    return (out_BHQD * kept_BHQ[..., None].to(out_BHQD.dtype)).transpose(1, 2)
