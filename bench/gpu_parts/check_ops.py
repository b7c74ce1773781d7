"""Fast paths of the operators against their plain references in float64, with fresh random inputs on the card.

Shape letters: B batch, Q queries, S entries, K chosen, H heads, D entry size, I index heads, C index size, N lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from dsv4.ops import (
    attend,
    fp8,
    gather,
    lanes_triton,
    linear,
    routed,
    routed_triton,
    rows_triton,
    select,
    sinkhorn,
    sinkhorn_triton,
    sparse_triton,
)

Checked = tuple[float, float]
FORMATS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # the most that results may be apart, of the largest number


NEWER = (lanes_triton, rows_triton, routed, routed_triton)  # what was written after the first run on a card


@contextmanager
def without(*modules: Any) -> Iterator[None]:
    """None of the kernels of these modules within."""
    kept = [module.AVAILABLE for module in modules]
    try:
        for module in modules:
            module.AVAILABLE = False
        yield
    finally:
        for module, available in zip(modules, kept, strict=True):
            module.AVAILABLE = available


def plainly() -> Any:
    """No kernels of ours but Sinkhorn's within."""
    return without(sparse_triton, *NEWER)


def apart(found: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest wanted number; NaN where anything is none."""
    found, wanted = found.double(), wanted.double().to(found.device)
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def places_of(card: Card, rows: int, queries: int, size: int, chosen: int) -> Tensor:
    """Different random places [B, Q, K] in rising order."""
    noise = torch.rand(rows, queries, size, device=card.device)
    return noise.topk(chosen, dim=-1).indices.sort(-1).values


def sparse(card: Card, book: Book) -> None:
    """Attention over gathered entries: the Triton kernel and the gathering form."""
    shapes = [("nano", 6, 128, None, True, 512), ("odd", 5, 72, None, False, 77),
              ("lite", 64, 512, None, True, 2048), ("mla", 128, 576, 512, False, 2048)]  # fmt: skip
    if card.tiny:
        shapes = [("nano", 6, 40, None, True, 33), ("mla", 3, 24, 16, False, 290)]
    for name, heads, size, value, sunk, chosen in shapes:
        for dtype, most in FORMATS.items():
            entries = card.normal(2, 4 * chosen, size, dtype=dtype)
            q = card.normal(2, 3, heads, size, dtype=dtype)
            places = places_of(card, 2, 3, 4 * chosen, chosen)
            real = torch.rand(places.shape, device=card.device) < 0.8
            real[..., 0] = True
            sink = card.normal(heads, dtype=torch.float32) if sunk else None
            rows = gather.gather_rows(entries, places)
            kept = {"scale": size**-0.5, "value": value}
            wide = None if sink is None else sink.double()
            wanted = attend.attend_chosen(q.double(), rows.double(), wide, real, **kept)
            what = f"{name}: {heads} heads of {size}, {chosen} chosen, {str(dtype)[6:]}"
            given = (q, entries, places, real, sink)
            _each(book, f"sparse attention, Triton, {what}", wanted, most,
                  lambda given=given, kept=kept: sparse_triton.attend_places(*given, **kept))  # fmt: skip
            given = (q, rows, sink, real)
            _each(book, f"sparse attention, gathered, {what}", wanted, most,
                  lambda given=given, kept=kept: attend.attend_chosen(*given, **kept))  # fmt: skip


def _each(book: Book, what: str, wanted: Tensor, most: float, call: Callable[[], Tensor]) -> None:
    def compare() -> Checked:
        with torch.no_grad():
            return apart(call(), wanted), most

    book.check(what, compare)


def scores(card: Card, book: Book) -> None:
    """Scores of the indexer, plain and in eight bits, and the choice among them."""
    shapes = [("nano", 4, 32, 3000), ("small", 8, 64, 5000), ("lite", 32, 128, 9001), ("V3.2", 64, 128, 4097)]
    for name, heads, size, keys in [("tiny", 3, 20, 131)] if card.tiny else shapes:
        for dtype, most in FORMATS.items():
            for queries in (1, 5):
                q, w = card.normal(2, queries, heads, size, dtype=dtype), card.normal(2, queries, heads, dtype=dtype)
                k = card.normal(2, keys + 64, size, dtype=dtype)[:, :keys]
                with plainly():
                    wanted = select.index_scores(q.double(), w.double(), k.double())
                what = f"{name}: {queries} queries, {heads} heads of {size}, {keys} keys, {str(dtype)[6:]}"
                _each(book, f"indexer scores, {what}", wanted, most, lambda q=q, w=w, k=k: select.index_scores(q, w, k))
        codes, scales = select.eight_bits(k)
        codes_q, scale_q = select.eight_bits(q)
        with plainly():
            wanted = select.index_scores(codes_q.double() * scale_q.double(), w.double(),
                                         codes.double() * scales.double())  # fmt: skip

        def eight(given: tuple[Tensor, ...] = (q, w, codes, scales[..., 0])) -> Tensor:
            return select.index_scores_int8(*given)

        def plain(given: tuple[Tensor, ...] = (q, w, codes, scales[..., 0])) -> Tensor:
            with plainly():
                return select.index_scores_int8(*given)

        _each(book, f"indexer scores, int8 keys, {name}", wanted, 1e-3, eight)
        _each(book, f"indexer scores, int8 keys, no kernel, {name}", wanted, 1e-3, plain)
        given = (q, w, *fp8.e4m3(k))
        with plainly():
            wanted = select.index_scores_fp8(q.float(), w.float(), given[2], given[3][..., 0])
        _each(book, f"indexer scores, fp8 keys, {name}", wanted, 1e-3,
              lambda given=given: select.index_scores_fp8(*given[:3], given[3][..., 0]))  # fmt: skip


def chosen(card: Card, book: Book) -> None:
    """The k best: whole rows, long rows and rows full of equal scores, against sorting by score and then by place."""
    keys, long = (300, 400) if card.tiny else (20_000, select.NARROW_FROM + 5)
    for name, queries, size, levels in (
        ("some queries", 3, keys, 0),
        ("equal scores", 2, keys, 7),
        ("one long row", 1, long, 0),
    ):
        found = card.normal(1, queries, size, dtype=torch.float32)
        found = found if not levels else (found * levels).round()
        seen = None if queries == 1 else torch.rand(found.shape, device=card.device) < 0.7
        k = size // 10

        def compare(found: Tensor = found, seen: Tensor | None = seen, k: int = k) -> Checked:
            places, real = select.best_places(found, seen, k)
            masked = found if seen is None else found.masked_fill(~seen, float("-inf"))
            # A stable sort of the mirrored row puts the later of equal scores first.
            order = masked.flip(-1).argsort(dim=-1, descending=True, stable=True)[..., :k]
            wanted = (found.shape[-1] - 1 - order).sort(-1).values
            return float((places != wanted).sum() + (~real).sum()), 0.0

        book.check(f"the {k} best of {size}: {name}", compare)


def lanes(card: Card, book: Book) -> None:
    """Sinkhorn and its gradient, the kernel against the formula."""
    for count in (2, 4) if card.tiny else (2, 4, 8):
        for size, spread in ((9, 1.0),) if card.tiny else ((4099, 1.0), (513, 4.0)):
            logits = card.normal(size, count, count, dtype=torch.float32) * spread
            slope = card.normal(size, count, count, dtype=torch.float32)
            iterations = 3 if card.tiny else 20
            wide = logits.double().requires_grad_()
            wanted = sinkhorn.reference(wide, iterations=iterations, eps=1e-6)
            (slope_wanted,) = torch.autograd.grad(wanted, wide, slope.double())
            what = f"{size} matrices of {count} lanes, spread {spread:g}"
            _each(book, f"Sinkhorn, Triton, {what}", wanted.detach(), 1e-5,
                  lambda x=logits, n=iterations: sinkhorn_triton.sinkhorn(x, n, 1e-6))  # fmt: skip
            _each(book, f"Sinkhorn's gradient, Triton, {what}", slope_wanted, 1e-4,
                  lambda x=logits, g=slope, n=iterations: sinkhorn_triton.sinkhorn_backward(x, g, n, 1e-6))  # fmt: skip


def rows(card: Card, book: Book) -> None:
    """Rows in FP8: every code, and packing on the card against packing on the processor, bit by bit."""
    codes = torch.arange(256, dtype=torch.uint8, device=card.device)
    codes = codes[(codes & 0x7F) != 0x7F]  # those that are no numbers are not kept
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        book.check(f"e4m3 codes opened to {str(dtype)[6:]}", lambda dtype=dtype: (
            float((fp8.read_e4m3(codes, dtype) != codes.view(torch.float8_e4m3fn).to(dtype)).sum()), 0.0))  # fmt: skip
    forms = {"latent, 656 bytes": fp8.RowFormat.latent(512, 64), "shared, 584 bytes": fp8.RowFormat.shared(512, 64)}
    for name, form in forms.items():
        x = card.normal(2, 5 if card.tiny else 500, form.plain + form.rotated)

        def bits(form: fp8.RowFormat = form, x: Tensor = x) -> Checked:
            return float((form.pack(x).cpu() != form.pack(x.cpu())).sum()), 0.0

        def opened(form: fp8.RowFormat = form, x: Tensor = x) -> Checked:
            # Three bits of mantissa: half a step is a sixteenth of the number at most, and a tile's least step more.
            found = form.unpack(form.pack(x), torch.bfloat16).double()
            return float(((found - x.double()).abs() - x.double().abs() / 16).max()), 0.02

        book.check(f"FP8 rows packed as on the processor, {name}", bits)
        book.check(f"FP8 rows opened again, {name}", opened)
    x = card.normal(7, 200, dtype=torch.float32)
    book.check("numbers on the e4m3 grid as on the processor", lambda: (
        float((fp8.on_grid(x, 64).cpu() != fp8.on_grid(x.cpu(), 64)).sum()), 0.0))  # fmt: skip


def products(card: Card, book: Book) -> None:
    """Batched products and dense attention in tiles."""
    a, b = card.normal(3, 50, 70), card.normal(3, 70, 30)
    _each(book, "batched products, bfloat16", a.double() @ b.double(), 2e-2, lambda: linear.batched(a, b))
    q, entries, sink = card.normal(2, 9, 4, 32), card.normal(2, 40, 32), card.normal(4, dtype=torch.float32)
    seen = torch.rand(2, 9, 40, device=card.device) < 0.6
    wanted = attend.attend(q.double(), entries.double(), sink.double(), seen)
    _each(book, "dense attention, bfloat16", wanted, 2e-2, lambda: attend.attend(q, entries, sink, seen))
