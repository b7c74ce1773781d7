"""Eyes and hands: pages a day through the full DeepEncoder by mode, and steps a second of the joint head.

Shape letters: N pictures, S side, B rows, F frames.
"""

from __future__ import annotations

from typing import Any

import torch

from bench.gpu_parts import formulas
from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card


def eyes(card: Card, book: Book) -> None:
    """Every mode's views of one page, a batch of pages at a time; weights are random, their numbers do not matter."""
    from vision import MODES, DeepEncoder, DeepEncoderConfig

    config = DeepEncoderConfig.micro() if card.tiny else DeepEncoderConfig.full()
    with torch.device(card.device):
        encoder = DeepEncoder(config).to(card.dtype).eval().requires_grad_(False)
    modes = {"tiny": MODES["tiny"]} if card.tiny else MODES
    for name, mode in modes.items():
        for pages in (1,) if card.tiny else (1, 8):
            _pages(card, book, encoder, name, mode, pages)
        card.tidy()


def _pages(card: Card, book: Book, encoder: Any, name: str, mode: Any, pages: int) -> None:
    tiles = 2 if card.tiny else 6
    whole = card.normal(pages, 3, mode.side, mode.side)
    cut = card.normal(pages * tiles, 3, mode.tile, mode.tile) if mode.tile else None

    def run() -> None:
        with torch.no_grad():
            encoder.sequence(whole)
            if cut is not None:
                encoder.grid(cut)

    flops = pages * formulas.eyes(encoder.config, mode.side)
    flops += pages * tiles * formulas.eyes(encoder.config, mode.tile) if mode.tile else 0
    tiled = f" and {tiles} tiles of {mode.tile}" if mode.tile else ""
    what = f"eyes, {name}: {pages} page(s) of {mode.side}{tiled}"
    book.timed(what, lambda: card.time(run, most=12), per=(pages, "pages"), flops=flops, group="eyes", form="eager",
               queries=pages)  # fmt: skip


def hands(card: Card, book: Book) -> None:
    """One step of nano's joint head: pictures and clips, float32 and half precision, eager and replayed."""
    from generation import head as heads

    config = heads.micro() if card.tiny else heads.nano()
    head = heads.JointHead(config).to(card.device).eval().requires_grad_(False)
    shapes = {"picture of 64": (1, 32), "clip of 4 x 32": (4, 32)} if card.tiny else {
        "picture of 64": (1, 64), "picture of 256": (1, 256), "clip of 16 x 64": (16, 64)}  # fmt: skip
    for half in (False, True):
        head = head.half_precision() if half else head
        for name, (frames, side) in shapes.items():
            for rows in (2,) if card.tiny else (2, 64):
                noisy = card.normal(rows, 3, frames, side, side, dtype=torch.float32)
                level = torch.full((1,), 0.5, device=card.device)
                told = card.normal(rows, 32, config.connector.cond_dim, dtype=torch.float32)
                mask = torch.ones(rows, 32, dtype=torch.bool, device=card.device)

                def run(noisy: Any = noisy, level: Any = level, told: Any = told, mask: Any = mask) -> None:
                    with torch.no_grad():
                        head(noisy, level, told, mask)

                what = f"joint head, {rows} row(s), {name}, {'bfloat16' if half else 'float32'} weights"
                facts: dict[str, Any] = {"per": (1, "steps"), "flops": formulas.head(config, rows, frames, side, 32),
                                         "group": "joint head", "queries": rows}  # fmt: skip
                book.timed(what, lambda run=run: card.time(run, budget=0.4), form="eager", **facts)
                if card.cuda and half:
                    book.timed(f"{what}, replayed", lambda run=run: card.replayed(run), form="replayed", **facts)
