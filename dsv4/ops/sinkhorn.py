"""Nearly doubly stochastic matrices by alternating normalisation.

Shape letters: N lanes (matrices are [..., N, N], rows second to last).
Source: mHC, arXiv 2512.24880 §4.2, in the order of the V4 release: softmax over columns plus eps, columns normalised,
then (rows, columns) iterations - 1 times; the result is applied transposed, so the applied matrix has exact row sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dsv4.ops import sinkhorn_triton
from dsv4.ops.numbers import wide


def sinkhorn(logits_NN: Tensor, *, iterations: int = 20, eps: float = 1e-6) -> Tensor:
    """Positive matrices whose columns sum to one and whose rows nearly do; same shape, float32 or wider.

    Limit case: equal logits give 1 / N everywhere. On CUDA one fused kernel, elsewhere `reference`.
    """
    if logits_NN.is_cuda and sinkhorn_triton.AVAILABLE and logits_NN.shape[-1] in (2, 4, 8):
        return sinkhorn_triton.sinkhorn(logits_NN.float(), iterations, eps)
    return reference(logits_NN, iterations=iterations, eps=eps)


def reference(logits_NN: Tensor, *, iterations: int, eps: float) -> Tensor:
    """The formula step by step, matrices moved to the front so that each step is a few long vector operations."""
    lanes = logits_NN.shape[-1]
    flat_NNT = wide(logits_NN).reshape(-1, lanes, lanes).permute(1, 2, 0).contiguous()
    mixed_NNT = torch.softmax(flat_NNT, 1) + eps
    mixed_NNT = mixed_NNT / (mixed_NNT.sum(0, keepdim=True) + eps)
    for _ in range(iterations - 1):
        mixed_NNT = mixed_NNT / (mixed_NNT.sum(1, keepdim=True) + eps)
        mixed_NNT = mixed_NNT / (mixed_NNT.sum(0, keepdim=True) + eps)
    return mixed_NNT.permute(2, 0, 1).reshape(logits_NN.shape)


def scalar(logits: list[list[float]], *, iterations: int, eps: float) -> list[list[float]]:
    """The same for one matrix in Python numbers: at one token this costs less than launching the vector form."""
    lanes = range(len(logits))
    if len(logits) == 2:
        return _scalar_two(logits, iterations, eps)
    rows = []
    for row in logits:
        top = max(row)
        powers = [math.exp(value - top) for value in row]
        total = sum(powers)
        rows.append([value / total + eps for value in powers])
    columns = [sum(rows[i][j] for i in lanes) + eps for j in lanes]
    rows = [[rows[i][j] / columns[j] for j in lanes] for i in lanes]
    for _ in range(iterations - 1):
        for i in lanes:
            total = sum(rows[i]) + eps
            rows[i] = [value / total for value in rows[i]]
        columns = [sum(column) + eps for column in zip(*rows, strict=True)]
        rows = [[value / total for value, total in zip(row, columns, strict=True)] for row in rows]
    return rows


def _scalar_two(logits: list[list[float]], iterations: int, eps: float) -> list[list[float]]:
    (a, b), (c, d) = logits
    a, c = 1 / (1 + math.exp(b - a)), 1 / (1 + math.exp(d - c))
    a, b, c, d = a + eps, 1 - a + eps, c + eps, 1 - c + eps
    for step in range(iterations):
        if step:
            first, second = a + b + eps, c + d + eps
            a, b, c, d = a / first, b / first, c / second, d / second
        first, second = a + c + eps, b + d + eps
        a, b, c, d = a / first, b / second, c / first, d / second
    return [[a, b], [c, d]]
