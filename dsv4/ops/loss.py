"""Cross entropy over a large vocabulary without ever holding the logits of a whole batch.

Shape letters: N places, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.ops.numbers import wide


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Takes the gradient of each chunk in the forward pass, so that its logits can be dropped at once."""

    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, targets_N, ignore: int, chunk: int):  # noqa: ANN001, ANN205
        learnt_N = targets_N != ignore
        count = learnt_N.sum().clamp_min(1)
        safe_N = targets_N.masked_fill(~learnt_N, 0)
        matrix_VD = weight_VD.to(hidden_ND.dtype)
        wants_hidden, wants_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        total = torch.zeros((), device=hidden_ND.device, dtype=wide(hidden_ND[:0]).dtype)
        hidden_grads: list[Tensor] = []
        weight_grad = torch.zeros_like(weight_VD) if wants_weight else None
        for start in range(0, hidden_ND.shape[0], chunk):
            part_ND, goal_N = hidden_ND[start : start + chunk], safe_N[start : start + chunk]
            share_N = learnt_N[start : start + chunk] / count.to(total.dtype)
            logits_NV = wide(part_ND @ matrix_VD.T)
            logs_NV = torch.log_softmax(logits_NV, -1)
            total = total - (logs_NV.gather(1, goal_N[:, None])[:, 0] * share_N).sum()
            if not (wants_hidden or wants_weight):
                continue
            hit_NV = torch.arange(logs_NV.shape[1], device=logs_NV.device) == goal_N[:, None]
            slope_NV = ((logs_NV.exp() - hit_NV.to(logs_NV.dtype)) * share_N[:, None].to(logs_NV.dtype)).to(
                part_ND.dtype
            )
            if wants_hidden:
                hidden_grads.append(slope_NV @ matrix_VD)
            if weight_grad is not None:
                weight_grad = weight_grad + (slope_NV.T @ part_ND).to(weight_grad.dtype)
        kept = [torch.cat(hidden_grads)] if wants_hidden else []
        ctx.save_for_backward(*kept, *([weight_grad] if weight_grad is not None else []))
        ctx.wants = (wants_hidden, wants_weight)
        return total

    @staticmethod
    def backward(ctx, slope):  # noqa: ANN001, ANN205
        kept = list(ctx.saved_tensors)
        hidden_grad = kept.pop(0) if ctx.wants[0] else None
        weight_grad = kept.pop(0) if ctx.wants[1] else None
        return (
            None if hidden_grad is None else (hidden_grad * slope).to(hidden_grad.dtype),
            None if weight_grad is None else weight_grad * slope,
            None,
            None,
            None,
        )


def cross_entropy(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, ignore: int = -100, chunk: int = 8192
) -> Tensor:
    """Mean negative log likelihood in nats of `targets_N` under softmax(hidden · weightᵀ), a scalar.

    Places whose target is `ignore` do not count; zero when none does. At most `chunk` places' logits live at a time.
    Limit case: equals torch's cross_entropy on the whole logits.
    """
    return _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, ignore, chunk)
