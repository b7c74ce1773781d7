"""Memory traffic: Engram's rows from the device and from the host, tables up to a hundred gigabytes, and rows in FP8.

Engram's paper loses at most 2.8 % of throughput to a table in host memory (arXiv 2601.07372); the goal here is 3 %.
Shape letters: R rows, D row width, Y bytes a row.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from typing import Any

import torch
from torch import Tensor, nn

from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card, host_memory
from bench.gpu_parts.check_ops import without
from dsv4.core import presets
from dsv4.core.memory import MemoryTable
from dsv4.core.model import LanguageCore
from dsv4.ops import fp8, rows_triton
from dsv4.ops.gather import gather_rows

GOAL = 0.03
WIDTH = 128  # numbers a row, as in `lite`
HEADS = 16  # rows a token and layer: two orders, eight heads


def _table(data_RD: Tensor, home: str) -> MemoryTable:
    table = MemoryTable(1, WIDTH)
    table.weight, table.home = nn.Parameter(data_RD, requires_grad=False), home
    return table


@torch.no_grad()
def gather(card: Card, book: Book) -> None:
    """Rows of a batch of tokens: on the device, and from host memory through pinned memory, by size of the table."""
    sizes = (2**20,) if card.tiny else (10**9, 10**10, 5 * 10**10, 10**11)
    rooms = {"device": card.free() - 2**32, "host": max(host_memory()[1], card.host_bytes) - 14 * 2**30}
    for home, room in rooms.items():
        fitting = [size for size in sizes if card.tiny or size <= room]
        rows = max(fitting, default=0) // (2 * WIDTH)
        where = card.device if home == "device" else torch.device("cpu")
        data = torch.empty(rows, WIDTH, dtype=torch.bfloat16, device=where)
        written, pace = 0, 1e9  # bytes a second in which pages are written for the first time
        for size in sizes:
            what = f"Engram, {size / 1e9:g} GB in {home} memory"
            rows = size // (2 * WIDTH)
            if size not in fitting:
                book.add(what, skipped=f"only {room / 1e9:.0f} GB may be taken", group="Engram's rows")
                continue
            if not card.tiny and home == "host" and book.left() < (rows - written) * 2 * WIDTH / pace + 8:
                book.add(what, skipped="no time was left to write it", group="Engram's rows")
                break
            started = time.perf_counter()
            data[written:rows].fill_(0.5)  # so that every page is there
            if rows > written and home == "host":
                pace = (rows - written) * 2 * WIDTH / max(time.perf_counter() - started, 1e-3)
            written = max(rows, written)
            for tokens in (4,) if card.tiny else (1, 64, 4096):
                _gathered(card, book, f"{what}, {tokens:,} tokens", _table(data[:rows], home), tokens, size)
        del data
        card.tidy()


def _gathered(card: Card, book: Book, what: str, table: MemoryTable, tokens: int, size: int) -> None:
    draws = iter([card.whole(table.weight.shape[0], 1, tokens, HEADS) for _ in range(80)])
    moved = 2.0 * tokens * HEADS * WIDTH
    facts: dict[str, Any] = {"group": "Engram's rows", "per": (tokens * HEADS, "rows"), "table_bytes": size,
                             "tokens": tokens, "form": table.home}  # fmt: skip
    if table.home == "device":
        facts["bytes"] = 2 * moved + 8.0 * tokens * HEADS
        book.timed(what, lambda: card.time(lambda: table(next(draws)), budget=0.2, most=30), **facts)
        return
    # Each call reads other rows, so that none lies in the processor's cache from the call before.
    facts["link"] = moved
    book.timed(f"{what}, at once", lambda: card.wall(lambda: table(next(draws)), runs=15), **facts)

    def ahead() -> Tensor:
        return table.start(next(draws)).result()

    book.timed(f"{what}, ahead and waited for", lambda: card.wall(ahead, runs=15), **facts)


def wait(card: Card, book: Book) -> None:
    """What whole steps of a core lose when its rows lie in host memory or in a file: decode and prefill."""
    base = presets.micro() if card.tiny else presets.small()
    rows = 500 if card.tiny else 2_000_000
    config = dataclasses.replace(base, engram=dataclasses.replace(base.engram, rows=rows))
    with torch.device(card.device):
        core = LanguageCore.from_config(config, canonical_ids=torch.arange(config.vocab_size))
    core = core.to(card.dtype).eval().requires_grad_(False)
    core.steps_quickly = False
    shapes = {"prefill": (1, 32), "decode, 1 sequence": (1, 1)} if card.tiny else {
        "prefill": (4, 2048), "decode, 1 sequence": (1, 1), "decode, 64 sequences": (64, 1)}  # fmt: skip
    resident: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for home in ("device", "host", "mapped"):
            core.place_memory(home, folder)
            for name, shape in shapes.items():
                cache = core.new_cache(shape[0], 64)
                draws = iter([card.whole(config.vocab_size, *shape) for _ in range(30)])

                def step(cache: Any = cache, draws: Any = draws, shape: tuple[int, int] = shape) -> None:
                    given = cache if shape[1] == 1 else core.new_cache(*shape)
                    core(next(draws), cache=given, last_only=True)

                what = f"{name}, 0.4B core, memory in {home}"
                tokens = shape[0] * shape[1]
                seconds = book.timed(what, lambda step=step: card.wall(step, runs=20), per=(tokens, "tokens"),
                                     group="Engram's wait", form=home)  # fmt: skip
                if seconds and home == "device":
                    resident[name] = seconds
                elif seconds and name in resident:
                    book.add(f"wait for memory, {name}, {home}", overhead=seconds / resident[name] - 1, goal=GOAL,
                             group="Engram's wait")  # fmt: skip
                del cache
                card.tidy()


@torch.no_grad()
def packed(card: Card, book: Book) -> None:
    """FP8 rows: packing, opening all, gathering the chosen and opening those, against plain rows."""
    forms = {"656 bytes": fp8.RowFormat.latent(512, 64), "584 bytes": fp8.RowFormat.shared(512, 64)}
    count, chosen = (16, 2) if card.tiny else (65_536, 2048)
    for how, off in (("Triton", ()), ("passes", (rows_triton,))):
        with without(*off):
            _packed(card, book, forms, count, chosen, how)


def _packed(card: Card, book: Book, forms: dict[str, fp8.RowFormat], count: int, chosen: int, how: str) -> None:
    for name, form in forms.items():
        width = form.plain + form.rotated
        plain = card.normal(1, count, width)
        packed_1SY = form.pack(plain)
        places = card.whole(count, 1, 16, chosen)
        both = float(count * (2 * width + form.bytes))
        facts = {"group": "FP8 rows", "length": count}
        book.timed(f"pack {count:,} rows of {name}, {how}", lambda: card.time(lambda: form.pack(plain)), bytes=both,
                   per=(count, "rows"), form=f"pack, {how}", **facts)  # fmt: skip
        book.timed(f"open {count:,} rows of {name}, {how}",
                   lambda: card.time(lambda: form.unpack(packed_1SY, card.dtype)), bytes=both,
                   per=(count, "rows"), form=f"open, {how}", **facts)  # fmt: skip
        picked = 16 * chosen

        def eight(form: fp8.RowFormat = form, kept: Tensor = packed_1SY, places: Tensor = places) -> Tensor:
            return form.gather(kept, places, torch.bfloat16)

        book.timed(f"gather and open {picked:,} rows of {name}, {how}", lambda eight=eight: card.time(eight),
                   bytes=float(picked * (form.bytes + 2 * width + 8)), per=(picked, "rows"), form=f"gather, {how}",
                   **facts)  # fmt: skip
        if how == "Triton":
            continue
        book.timed(f"gather {picked:,} plain rows of {2 * width} bytes",
                   lambda: card.time(lambda: gather_rows(plain, places)),
                   bytes=float(picked * (4 * width + 8)), per=(picked, "rows"), form="plain", **facts)  # fmt: skip
