"""Attention of many query heads over one shared entry a token, which is key and value at once, with a sink.

Shape letters: B batch, Q queries, S entries, H heads, D entry size, K chosen entries.
Source: V4 report §2.3.3; sink as in transformers' deepseek_v4 (a learned logit a head that only takes part in the
denominator). No tensor of all queries times all entries is made: queries go in tiles.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsv4.ops.numbers import wide

if TYPE_CHECKING or torch.cuda.is_available():  # only used there, and slow to import
    from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

TILE = 512


def attend(q_BQHD: Tensor, entries_BSD: Tensor, sink_H: Tensor, seen_BQS: Tensor | None) -> Tensor:
    """softmax over seen entries and the sink, times entries: [B, Q, H, D].

    Limit cases: a sink of -inf is plain softmax attention; one seen entry and no sink returns that entry. Every query
    must see an entry or have a finite sink. Scores are summed in float32 or wider.
    """
    B, Q, H, D = q_BQHD.shape
    scores_BQHS = torch.bmm(q_BQHD.reshape(B, Q * H, D), entries_BSD.mT).view(B, Q, H, -1)
    weights_BQHS = _weights(scores_BQHS, sink_H, None if seen_BQS is None else seen_BQS[:, :, None], D)
    return torch.bmm(weights_BQHS.to(q_BQHD.dtype).view(B, Q * H, -1), entries_BSD).view(B, Q, H, D)


def attend_chosen(q_BQHD: Tensor, chosen_BQKD: Tensor, sink_H: Tensor, valid_BQK: Tensor | None) -> Tensor:
    """The same where each query has its own K gathered entries."""
    scores_BQHK = q_BQHD @ chosen_BQKD.mT
    weights_BQHK = _weights(scores_BQHK, sink_H, None if valid_BQK is None else valid_BQK[:, :, None], q_BQHD.shape[-1])
    return weights_BQHK.to(q_BQHD.dtype) @ chosen_BQKD


def probabilities(q_BQHD: Tensor, entries_BSD: Tensor, sink_H: Tensor, seen_BQS: Tensor) -> Tensor:
    """The weights of `attend` [B, Q, H, S]; they sum to less than one, the sink holds the rest."""
    B, Q, H, D = q_BQHD.shape
    scores_BQHS = torch.bmm(q_BQHD.reshape(B, Q * H, D), entries_BSD.mT).view(B, Q, H, -1)
    return _weights(scores_BQHS, sink_H, seen_BQS[:, :, None], D)


def _weights(scores_BQHS: Tensor, sink_H: Tensor, seen: Tensor | None, size: int) -> Tensor:
    scaled = wide(scores_BQHS) * (1 / math.sqrt(size))
    if seen is not None:
        scaled = scaled.masked_fill(~seen, float("-inf"))
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
