"""Residual lanes: Sinkhorn alone, reading and writing of a site, and what a training step pays for them.

The mHC report says 6.7 % of a training step (arXiv 2512.24880, table 5's text) for four lanes with fused kernels.
Shape letters: B batch, T tokens, N lanes, W hidden.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from bench.gpu_parts.check_ops import NEWER, without
from dsv4.core import presets
from dsv4.core.config import CoreConfig, LanesConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.model import LanguageCore
from dsv4.ops import lanes_triton, sinkhorn

GOAL = 0.067


def kernel(card: Card, book: Book) -> None:
    """Sinkhorn of one matrix a token, forward and backward, beside the formula step by step."""
    for tokens in (64,) if card.tiny else (16_384, 262_144):
        for count in (2, 4):
            x = card.normal(tokens, count, count, dtype=torch.float32).requires_grad_()
            slope, size = torch.randn_like(x), 4.0 * x.numel()
            what, facts = f"{tokens:,} matrices of {count} lanes", {"group": "Sinkhorn", "length": tokens}
            forms: dict[str, Callable[..., Any]] = {"kernel": sinkhorn.sinkhorn, "formula": _formula}
            for name, form in forms.items():

                def there(form: Any = form, x: Any = x) -> Any:
                    with torch.no_grad():
                        return form(x)

                def back(form: Any = form, x: Any = x, slope: Any = slope) -> Any:
                    return torch.autograd.grad(form(x), x, slope)

                book.timed(f"Sinkhorn of {what}, {name}", lambda there=there: card.time(there, budget=0.3),
                           bytes=2 * size, per=(tokens, "matrices"), form=name, **facts)  # fmt: skip
                book.timed(f"Sinkhorn of {what}, {name}, forward and backward",
                           lambda back=back: card.time(back, budget=0.3), bytes=5 * size,
                           per=(tokens, "matrices"), form=name, **facts)  # fmt: skip


def _formula(x_MNN: Any) -> Any:
    return sinkhorn.reference(x_MNN, iterations=20, eps=1e-6)


def site(card: Card, book: Book) -> None:
    """One site of `lite` reads from four lanes and writes back; (3 N + 2) W numbers must move at least."""
    lanes, hidden, tokens = (4, 64, 16) if card.tiny else (4, 4096, 8192)
    config = dataclasses.replace(presets.lite(), hidden=hidden, lanes=LanesConfig(count=lanes))
    hyper = HyperLanes(config, 0).to(card.device).requires_grad_(False)
    x, y = card.normal(1, tokens, lanes, hidden), card.normal(1, tokens, hidden)

    def run() -> Any:
        with torch.no_grad():
            _, post, comb = hyper.read(x)
            return hyper.write(x, y, post, comb)

    facts = {"bytes": 2.0 * tokens * hidden * (3 * lanes + 2), "per": (tokens, "tokens"), "group": "mHC, one site"}
    with without(lanes_triton):
        if card.cuda:
            fused = torch.compile(run, dynamic=False)
            book.timed(
                "read and write of a site, compiled", lambda: card.time(fused), needs=40, form="compiled", **facts
            )


def lite_like(card: Card, *, lanes: int, experts: int = 4, chosen: int = 2) -> CoreConfig:
    """Two layers of `lite`, sparse and sliding, with fewer experts and a small vocabulary, so that they fit one card.

    Up to four experts are computed together, without the host learning who chose whom: such blocks compile.
    """
    base = presets.micro() if card.tiny else presets.lite(8192)
    part = dataclasses.replace(base.experts, count=4 if card.tiny else experts, chosen=2 if card.tiny else chosen)
    return dataclasses.replace(base, reach=("sparse", "sliding"), engram=None, experts=part,
                               lanes=LanesConfig(count=lanes), tied=True)  # fmt: skip


def training(card: Card, book: Book) -> None:
    """A training step (forward and backward) with lanes and without: two layers of `lite`, then nano."""
    with without(*NEWER):
        trainings(card, book, "eager")


def trainings(card: Card, book: Book, how: str) -> None:
    """Both, uncompiled, with whatever kernels are switched on."""
    length = 6 if card.tiny else 4096
    _compared(card, book, "two layers of lite", lambda n: lite_like(card, lanes=n), 4, (1, length), how=how)
    nano = presets.micro() if card.tiny else presets.nano()
    rows = (1, 6) if card.tiny else (16, 1024)
    _compared(card, book, "nano", lambda n: _laned(nano, n), 2, rows, how=how)


def training_compiled(card: Card, book: Book) -> None:
    """The same with compiled blocks, as `dsv4 train` runs them."""
    if not card.cuda:
        book.add("training step, compiled", skipped="compiled forms are measured on a card only")
        return
    nano = presets.nano()
    with without(*NEWER):
        _compared(card, book, "nano", lambda n: _laned(nano, n), 2, (16, 1024), how="compiled")
        _compared(card, book, "two layers of lite", lambda n: lite_like(card, lanes=n), 4, (1, 4096), how="compiled")


def _laned(config: CoreConfig, lanes: int) -> CoreConfig:
    return dataclasses.replace(config, lanes=LanesConfig(count=lanes))


def _compared(
    card: Card, book: Book, name: str, config: Callable[[int], CoreConfig], lanes: int, shape: tuple[int, int], *,
    how: str,
) -> None:  # fmt: skip
    taken: dict[int, float | None] = {}
    for count in (1, lanes):
        what = f"training step, {name}, {count} lane(s), {shape[0]} x {shape[1]:,} tokens, {how}"
        taken[count] = step(card, book, what, config(count), shape, how=how)
        card.tidy()
    one, many = taken[1], taken[lanes]
    if one and many:
        book.add(f"mHC's share of a training step, {name}, {lanes} lanes, {how}",
                 overhead=many / one - 1, goal=GOAL, group="mHC, training step")  # fmt: skip


def step(card: Card, book: Book, what: str, config: CoreConfig, shape: tuple[int, int], *, how: str) -> float | None:
    """Time forward and backward of the language loss under autocast; operations are three forward passes'."""
    from bench.gpu_parts import formulas
    from dsv4.train.precision import autocast, compile_core

    torch.manual_seed(card.seed)
    with torch.device(card.device):
        core = LanguageCore.from_config(config, canonical_ids=torch.arange(config.vocab_size)).train()
    if how == "compiled":
        compile_core(core, card.device)
    ids = card.whole(config.vocab_size, *shape)

    def run() -> None:
        for weight in core.parameters():
            weight.grad = None
        with autocast(card.device):
            hidden = core(ids, logits=False).hidden_BTD
            core.loss(hidden, ids).backward()

    read = reads(config, shape[1])
    tokens = shape[0] * shape[1]
    return book.timed(what, lambda: card.time(run, budget=1.5, warm=4, most=12), per=(tokens, "tokens"),
                      flops=3 * tokens * formulas.core(core, reads=read), needs=60 if how == "compiled" else 10,
                      group="training", form=how)  # fmt: skip


def reads(config: CoreConfig, length: int) -> float:
    """Entries that attention reads a token, all layers together, where every layer is dense or slides."""
    window = config.attention.window
    return sum(min(window, length / 2) if reach == "sliding" else length / 2 for reach in config.reach)
