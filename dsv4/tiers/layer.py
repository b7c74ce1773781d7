"""One block: what its weights read is gathered, they are rounded by one of three methods, and the block runs again.

What later parts read comes from parts that are rounded already, so that they can make up for it. Experts come a few at
a time, as memory allows. Shape letters: S tokens of all passages, T tokens of one, N lanes, W hidden, E experts,
F inner size, K columns, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from dsv4.core.block import Block
from dsv4.core.engram import FusedEngram
from dsv4.core.frame import Frame
from dsv4.core.hyper import collapse
from dsv4.core.moe import Dense, gated
from dsv4.quant.awq import channel_scales, clipped, output_error
from dsv4.quant.gptq import gptq
from dsv4.quant.grid import Grid, round_to
from dsv4.tiers.sites import Captured, Moments, Site, attention_sites, watched
from dsv4.tiers.source import Source

METHODS = ("round", "awq", "gptq")
BLEND = 0.01  # how much of all tokens' second moment an expert's own gets: few tokens may have reached it
COMMON = 64  # tokens of all that every expert is shown for that
SAMPLED = 8  # experts that help choose the scales of the input that all of them share

Coded = tuple[Tensor, Tensor, Grid]
Emit = Callable[[str, Tensor | Coded, int | None], None]  # our name, numbers or codes, which expert of a stack


@dataclass(frozen=True, kw_only=True)
class How:
    """The method, the grid of weights and that of memory rows, and bytes that may be held for experts."""

    method: str
    grid: Grid
    rows: Grid | None
    room: int


@dataclass(kw_only=True)
class Work:
    """One block on the way; `rows` are what a weight's rows were divided by, to tell its true error.

    pre_SN: in single-pass lanes, the weights by which the next site reads; passes move them on in place.
    """

    block: Block
    layer: int
    how: How
    emit: Emit
    pre_SN: Tensor | None = None
    errors: dict[str, float] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)

    def weight(self, name: str) -> Tensor:
        """A parameter of the block."""
        return self.block.get_parameter(name).data

    def fits(self, name: str) -> bool:
        """Whether groups divide the weight's columns."""
        return self.weight(name).shape[-1] % self.how.grid.group == 0

    def scale_inputs(
        self, site: Site, seen: Moments, *, more: tuple[list[Tensor], list[Tensor]] | None = None
    ) -> Tensor:
        """AWQ's scales of a site, taken out of what makes the input and put into what reads it; ones elsewhere.

        more: weights beside the site's that read the same input, and their second moments.
        """
        names = [name for name in site.weights if self.fits(name)]
        ones = torch.ones_like(seen.mean)
        if self.how.method != "awq" or (site.norm is None and site.feeder is None) or not (names or more):
            return ones
        weights, hessians = [self.weight(name) for name in names], [seen.hessian] * len(names)
        if more is not None:
            weights, hessians = weights + more[0], hessians + more[1]
        scales_K = channel_scales(weights, hessians, seen.mean, self.how.grid)
        for name in (*site.weights, *site.followers):
            self.weight(name).mul_(scales_K)
        if site.norm is not None:
            self.weight(site.norm).div_(scales_K)
        if site.feeder is not None:
            name, rows_R = site.feeder
            self.weight(name).flatten(0, -2)[rows_R] /= scales_K[:, None]
            self.rows.setdefault(name, torch.ones(self.weight(name).shape[:-1]).flatten())[rows_R] *= scales_K
        seen.divide(scales_K)
        return scales_K

    def round(self, name: str, hessian: Tensor) -> None:
        """Put what a weight rounds to in its place and hand out the codes; as it is where groups do not fit."""
        weight = self.weight(name)
        if not self.fits(name):
            self.emit(name, weight, None)
            return
        rows = self.rows[name].view(weight.shape[:-1])[..., None] if name in self.rows else 1.0
        codes, scales = fit(weight, hessian, self.how)
        opened = self.how.grid.open(codes, scales)
        self.errors[name] = _relative(opened, weight, hessian, rows)
        weight.copy_(opened)
        self.emit(name, (codes, scales, self.how.grid), None)


def fit(weight: Tensor, hessian: Tensor, how: How) -> tuple[Tensor, Tensor]:
    """Codes and scales of a weight [R, K] or a stack of them, by the method, under the second moment of its inputs."""
    if how.method == "round":
        return round_to(weight, how.grid)
    stack, hessians = (weight, hessian) if weight.ndim == 3 else (weight[None], hessian[None])
    codes, scales = (clipped if how.method == "awq" else gptq)(stack, hessians, how.grid)
    return (codes, scales) if weight.ndim == 3 else (codes[0], scales[0])


def _relative(opened: Tensor, weight: Tensor, hessian: Tensor, rows: Tensor | float) -> float:
    apart, whole = output_error((opened - weight) * rows, hessian), output_error(weight * rows, hessian)
    return float(apart.sum() / whole.sum().clamp_min(1e-30))


def memory_pass(work: Work, rows: Iterator[tuple[Tensor, list[Tensor] | None, Frame]]) -> None:
    """Add the block's memory to the lanes of each passage, in place, with its projections rounded."""
    engram = work.block.engram
    if engram is None:
        return
    passages, captured = list(rows), Captured()
    with watched(work.block, captured):
        for x_TNW, shifts, frame in passages:
            if shifts is not None:
                engram(x_TNW[None], shifts, frame)
    hessian = captured.by_name["memory"].hessian
    for name in ("engram.both.weight",) if isinstance(engram, FusedEngram) else ("engram.key", "engram.value.weight"):
        weight = work.weight(name)
        work.round(name, hessian.expand(weight.shape[0], -1, -1) if weight.ndim == 3 else hessian)
    if work.how.rows is not None:
        codes, scales = round_to(work.weight("engram.table.weight"), work.how.rows)
        work.emit("engram.table.weight", (codes, scales, work.how.rows), None)
        work.weight("engram.table.weight").copy_(work.how.rows.open(codes, scales))
    for x_TNW, shifts, frame in passages:
        if shifts is not None:
            x_TNW += engram(x_TNW[None], shifts, frame)[0]


def attention_pass(work: Work, rows: Iterator[tuple[Tensor, list[Tensor] | None, Frame]]) -> None:
    """Run attention over the lanes of each passage, in place, with its weights rounded."""
    passages, captured, block = list(rows), Captured(), work.block
    starts = [0, *accumulate(len(x_TNW) for x_TNW, _, _ in passages)]
    pre = [None if work.pre_SN is None else work.pre_SN[begin:end][None] for begin, end in pairwise(starts)]
    with watched(block, captured):
        for (x_TNW, _, frame), pre_1TN in zip(passages, pre, strict=True):
            _attend(block, x_TNW[None], frame, pre_1TN)
    for site in attention_sites(block):
        work.scale_inputs(site, captured.by_name[site.reads])
    for site in attention_sites(block):
        for name in site.weights:
            work.round(name, captured.by_name[site.reads].hessian)
    for (x_TNW, _, frame), pre_1TN in zip(passages, pre, strict=True):
        now_1TNW, next_1TN = _attend(block, x_TNW[None], frame, pre_1TN)
        x_TNW.copy_(now_1TNW[0])
        if pre_1TN is not None and next_1TN is not None:
            pre_1TN.copy_(next_1TN)


def _attend(block: Block, x_1TNW: Tensor, frame: Frame, pre_1TN: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Lanes after attention, and in single-pass lanes the weights by which the experts read."""
    if block.hyper_attention is None:
        return x_1TNW + block.attention(block.attention_norm(x_1TNW[:, :, 0]), frame)[0][:, :, None], None
    next_1TN, post, comb = block.hyper_attention.mix(x_1TNW)
    into_1TW = collapse(x_1TNW, next_1TN if pre_1TN is None else pre_1TN)
    y_1TW, _ = block.attention(block.attention_norm(into_1TW), frame)
    return block.hyper_attention.write(x_1TNW, y_1TW, post, comb), next_1TN


def experts_pass(work: Work, source: Source, x_SNW: Tensor, ids_S: Tensor) -> None:
    """Run the feed-forward part over the lanes of all tokens, in place, with its weights rounded."""
    block, hyper = work.block, work.block.hyper_experts
    mixed = None if hyper is None else hyper.mix(x_SNW[None])
    pre_1SN = None if mixed is None else mixed[0] if work.pre_SN is None else work.pre_SN[None]
    x_SW = block.experts_norm(x_SNW[:, 0] if pre_1SN is None else collapse(x_SNW[None], pre_1SN)[0])
    seen = Moments()
    seen.add(x_SW)
    if isinstance(block.experts, Dense):
        x_SW = x_SW / work.scale_inputs(Site(reads="x", weights=("experts.dense_in.weight",),
                                             norm="experts_norm.weight"), seen)  # fmt: skip
        y_SW = _unit(work, "dense", x_SW, seen, block.experts.limit)
    else:
        y_SW = _mixture(work, source, x_SW, seen, ids_S)
    if hyper is None or mixed is None:
        x_SNW += y_SW[:, None]
    else:
        x_SNW.copy_(hyper.write(x_SNW[None], y_SW[None], mixed[1], mixed[2])[0])
        if work.pre_SN is not None:
            work.pre_SN.copy_(mixed[0][0])


def _unit(work: Work, name: str, x_SW: Tensor, seen: Moments, limit: float | None) -> Tensor:
    """A gated unit that every token passes: both weights rounded, and its output."""
    first, last = f"experts.{name}_in.weight", f"experts.{name}_out.weight"
    inner = Moments()
    inner.add(gated(*F.linear(x_SW, work.weight(first)).chunk(2, -1), limit))
    rows = torch.arange(work.weight(first).shape[0])[work.weight(first).shape[0] // 2 :]
    # A limit cuts `up` at both sides, so its rows cannot be scaled.
    work.scale_inputs(Site(reads="inner", weights=(last,), feeder=None if limit is not None else (first, rows)), inner)
    work.round(first, seen.hessian)
    work.round(last, inner.hessian)
    return F.linear(gated(*F.linear(x_SW, work.weight(first)).chunk(2, -1), limit), work.weight(last))


def _mixture(work: Work, source: Source, x_SW: Tensor, seen: Moments, ids_S: Tensor) -> Tensor:
    """Shared and routed experts: all weights rounded, and the output."""
    experts = work.block.experts
    weights_SE, chosen_SE, _ = (one[0] for one in experts.router(x_SW[None], ids_S[None]))
    site = Site(reads="x", weights=("experts.shared_in.weight",), norm="experts_norm.weight",
                followers=("experts.router.weight",))  # fmt: skip
    more = None
    if work.how.method == "awq":
        some = range(0, chosen_SE.shape[1], -(-chosen_SE.shape[1] // SAMPLED))
        first = [source.expert(work.layer, "experts.experts_in", expert) for expert in some]
        more = first, [seen.hessian] * len(first)
    scales_W = work.scale_inputs(site, seen, more=more)
    x_SW = x_SW / scales_W
    y_SW = _unit(work, "shared", x_SW, seen, experts.limit)
    common_CW = x_SW[torch.linspace(0, len(x_SW) - 1, min(COMMON, len(x_SW))).long()]
    count, chunk = chosen_SE.shape[1], experts_at_once(source, work.how.room)
    totals = {"experts.experts_in": [0.0, 0.0], "experts.experts_out": [0.0, 0.0]}
    for begin in range(0, count, chunk):
        numbers = range(begin, min(begin + chunk, count))
        rows = [chosen_SE[:, expert].nonzero()[:, 0] for expert in numbers]
        made = _chunk(work, source, numbers, [x_SW[one] for one in rows], common_CW, scales_W, seen, totals)
        for expert, row, (first, last) in zip(numbers, rows, made, strict=True):
            part = F.linear(gated(*F.linear(x_SW[row], first).chunk(2, -1), experts.limit), last)
            y_SW.index_add_(0, row, part * weights_SE[row, expert, None])
    work.errors |= {name: apart / max(whole, 1e-30) for name, (apart, whole) in totals.items()}
    return y_SW


def _chunk(
    work: Work,
    source: Source,
    numbers: range,
    x_each: list[Tensor],
    common_CW: Tensor,
    scales_W: Tensor,
    seen: Moments,
    totals: dict[str, list[float]],
) -> list[tuple[Tensor, Tensor]]:
    """Some experts rounded: their weights as they are from now on."""
    limit, grid, layer = work.block.experts.limit, work.how.grid, work.layer
    first_ERW = torch.stack([source.expert(layer, "experts.experts_in", expert) for expert in numbers]) * scales_W
    last_EWF = torch.stack([source.expert(layer, "experts.experts_out", expert) for expert in numbers])
    read, inner = [], []
    for x_NW, first in zip(x_each, first_ERW, strict=True):
        read.append(x_NW.T @ x_NW / max(1, len(x_NW)) + BLEND * seen.hessian)
        own, common = (gated(*F.linear(x, first).chunk(2, -1), limit) for x in (x_NW, common_CW))
        inner.append(own.T @ own / max(1, len(own)) + BLEND * common.T @ common / len(common))
    read_EWW, inner_EFF = torch.stack(read), torch.stack(inner)
    up = torch.ones(first_ERW.shape[:2])
    if work.how.method == "awq" and limit is None and last_EWF.shape[-1] % grid.group == 0:
        half = first_ERW.shape[1] // 2
        for place, (last, hessian) in enumerate(zip(last_EWF, inner_EFF, strict=True)):
            scales_F = channel_scales([last], [hessian], hessian.diagonal().sqrt(), grid)
            last *= scales_F
            first_ERW[place, half:] /= scales_F[:, None]
            inner_EFF[place] = hessian / scales_F / scales_F[:, None]
            up[place, half:] = scales_F
    opened: list[Tensor] = []
    for name, stack, hessian, rows in (("experts.experts_in", first_ERW, read_EWW, up[..., None]),
                                       ("experts.experts_out", last_EWF, inner_EFF, 1.0)):  # fmt: skip
        if stack.shape[-1] % grid.group:
            opened.append(stack)
            for place, expert in enumerate(numbers):
                work.emit(name, stack[place], expert)
            continue
        codes, scales = fit(stack, hessian, work.how)
        opened.append(grid.open(codes, scales))
        totals[name][0] += float(output_error((opened[-1] - stack) * rows, hessian).sum())
        totals[name][1] += float(output_error(stack * rows, hessian).sum())
        for place, expert in enumerate(numbers):
            work.emit(name, (codes[place], scales[place], grid), expert)
    return list(zip(*opened, strict=True))


def experts_at_once(source: Source, room: int) -> int:
    """How many experts' weights and second moments `room` bytes hold, at least one."""
    return max(1, room // bytes_an_expert(source))


def bytes_an_expert(source: Source) -> int:
    """What one expert takes while it is rounded: weights four times over, second moments and their factors."""
    part, width = source.config.experts, source.config.hidden
    return 4 * (4 * 3 * part.inner * width + 4 * (width**2 + part.inner**2))
