"""Which keys a query may see: causal, inside a window, inside its own document.

Shape letters: B batch, Q queries, S keys. Indices are places in the row (or in the cached sequence), not positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING or torch.cuda.is_available():  # only used there, and slow to import
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask


def visible(
    query_Q: Tensor, key_S: Tensor, *, window: int | None = None, segments: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Boolean [1 or B, Q, S]: key not after query, less than `window` before it, and of the same segment.

    `segments` holds the queries' [B, Q] and the keys' [B, S] document numbers.
    """
    back_QS = query_Q[:, None] - key_S[None, :]
    seen_QS = back_QS >= 0
    if window is not None:
        seen_QS = seen_QS & (back_QS < window)
    if segments is None:
        return seen_QS[None]
    return seen_QS[None] & (segments[0][:, :, None] == segments[1][:, None, :])


def flex_mask(
    segments_BT: Tensor | None, *, batch: int, length: int, window: int | None, device: torch.device
) -> BlockMask:
    """The same rule as a block mask for FlexAttention; build it once a forward pass, it serves every such layer."""

    def rule(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen = q >= k
        if window is not None:
            seen = seen & (q - k < window)
        if segments_BT is not None:
            seen = seen & (segments_BT[b, q] == segments_BT[b, k])
        return seen

    rows = batch if segments_BT is not None else None
    return create_block_mask(rule, rows, None, length, length, device=device)
