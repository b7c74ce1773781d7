"""Weighted means over windows of tokens: what compressed entries are made of.

Shape letters: B batch, T tokens, N windows, M tokens a window, D entry size, C projected size (D, or 2 D with overlap).
Source: V4 report §2.3.1 and §2.3.2; softmax for each number by itself, in float32 or wider.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.ops.numbers import wide


def pool_windows(values_BTC: Tensor, gates_BTC: Tensor, place_MC: Tensor) -> Tensor:
    """Windows of M tokens side by side: [B, N, D].

    Each number of an entry is the mean of the window's values under softmax(gate + place). T must be a multiple of M.
    Limit case: equal gates and places give the plain mean.
    """
    M = place_MC.shape[0]
    values, gates = values_BTC.unflatten(1, (-1, M)), gates_BTC.unflatten(1, (-1, M)) + place_MC
    weights = torch.softmax(wide(gates), 2).to(values.dtype)
    return (values * weights).sum(2)


def pool_overlapping(values_BTC: Tensor, gates_BTC: Tensor, place_MC: Tensor, *, led: bool = False) -> Tensor:
    """Windows that also read the window before: 2 M slots, stride M: [B, N, D].

    The first D of the projected numbers are what a token gives to the next window, the last D what it gives to its own.
    `led`: the first window is there only to be read by the second. Where it is not, the first window stands alone.
    """
    M, D = place_MC.shape[0], place_MC.shape[1] // 2
    values, gates = values_BTC.unflatten(1, (-1, M)), gates_BTC.unflatten(1, (-1, M)) + place_MC
    before_values, before_gates = values[:, :-1, :, :D], gates[:, :-1, :, :D]
    own_values, own_gates = values[..., D:], gates[..., D:]
    if led:
        own_values, own_gates = own_values[:, 1:], own_gates[:, 1:]
    else:
        nothing = values.new_zeros(values.shape[0], 1, M, D)
        before_values = torch.cat((nothing, before_values), 1)
        before_gates = torch.cat((torch.full_like(nothing, float("-inf")), before_gates), 1)
    weights = torch.softmax(wide(torch.cat((before_gates, own_gates), 2)), 2).to(values.dtype)
    return (torch.cat((before_values, own_values), 2) * weights).sum(2)
