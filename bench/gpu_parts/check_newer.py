"""Replayed steps, experts sorted on the device, and kernels of lanes and rows, against their references on the card.

Shape letters: B batch, T tokens, N lanes, W hidden, E experts, K chosen.
"""

from __future__ import annotations

import dataclasses
import tempfile
from functools import partial
from typing import Any

import torch

from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from bench.gpu_parts.check_models import _core
from bench.gpu_parts.check_ops import Checked, apart, plainly, without
from dsv4.core import presets
from dsv4.core.config import LanesConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.moe import gated
from dsv4.engine import replay
from dsv4.ops import fp8, rank, routed, rows_triton, select


def replays(card: Card, book: Book) -> None:
    """Replayed tokens beside eager ones in float32: nano with few chosen, two sequences, memory in its three homes."""
    base = presets.micro() if card.tiny else presets.nano()
    part = dataclasses.replace(base.attention, top_k=12 if card.tiny else 64)
    core = _core(card, dataclasses.replace(base, attention=part))
    core.steps_quickly = False
    start, length = (8, 11) if card.tiny else (1010, 1040)  # a second graph is captured on the way
    for rows in (1, 2) if card.tiny else (1, 2, 16):
        ids = card.whole(base.vocab_size, rows, length)
        for home in ("device", "host", "mapped") if rows == 2 else ("device",):

            def compare(home: str = home, ids: Any = ids, rows: int = rows) -> Checked:
                with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                    core.place_memory(home, folder)
                    eager = replay.EagerSteps(core, rows, length, card.device)
                    with plainly():
                        core(ids[:, :start], cache=eager.cache)
                        wanted = [eager.step(ids[:, at : at + 1]).clone() for at in range(start, length)]
                    still = replay.Replay(core, rows, length)
                    core(ids[:, :start], cache=still.cache)
                    still.begin()
                    found = [still.step(ids[:, at : at + 1]).clone() for at in range(start, length)]
                    core.place_memory("device")
                    if still.eager:
                        raise RuntimeError("the step was not captured; the warning in the log says why")
                    return apart(torch.cat(found, 1), torch.cat(wanted, 1)), 2e-3

            book.check(f"replayed steps, {rows} sequence(s), memory in {home}, float32, against eager ones", compare)


def ranked(card: Card, book: Book) -> None:
    """The k best by one number of score and place, against the rule, equal scores and both zeros among them."""
    size, k = (300, 30) if card.tiny else (60_000, 2048)
    for levels in (0, 5):
        found = card.normal(2, 3, size, dtype=torch.float32)
        found = found if not levels else (found * levels).round()
        seen = torch.rand(found.shape, device=card.device) < 0.6

        def compare(found: Any = found, seen: Any = seen) -> Checked:
            places, real = rank.ranked_places(found, seen, k)
            wanted, valid = select.chosen_places(select.choose(found, seen, k), k)
            return float((real != valid).sum() + (places != wanted)[valid].sum()), 0.0

        book.check(f"the {k} best of {size} without the host, {'equal scores' if levels else 'any scores'}", compare)


def sorted_experts(card: Card, book: Book) -> None:
    """A few tokens and many through chosen experts, results and gradients, against float64."""
    count, chosen, inner, hidden = (5, 2, 8, 16) if card.tiny else (16, 3, 128, 256)
    for tokens in (1, 5) if card.tiny else (1, 7, 300):
        x, slope = card.normal(tokens, hidden), card.normal(tokens, hidden)
        first, last = (
            card.normal(count, 2 * inner, hidden) / hidden**0.5,
            card.normal(count, hidden, inner) / inner**0.5,
        )
        places = torch.rand(tokens, count, device=card.device).topk(chosen).indices
        weights = torch.rand(tokens, chosen, device=card.device)
        given = (x, first, last, weights)

        def run(form: str, *leaves: Any, places: Any = places, slope: Any = slope) -> list[Any]:
            x, first, last, weights = leaves
            unit = partial(gated, limit=None)
            if form == "few":
                with torch.no_grad():
                    return [routed.few(x, first, last, places, weights, unit, None)]
            leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
            out = routed.grouped(*leaves[:3], places, leaves[3], unit)
            return [out, *torch.autograd.grad(out, leaves, slope.to(out.dtype))]

        wanted = run("grouped", *(leaf.double() for leaf in given))
        for form in ("few", "grouped"):

            def compare(form: str = form, given: Any = given, run: Any = run, wanted: Any = wanted) -> Checked:
                found = run(form, *given)
                return max(apart(*pair) for pair in zip(found, wanted, strict=False)), 4e-2

            book.check(f"experts sorted on the device, {form}, {tokens} tokens, bfloat16, against float64", compare)


def site(card: Card, book: Book) -> None:
    """A site's reading and writing by kernels, results and gradients, against the plain form in float64."""
    hidden, tokens = (20, 5) if card.tiny else (1000, 77)
    for lanes in (2, 4):
        config = dataclasses.replace(presets.micro(), hidden=hidden, lanes=LanesConfig(count=lanes))
        module = HyperLanes(config, 1).to(card.device)
        with torch.no_grad():
            module.fn.normal_(std=hidden**-0.5), module.scale.uniform_(0.5, 1.5), module.base.normal_()
        x, g = (card.normal(1, tokens, lanes, hidden, dtype=torch.float32) for _ in range(2))
        y = card.normal(1, tokens, hidden, dtype=torch.float32)

        def run(dtype: torch.dtype, x: Any = x, y: Any = y, g: Any = g, module: HyperLanes = module) -> list[Any]:
            module.to(dtype)
            x, y = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
            into, post, comb = module.read(x)
            out = module.write(x, y + into, post, comb)
            slopes = torch.autograd.grad(out, (x, y, module.fn, module.scale, module.base), g.to(dtype))
            return [part.detach() for part in (into, post, comb, out, *slopes)]

        wanted = run(torch.float64)
        for dtype, most in ((torch.float32, 2e-3), (torch.bfloat16, 6e-2)):

            def compare(
                dtype: torch.dtype = dtype, most: float = most, run: Any = run, wanted: Any = wanted
            ) -> Checked:
                return max(apart(*pair) for pair in zip(run(dtype), wanted, strict=True)), most

            book.check(f"a site's kernels and their gradients, {lanes} lanes of {hidden}, {str(dtype)[6:]}", compare)


def row_kernels(card: Card, book: Book) -> None:
    """FP8 rows by kernels: the bits of the reference."""
    forms = {"656 bytes": fp8.RowFormat.latent(512, 64), "584 bytes": fp8.RowFormat.shared(512, 64),
             "264 bytes": fp8.RowFormat(plain=256, rotated=0, tile=32, wide_scales=False)}  # fmt: skip
    for name, form in forms.items():
        x = card.normal(2, 6 if card.tiny else 3000, form.plain + form.rotated)
        x = x * 10 ** torch.empty(*x.shape[:2], 1, device=card.device).uniform_(-5, 3)
        x = x.to(torch.bfloat16)
        with without(rows_triton):
            packed = form.pack(x)
        places = card.whole(x.shape[1], 2, 3, 5 if card.tiny else 500)
        calls = {"packed": lambda form=form, x=x: form.pack(x),
                 "opened": lambda form=form, packed=packed: form.unpack(packed, torch.bfloat16),
                 "gathered": lambda f=form, p=packed, places=places: f.gather(p, places, torch.bfloat16)}  # fmt: skip
        for what, call in calls.items():

            def compare(call: Any = call) -> Checked:
                with without(rows_triton):
                    wanted = call()
                return float((call() != wanted).sum()), 0.0

            book.check(f"FP8 rows {what} by a kernel, {name}", compare)
