"""Which weights of a block are quantised, what they read, and where scales of their inputs can be taken back.

Shape letters: N tokens, K columns (inputs), R rows.
Never quantised: routers, norms, lane mixing, indexers, compressors, convolutions, embedding and head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dsv4.core.attention import SharedAttention
from dsv4.core.block import Block
from dsv4.core.latent import LatentAttention


@dataclass(frozen=True, kw_only=True)
class Site:
    """Weights that read the same input. AWQ multiplies their columns, and those of `followers`, by scales that are
    divided out of `norm`, or out of the rows `feeder` of the weight that makes the input."""

    reads: str  # name of the input among the moments
    weights: tuple[str, ...]
    norm: str | None = None
    followers: tuple[str, ...] = ()
    feeder: tuple[str, Tensor] | None = None  # a weight and the numbers of its rows


@dataclass(kw_only=True)
class Moments:
    """Second moment and mean magnitude of an input, gathered over tokens; leading axes for a stack of weights."""

    total_KK: Tensor | None = None
    magnitude_K: Tensor | None = None
    count: int = 0

    def add(self, x_NK: Tensor) -> None:
        """Count more tokens: [N, K], or [G, N, K] for a stack."""
        x_NK = x_NK.float()
        square, magnitude = x_NK.mT @ x_NK, x_NK.abs().sum(-2)
        self.total_KK = square if self.total_KK is None else self.total_KK + square
        self.magnitude_K = magnitude if self.magnitude_K is None else self.magnitude_K + magnitude
        self.count += x_NK.shape[-2]

    @property
    def hessian(self) -> Tensor:
        """Mean of xxᵀ."""
        assert self.total_KK is not None
        return self.total_KK / max(1, self.count)

    @property
    def mean(self) -> Tensor:
        """Mean of |x|."""
        assert self.magnitude_K is not None
        return self.magnitude_K / max(1, self.count)

    def divide(self, scales_K: Tensor) -> None:
        """As if every input had been divided by these."""
        assert self.total_KK is not None and self.magnitude_K is not None
        self.total_KK = self.total_KK / scales_K / scales_K[:, None]
        self.magnitude_K = self.magnitude_K / scales_K


@dataclass(kw_only=True)
class Captured:
    """Inputs of one block's weights by name."""

    by_name: dict[str, Moments] = field(default_factory=dict)

    def add(self, name: str, x_NK: Tensor) -> None:
        """Count more tokens of an input."""
        self.by_name.setdefault(name, Moments()).add(x_NK)


def attention_sites(block: Block) -> list[Site]:
    """The weights of a block's attention; names count from the block."""
    part, here = block.attention, dict(block.named_parameters())
    names = [f"attention.indexer.{word}.weight" for word in ("key", "weights")]
    names += [f"attention.{where}{word}.weight" for where in ("pool.", "compressor.", "window_indexer.compressor.")
              for word in ("entry", "gate")]  # fmt: skip
    names.append("attention.window_indexer.weights.weight")
    followers = tuple(name for name in names if name in here)
    if not isinstance(part, SharedAttention | LatentAttention):
        reading = ("attention.query.weight", "attention.key.weight", "attention.value_of.weight")
        return [Site(reads="x", weights=reading, norm="attention_norm.weight"),
                Site(reads="out", weights=("attention.out.weight",))]  # fmt: skip
    first = "attention.query_down.weight" if part.query_down is not None else "attention.query_up.weight"
    sites = [Site(reads="x", weights=(first, "attention.entry.weight"), norm="attention_norm.weight",
                  followers=followers)]  # fmt: skip
    if part.query_down is not None:
        seen = ("attention.indexer.query.weight", "attention.window_indexer.query.weight")
        sites.append(Site(reads="latent", weights=("attention.query_up.weight",), norm="attention.query_norm.weight",
                          followers=tuple(name for name in seen if name in here)))  # fmt: skip
    if isinstance(part, SharedAttention):
        rows = torch.arange(part.out_groups.shape[0] * part.out_groups.shape[1])
        out = Site(reads="out", weights=("attention.out.weight",), feeder=("attention.out_groups", rows))
        return [*sites, out, Site(reads="groups", weights=("attention.out_groups",))]
    shape = part.part
    rows = torch.arange(shape.heads * (shape.plain + shape.value)).view(shape.heads, -1)[:, shape.plain :].flatten()
    out = Site(reads="out", weights=("attention.out.weight",), feeder=("attention.unfold.weight", rows))
    unfold = Site(reads="entry", weights=("attention.unfold.weight",), norm="attention.entry_norm.weight")
    return [*sites, out, unfold]


@contextmanager
def watched(block: Block, captured: Captured) -> Iterator[None]:
    """While this holds, what the attention and memory of `block` read is counted in `captured`."""
    handles: list[Any] = []

    def after(module: nn.Module | None, name: str) -> None:
        if module is not None:
            handles.append(module.register_forward_hook(lambda _m, _i, out: captured.add(name, out.flatten(0, -2))))

    attention = block.attention
    after(block.attention_norm, "x")
    after(getattr(attention, "query_norm", None), "latent")
    if isinstance(attention, LatentAttention):
        after(attention.entry_norm, "entry")
    handles.append(
        attention.out.register_forward_pre_hook(lambda _m, given: captured.add("out", given[0].flatten(0, -2)))
    )
    if block.engram is not None:
        handles.append(
            block.engram.table.register_forward_hook(lambda _m, _i, out: captured.add("memory", out.flatten(2)[0]))
        )
    restore = _watch_groups(attention, captured) if isinstance(attention, SharedAttention) else None
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if restore is not None:
            restore()


def _watch_groups(attention: SharedAttention, captured: Captured) -> Callable[[], None]:
    plain = attention._project

    def project(out_BTHD: Tensor) -> Tensor:
        groups = out_BTHD.flatten(-2).flatten(0, -2).chunk(attention.groups, -1)
        captured.add("groups", torch.stack(groups))
        return plain(out_BTHD)

    attention.__dict__["_project"] = project
    return lambda: attention.__dict__.pop("_project")
