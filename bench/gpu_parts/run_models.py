"""Experts, and whole cores: tokens a second in prefill and decoding, of nano and of two layers of lite.

Shape letters: B batch, T tokens, W hidden.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from bench.gpu_parts import formulas
from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from bench.gpu_parts.check_ops import NEWER, without
from bench.gpu_parts.run_lanes import lite_like
from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.core.moe import Experts


@torch.no_grad()
def experts(card: Card, book: Book) -> None:
    """The feed-forward part of a block: nano's, computed together, and lite's with 64 experts, routed."""
    lite = presets.lite(8192)
    wide = dataclasses.replace(lite, experts=dataclasses.replace(lite.experts, count=64))
    configs = {"micro": presets.micro()} if card.tiny else {"nano": presets.nano(), "lite, 64 experts": wide}
    for name, config in configs.items():
        part = config.experts
        with torch.device(card.device):
            module = Experts(config, 0).to(card.dtype).requires_grad_(False)
        for weight in (module.experts_in, module.experts_out):
            weight.normal_(std=weight.shape[-1] ** -0.5)
        for tokens in (1, 8) if card.tiny else (1, 16, 256, 8192):
            x = card.normal(1, tokens, config.hidden)
            sizes = (tokens, part.chosen, part.inner, part.shared_inner, config.hidden, part.count)
            for form, off in (("sorted on the device", ()), ("eager", NEWER)):
                with without(*off):
                    book.timed(f"experts of {name}, {tokens:,} tokens, {form}",
                               lambda x=x, module=module: card.time(lambda: module(x)), tokens=tokens,
                               bytes=formulas.experts_bytes(*sizes), flops=formulas.experts(*sizes),
                               per=(tokens, "tokens"), group="experts", form=form)  # fmt: skip
        del module
        card.tidy()


def reading(card: Card, book: Book) -> None:
    """Prefill and decoding through a cache, eager, as the studio runs them."""
    nano = presets.micro() if card.tiny else presets.nano()
    configs = {"nano": nano, "two layers of lite": lite_like(card, lanes=4, experts=32, chosen=6)}
    lengths = (32,) if card.tiny else (4096, 65_536)
    for name, config in configs.items():
        with torch.device(card.device):
            core = LanguageCore.from_config(config, canonical_ids=torch.arange(config.vocab_size))
        core = core.to(card.dtype).eval().requires_grad_(False)
        core.steps_quickly = False
        with torch.no_grad(), without(*NEWER):
            for rows in (1,) if card.tiny else (1, 8):
                _prefill(card, book, name, core, rows)
            for length in lengths:
                for rows in (1, 2) if card.tiny else (1, 64):
                    _decode(card, book, name, core, rows, length)
        del core
        card.tidy()


def _seen(config: Any, length: int) -> tuple[float, float]:
    """Entries read and keys scored for a token after `length`, all layers together."""
    part = config.attention
    read, scored = 0.0, 0.0
    for reach in config.reach:
        if reach == "sliding":
            read += min(part.window, length)
        else:
            read += min(part.top_k, length)
            scored += length if length > part.top_k else 0
    return read, scored


def _prefill(card: Card, book: Book, name: str, core: Any, rows: int) -> None:
    length = 24 if card.tiny else 2048
    ids = card.whole(core.config.vocab_size, rows, length)

    def run() -> None:
        core(ids, cache=core.new_cache(rows, length), last_only=True)

    read, scored = _seen(core.config, length // 2)
    tokens = rows * length
    book.timed(f"{name}: read {rows} x {length:,} tokens", lambda: card.time(run, warm=2, most=12), group="prefill",
               per=(tokens, "tokens"), flops=tokens * formulas.core(core, reads=read, scored=scored),
               form="eager", length=length, queries=rows)  # fmt: skip


def _decode(card: Card, book: Book, name: str, core: Any, rows: int, length: int) -> None:
    room = card.free() * 0.7
    cache = core.new_cache(1, 8)
    size = cache.nbytes / cache.capacity * (length + 64) * rows
    what = f"{name}: decode {rows} sequence(s) after {length:,}"
    if size > room:
        book.add(what, skipped=f"the cache takes {size / 1e9:.0f} GB", group="decode")
        return
    cache = core.new_cache(rows, length + 64)
    cache.fill_with_noise(length)
    ids = card.whole(core.config.vocab_size, rows, 1)

    def run() -> None:
        core(ids, cache=cache, last_only=True)

    book.timed(what, lambda: card.time(run, warm=3, most=30), form="eager", **decode_needs(core, rows, length))


def decode_needs(core: Any, rows: int, length: int) -> dict[str, Any]:
    """What a token of each sequence must move and do, and where its row belongs."""
    read, scored = _seen(core.config, length)
    part = core.config.attention
    weights = 2.0 * formulas.active(core)
    moved = weights + rows * (2.0 * read * part.entry + 2.0 * scored * part.index_size)
    return {"per": (rows, "tokens"), "bytes": moved, "flops": rows * formulas.core(core, reads=read, scored=scored),
            "group": "decode", "length": length, "queries": rows}  # fmt: skip
