"""What was written after the first run on a card, beside what it replaces: replays, kernels of lanes, ranking.

Shape letters: B batch, T tokens, N lanes, W hidden, S keys.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from bench.gpu_parts.check_ops import without
from bench.gpu_parts.run_lanes import lite_like, trainings
from bench.gpu_parts.run_models import decode_needs
from dsv4.core import presets
from dsv4.core.config import LanesConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.model import LanguageCore
from dsv4.engine.replay import Replay
from dsv4.ops import lanes_triton, rank, routed_triton, select

GOAL = 0.03


@torch.inference_mode()
def replays(card: Card, book: Book) -> None:
    """Decoding as one graph, with all kernels and with none of the newer ones, sampling left out."""
    nano = presets.micro() if card.tiny else presets.nano()
    configs = {"nano": nano, "two layers of lite": lite_like(card, lanes=4, experts=32, chosen=6)}
    for name, config in configs.items():
        core = _core(card, config)
        for length in (32,) if card.tiny else (4096, 65_536):
            for rows in (1, 2) if card.tiny else (1, 64):
                cache = core.new_cache(1, 8)
                size = cache.nbytes / cache.capacity * (length + 64) * rows
                what = f"{name}: decode {rows} sequence(s) after {length:,}"
                if size > 0.7 * card.free():
                    book.add(f"{what}, replayed", skipped=f"the cache takes {size / 1e9:.0f} GB", group="decode")
                    continue
                for how, off in (
                    ("replayed", ()),
                    ("replayed, none of the newer kernels", (lanes_triton, routed_triton)),
                ):
                    if off and (length, rows) not in ((4096, 1), (32, 1)):
                        continue
                    with without(*off):
                        _replayed(card, book, f"{what}, {how}", core, rows, length, how)
                card.tidy()
        del core
        card.tidy()


def _core(card: Card, config: Any) -> LanguageCore:
    with torch.device(card.device):
        core = LanguageCore.from_config(config, canonical_ids=torch.arange(config.vocab_size))
    core = core.to(card.dtype).eval().requires_grad_(False)
    core.steps_quickly = False
    return core


def _replayed(card: Card, book: Book, what: str, core: LanguageCore, rows: int, length: int, how: str) -> float | None:
    still = Replay(core, rows, length + 64)
    still.cache.fill_with_noise(length)
    still.begin()
    ids = torch.randint(0, core.config.vocab_size, (rows, 1))

    def run() -> None:
        still.step(ids).argmax(-1).cpu()  # as who samples: the host waits for the token

    def measure() -> float:
        seconds = card.wall(run, runs=30, warm=4)
        if still.eager:
            raise RuntimeError("the step was not captured; the warning in the log says why")
        return seconds

    return book.timed(what, measure, form=how, **decode_needs(core, rows, length))


@torch.inference_mode()
def waits(card: Card, book: Book) -> None:
    """What a replayed step loses when Engram's rows lie in host memory."""
    base = presets.micro() if card.tiny else presets.small()
    config = dataclasses.replace(base, engram=dataclasses.replace(base.engram, rows=500 if card.tiny else 2_000_000))
    core, resident = _core(card, config), {}
    for home in ("device", "host"):
        core.place_memory(home)
        for rows in (1, 2) if card.tiny else (1, 64):
            what = f"decode, {rows} sequence(s), 0.4B core, replayed, memory in {home}"
            seconds = _replayed(card, book, what, core, rows, 8 if card.tiny else 1024, "replayed")
            if seconds and home == "device":
                resident[rows] = seconds
            elif seconds and rows in resident:
                book.add(f"wait for memory, decode, {rows} sequence(s), replayed, host", goal=GOAL,
                         overhead=seconds / resident[rows] - 1, group="Engram's wait")  # fmt: skip


def site(card: Card, book: Book) -> None:
    """One site of `lite` as in run_lanes.site, by kernels and plainly, forward alone and with gradients."""
    lanes, hidden, tokens = (4, 24, 4) if card.tiny else (4, 4096, 8192)
    config = dataclasses.replace(presets.lite(), hidden=hidden, lanes=LanesConfig(count=lanes))
    hyper = HyperLanes(config, 0).to(card.device).to(card.dtype)
    x, y, slope = (card.normal(1, tokens, *rest, hidden) for rest in ((lanes,), (), (lanes,)))
    leaves = (x.requires_grad_(), y.requires_grad_(), hyper.fn, hyper.scale, hyper.base)

    def run() -> Any:
        into, post, comb = hyper.read(x)
        return hyper.write(x, y + into, post, comb)

    def there() -> Any:
        with torch.no_grad():
            return run()

    numbers = 2.0 * tokens * hidden
    what = f"{lanes} lanes of {hidden}, {tokens:,} tokens"
    for how, off in (("Triton", ()), ("plain", (lanes_triton,))):
        with without(*off):
            facts = {"per": (tokens, "tokens"), "group": "mHC, one site"}
            book.timed(f"read and write of a site, {what}, {how}", lambda: card.time(there), form=how,
                       bytes=numbers * (3 * lanes + 2), **facts)  # fmt: skip
            book.timed(f"the same with gradients, {what}, {how}",
                       lambda: card.time(lambda: torch.autograd.grad(run(), leaves, slope)),
                       form=f"{how}, with gradients", bytes=numbers * (9 * lanes + 6), **facts)  # fmt: skip


def training(card: Card, book: Book) -> None:
    """Training steps of run_lanes, eager, with the kernels of lanes and experts."""
    trainings(card, book, "eager with kernels")


@torch.inference_mode()
def ranking(card: Card, book: Book) -> None:
    """The k best of long rows by one number of score and place, beside the look for equals at the border."""
    chosen = 16 if card.tiny else 2048
    for length in (96,) if card.tiny else (4096, 65_536, 1_048_576):
        found = card.normal(1 if card.tiny else 16, 1, length, dtype=torch.float32)
        needed: dict[str, Any] = {"bytes": 4.0 * found.numel() + 8.0 * found.shape[0] * chosen, "group": "indexer",
                                  "length": length, "per": (found.shape[0], "queries")}  # fmt: skip
        forms: dict[str, Any] = {"top-k": select.best_places, "top-k, ranked": rank.ranked_places}
        for form, call in forms.items():
            book.timed(f"top {chosen:,} of {length:,}, {found.shape[0]} rows, {form}",
                       lambda call=call, found=found: card.time(lambda: call(found, None, chosen)),
                       form=form, **needed)  # fmt: skip
