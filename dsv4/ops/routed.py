"""Chosen experts without asking the host who chose whom: a few tokens by gathered weights, many in a grouped product.

Shape letters: N tokens, K experts of each, E experts, F inner size, W hidden, M rows of all groups, S = N K slots.
Rows are sorted by expert; each expert's rows begin at a multiple of eight, which 16-byte loads of bfloat16 need also
where groups are summed over, so every shape follows from N alone. Source: torch's grouped product (`torch._grouped_mm`:
bfloat16 on Hopper); elsewhere its groups are multiplied one by one, which is the reference. docs/gpu_h200.md has
its timings; `DSV4_GROUPED` switches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dsv4.ops import routed_triton
from dsv4.ops.numbers import compute_dtype
from dsv4.ops.switches import possible, taken_on

ROUND = 8  # rows to which groups are filled up
FEW = 8  # tokens up to which each reads its experts' weights by itself
AVAILABLE = possible("DSV4_GROUPED")

Unit = Callable[[Tensor, Tensor], Tensor]


def form_of(x_NW: Tensor, experts_in: object) -> str:
    """`few`, `grouped`, or `loop` where the host must sort: off CUDA, and where there is no grouped product."""
    if not AVAILABLE or not isinstance(experts_in, Tensor) or not taken_on(x_NW.device, "DSV4_GROUPED"):
        return "loop"
    if x_NW.shape[0] <= FEW and not torch.is_grad_enabled():
        return "few"
    return "grouped" if has_grouped_product(x_NW) else "loop"


def has_grouped_product(x: Tensor) -> bool:
    """Whether the library multiplies groups on the device in the format that these activations are multiplied in."""
    able = x.is_cuda and hasattr(torch, "_grouped_mm") and torch.cuda.get_device_capability(x.device)[0] == 9
    return able and compute_dtype(x) == torch.bfloat16


def chosen_places(weights_NE: Tensor, chosen_NE: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Numbers of the k chosen experts and their weights, both [N, K]."""
    places_NK = chosen_NE.float().topk(k, dim=-1, sorted=False).indices
    return places_NK, weights_NE.gather(-1, places_NK)


def few(
    x_NW: Tensor,
    in_E2FW: Tensor,
    out_EWF: Tensor,
    places_NK: Tensor,
    weights_NK: Tensor,
    unit: Unit,
    limit: float | None,
) -> Tensor:
    """Σ_k weight · expert(x) [N, W] for a few tokens, from copies of their experts' weights, or in two kernels.

    `unit` takes gate and up; its `limit` is what the kernels know of it.
    """
    if routed_triton.applies(x_NW, in_E2FW):
        return routed_triton.few(x_NW, in_E2FW, out_EWF, places_NK, weights_NK, limit)
    slots_S = places_NK.flatten()
    x_SW1 = x_NW.repeat_interleave(places_NK.shape[1], 0)[..., None].to(in_E2FW.dtype)
    inner_SF = unit(*torch.bmm(in_E2FW.index_select(0, slots_S), x_SW1)[..., 0].chunk(2, -1))
    parts_SW = torch.bmm(out_EWF.index_select(0, slots_S), inner_SF[..., None])[..., 0]
    return _weighed(parts_SW, weights_NK)


def grouped(
    x_NW: Tensor, in_E2FW: Tensor, out_EWF: Tensor, places_NK: Tensor, weights_NK: Tensor, unit: Unit
) -> Tensor:
    """The same for many tokens, with gradients."""
    rows_NK, tokens_M, ends_E = sort_by_expert(places_NK, in_E2FW.shape[0])
    dtype = compute_dtype(x_NW)
    sorted_MW = _Spread.apply(x_NW.to(dtype), tokens_M, rows_NK)
    inner_MF = unit(*product(sorted_MW, in_E2FW.to(dtype), ends_E).chunk(2, -1))
    parts_MW = product(inner_MF, out_EWF.to(dtype), ends_E)
    return _weighed(_Collect.apply(parts_MW, rows_NK), weights_NK)


def _weighed(parts_SW: Tensor, weights_NK: Tensor) -> Tensor:
    parts_NKW = parts_SW.unflatten(0, weights_NK.shape)
    return (parts_NKW * weights_NK[..., None].to(parts_SW.dtype)).sum(1)


def sort_by_expert(places_NK: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row of each slot [N, K], token of each row [M], and the row behind each expert's last one [E] (int32).

    Rows that fill groups up hold token 0 and are read by nobody; the last expert takes all that are left.
    """
    slots_S = places_NK.flatten()
    room = -(-(slots_S.shape[0] + (ROUND - 1) * count) // ROUND) * ROUND
    order_S = slots_S.argsort(stable=True)
    sizes_E = torch.zeros(count, dtype=torch.long, device=slots_S.device)
    sizes_E = sizes_E.scatter_add(0, slots_S, torch.ones_like(slots_S))
    filled_E = (sizes_E + ROUND - 1) // ROUND * ROUND
    ends_E = filled_E.cumsum(0)
    shift_E = (ends_E - filled_E) - (sizes_E.cumsum(0) - sizes_E)
    sorted_S = torch.arange(slots_S.shape[0], device=slots_S.device) + shift_E[slots_S[order_S]]
    rows_S = torch.empty_like(slots_S).scatter(0, order_S, sorted_S)
    tokens_M = torch.zeros(room, dtype=torch.long, device=slots_S.device)
    tokens_M = tokens_M.scatter(0, sorted_S, order_S // places_NK.shape[1])
    ends_E = torch.cat((ends_E[:-1], ends_E.new_full((1,), room)))
    return rows_S.view_as(places_NK), tokens_M, ends_E.int()


def product(x_MI: Tensor, weight_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """Each expert's rows times its weights, transposed: [M, O], with gradients."""
    return _Product.apply(x_MI, weight_EOI, ends_E)


def _multiplied(a: Tensor, b: Tensor, ends_E: Tensor) -> Tensor:
    """Groups of a's rows times b [E, I, O]; or of a's columns times as many rows of b, an [E, I, O] of products."""
    if has_grouped_product(a):
        return torch._grouped_mm(a, b, offs=ends_E)
    ends = ends_E.tolist()
    pairs = list(zip([0, *ends[:-1]], ends, strict=True))
    if b.ndim == 3:
        return torch.cat([a[start:end] @ b[expert] for expert, (start, end) in enumerate(pairs)])
    return torch.stack([a[:, start:end] @ b[start:end] for start, end in pairs])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, weight_EOI: Tensor, ends_E: Tensor) -> Tensor:
        ctx.save_for_backward(x_MI, weight_EOI, ends_E)
        return _multiplied(x_MI, weight_EOI.mT, ends_E)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_MI, weight_EOI, ends_E = ctx.saved_tensors
        slope_MO = slopes[0].contiguous()
        slope_x = _multiplied(slope_MO, weight_EOI, ends_E) if ctx.needs_input_grad[0] else None
        slope_w = _multiplied(slope_MO.mT, x_MI, ends_E) if ctx.needs_input_grad[1] else None
        return slope_x, slope_w, None


class _Spread(torch.autograd.Function):
    """Rows of tokens for every row of a group; the gradient is gathered, so that nothing is added in a chance order."""

    @staticmethod
    def forward(ctx: Any, x_NW: Tensor, tokens_M: Tensor, rows_NK: Tensor) -> Tensor:
        ctx.save_for_backward(rows_NK)
        return x_NW.index_select(0, tokens_M)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (rows_NK,) = ctx.saved_tensors
        return slopes[0].index_select(0, rows_NK.flatten()).unflatten(0, rows_NK.shape).sum(1), None, None


class _Collect(torch.autograd.Function):
    """Rows of slots [S, W] out of groups; rows that nobody reads get a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, parts_MW: Tensor, rows_NK: Tensor) -> Tensor:
        ctx.save_for_backward(rows_NK)
        ctx.rows = parts_MW.shape[0]
        return parts_MW.index_select(0, rows_NK.flatten())

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (rows_NK,) = ctx.saved_tensors
        slope_MW = slopes[0].new_zeros(ctx.rows, slopes[0].shape[1])
        return slope_MW.index_copy(0, rows_NK.flatten(), slopes[0]), None
