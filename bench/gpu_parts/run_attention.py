"""Sparse reading at lengths up to a million: attention over the chosen, the indexer, and dense forms beside them.

Sizes are those of our `lite` preset: 64 heads over one entry of 512 numbers, 2,048 chosen, 32 index heads of 128.
Shape letters: B batch, Q queries, S entries, K chosen, H heads, D entry size, I index heads, C index size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.gpu_parts import formulas
from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from bench.gpu_parts.check_ops import Checked, apart, plainly
from dsv4.ops import attend, gather, select, sparse_triton

LENGTHS = (4096, 16_384, 65_536, 262_144, 1_048_576)


class Sizes:
    """Sizes of a layer of `lite`, or tiny ones."""

    def __init__(self, card: Card) -> None:
        tiny = card.tiny
        self.heads, self.size, self.chosen = (3, 24, 16) if tiny else (64, 512, 2048)
        self.index_heads, self.index_size = (2, 16) if tiny else (32, 128)
        self.lengths = (64, 96) if tiny else LENGTHS
        self.rows, self.chunk = (2, 4) if tiny else (16, 256)


def decode(card: Card, book: Book) -> None:
    """One query a sequence, 16 sequences: the chosen of each read by the kernel, by gathering, and all entries."""
    at = Sizes(card)
    for length in at.lengths:
        rows = at.rows
        while 2.5 * rows * length * at.size * 2 > card.free() and rows > 1:
            rows //= 2
        entries, q = card.normal(rows, length, at.size), card.normal(rows, 1, at.heads, at.size)
        sink = card.normal(at.heads, dtype=torch.float32)
        places = card.whole(length, rows, 1, at.chosen).sort(-1).values
        real = torch.ones_like(places, dtype=torch.bool)
        _three(card, book, "decode", length, entries, q, sink, places, real, None)
        del entries
        card.tidy()


def prefill(card: Card, book: Book) -> None:
    """The last 256 queries of a sequence; dense attention over as many queries as its scores leave room for."""
    at = Sizes(card)
    for length in at.lengths:
        entries, q = card.normal(1, length, at.size), card.normal(1, at.chunk, at.heads, at.size)
        sink = card.normal(at.heads, dtype=torch.float32)
        places = card.whole(length - at.chunk, 1, at.chunk, at.chosen).sort(-1).values
        real = torch.ones_like(places, dtype=torch.bool)
        dense = max(1, min(at.chunk, int(card.free() / 4 / (16.0 * at.heads * length))))
        _three(card, book, "prefill", length, entries, q, sink, places, real, dense)
        del entries
        card.tidy()


@torch.no_grad()
def _three(
    card: Card, book: Book, kind: str, length: int, entries: Tensor, q: Tensor, sink: Tensor, places: Tensor,
    real: Tensor, dense: int | None,
) -> None:  # fmt: skip
    rows, queries, heads, size = q.shape
    chosen = places.shape[-1]
    scale = size**-0.5
    needed: dict[str, Any] = {
        "bytes": formulas.gathered_bytes(rows * queries, chosen, heads, size),
        "flops": formulas.attention(rows * queries, chosen, heads, size),
        "per": (rows * queries, "queries"),
    }
    if kind == "prefill":  # neighbouring queries choose the same entries or find them in the cache of the card
        needed["bytes"] = min(needed["bytes"], formulas.dense_bytes(1, queries, length, heads, size))
    what = f"{kind} after {length:,}"
    facts = {"group": f"sparse attention, {kind}", "length": length, "queries": rows * queries}

    def kernel() -> Tensor:
        return sparse_triton.attend_places(q, entries, places, real, sink, scale=scale)

    def gathered() -> Tensor:
        return attend.attend_chosen(q, gather.gather_rows(entries, places), sink, real)

    book.timed(f"{what}: top {chosen:,}, Triton", lambda: card.time(kernel), **needed, **facts, form="Triton")
    book.timed(f"{what}: top {chosen:,}, gathered", lambda: card.time(gathered), **needed, **facts, form="gathered")
    if kind == "decode":
        book.timed(f"{what}: all entries", lambda: card.time(lambda: attend.attend(q, entries, sink, None), budget=1),
                   bytes=formulas.dense_bytes(rows, 1, length, heads, size), per=(rows, "queries"),
                   flops=formulas.attention(rows, length, heads, size), **facts, form="dense")  # fmt: skip
        return
    some = q[:, -(dense or 1) :]
    places_S = torch.arange(length, device=q.device)
    seen = (places_S <= places_S[length - some.shape[1] :, None])[None]
    book.timed(f"{what}: all entries", lambda: card.time(lambda: attend.attend(some, entries, sink, seen), budget=1),
               bytes=formulas.dense_bytes(1, some.shape[1], length, heads, size), per=(some.shape[1], "queries"),
               flops=formulas.attention(some.shape[1], length, heads, size),
               **(facts | {"queries": some.shape[1]}), form="dense")  # fmt: skip


@torch.no_grad()
def tune(card: Card, book: Book) -> None:
    """The kernel by bytes of a step and by programs that the chosen are cut for, to choose its constants by."""
    at = Sizes(card)
    length = at.lengths[len(at.lengths) // 2]
    kept = sparse_triton.STEP_BYTES, sparse_triton.PROGRAMS
    entries, sink = card.normal(at.rows, length, at.size), card.normal(at.heads, dtype=torch.float32)
    try:
        for kind, rows, queries in (("decode", at.rows, 1), ("prefill", 1, at.chunk)):
            q = card.normal(rows, queries, at.heads, at.size)
            places = card.whole(length, rows, queries, at.chosen).sort(-1).values
            real = torch.ones_like(places, dtype=torch.bool)
            for step in (16_384, 32_768, 65_536):
                for programs in (132, 264, 528) if kind == "decode" else (264,):
                    sparse_triton.STEP_BYTES, sparse_triton.PROGRAMS = step, programs

                    def kernel() -> Tensor:
                        return sparse_triton.attend_places(q, entries[:rows], places, real, sink, scale=at.size**-0.5)

                    what = f"{kind} after {length:,}: Triton, steps of {step // 1024} KiB, {programs} programs"
                    book.timed(what, lambda: card.time(kernel, budget=0.3), per=(rows * queries, "queries"),
                               flops=formulas.attention(rows * queries, at.chosen, at.heads, at.size),
                               bytes=formulas.gathered_bytes(rows * queries, at.chosen, at.heads, at.size),
                               group="sparse attention, settings of the kernel", form="Triton")  # fmt: skip
    finally:
        sparse_triton.STEP_BYTES, sparse_triton.PROGRAMS = kept


@torch.no_grad()
def indexer(card: Card, book: Book) -> None:
    """Scores of all keys and the choice among them, for one query of each of 16 sequences and for 16 of one."""
    at = Sizes(card)
    for length in at.lengths:
        for rows, queries in ((at.rows, 1), (1, 16)):
            q, w = card.normal(rows, queries, at.index_heads, at.index_size), card.normal(rows, queries, at.index_heads)
            keys = card.normal(rows, length, at.index_size)
            codes, scales = select.eight_bits(keys)
            kind = f"{rows} x {queries} queries after {length:,}"
            count = rows * queries
            facts: dict[str, Any] = {"group": "indexer", "length": length, "queries": count, "per": (count, "queries")}
            flops = formulas.scores(rows * queries, length, at.index_heads, at.index_size)

            def moved(width: int, rows: int = rows, queries: int = queries, length: int = length) -> float:
                return formulas.scores_bytes(rows, queries, length, at.index_heads, at.index_size, width)

            if sparse_triton.AVAILABLE:
                book.timed(f"scores, {kind}, Triton", lambda: card.time(lambda: select.index_scores(q, w, keys)),
                           bytes=moved(2), flops=flops, form="Triton", **facts)  # fmt: skip
            with plainly():
                book.timed(f"scores, {kind}, plain", lambda: card.time(lambda: select.index_scores(q, w, keys)),
                           bytes=moved(2), flops=flops, form="plain", **facts)  # fmt: skip

            def eight() -> Tensor:
                return select.index_scores_int8(q, w, codes, scales[..., 0])

            if sparse_triton.AVAILABLE:
                book.timed(f"scores, {kind}, int8 keys, Triton", lambda: card.time(eight), bytes=moved(1), flops=flops,
                           form="int8, Triton", **facts)  # fmt: skip
            with plainly():
                book.timed(f"scores, {kind}, int8 keys, plain", lambda: card.time(eight), bytes=moved(1), flops=flops,
                           form="int8", **facts)  # fmt: skip
            found = card.normal(rows, queries, length, dtype=torch.float32)
            chosen = min(at.chosen, length)
            book.timed(f"top {chosen:,} of them, {kind}",
                       lambda: card.time(lambda: select.best_places(found, None, chosen)),
                       bytes=4.0 * found.numel() + 8.0 * rows * queries * chosen, form="top-k", **facts)  # fmt: skip
        card.tidy()


def flex(card: Card, book: Book) -> None:
    """FlexAttention, compiled, over the same entries: what a dense kernel of the library's takes; results compared."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    at = Sizes(card)
    run = flex_attention if card.tiny else torch.compile(flex_attention, dynamic=False)
    nano_heads, nano_size = (2, 16) if card.tiny else (6, 128)
    shapes = [("lite", at.heads, at.size), ("nano", nano_heads, nano_size)]
    for name, heads, size in shapes:
        for kind, queries, length in (("prefill", 256, 65_536), ("decode", 1, 65_536), ("decode", 1, 4096)):
            rows = 1 if kind == "prefill" else at.rows
            queries, length = (min(queries, 8), 64) if card.tiny else (queries, length)
            q, entries = card.normal(rows, heads, queries, size), card.normal(rows, 1, length, size)
            ahead = length - queries

            def rule(b: Any, h: Any, i: Any, j: Any, ahead: int = ahead) -> Any:
                return j <= i + ahead

            mask = create_block_mask(rule, None, None, queries, length, device=card.device)

            def call(q: Tensor = q, entries: Tensor = entries, mask: Any = mask) -> Tensor:
                with torch.no_grad():
                    return run(q, entries, entries, block_mask=mask, enable_gqa=True)

            what = f"FlexAttention{'' if card.tiny else ', compiled'}: {name}, {kind} after {length:,}"
            seconds = book.timed(
                what, lambda call=call: card.time(call), needs=45 if card.cuda else 3, per=(rows * queries, "queries"),
                bytes=formulas.dense_bytes(rows, queries, length, heads, size), form="FlexAttention", length=length,
                flops=formulas.attention(rows * queries, length, heads, size), group=f"{kind}, FlexAttention",
                queries=rows * queries,
            )  # fmt: skip
            if seconds is None:
                continue

            def compare(call: Any = call, q: Tensor = q, entries: Tensor = entries) -> Checked:
                seen = torch.ones(q.shape[2], entries.shape[2], dtype=torch.bool, device=q.device)
                seen = seen.tril(entries.shape[2] - q.shape[2])[None]
                wanted = attend.attend(q.transpose(1, 2).float(), entries[:, 0].float(), None, seen)
                return apart(call().transpose(1, 2), wanted), 2e-2

            book.check(f"{what} = our dense path", compare)
            card.tidy()
