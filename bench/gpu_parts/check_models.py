"""Whole parts on the card against the same parts on the processor in float32, and their fast paths against slow ones.

Shape letters: B batch, T tokens, W hidden.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.gpu_parts.book import Book
from bench.gpu_parts.card import Card
from bench.gpu_parts.check_ops import Checked, apart, plainly
from dsv4.core import presets
from dsv4.core.memory import MemoryTable
from dsv4.core.model import LanguageCore
from dsv4.core.moe import Experts


def memory(card: Card, book: Book) -> None:
    """Rows of Engram from their three homes, at once and fetched ahead, plain and in FP8."""
    for form in ("plain", "fp8"):
        table = MemoryTable(999 if card.tiny else 100_003, 32).to(card.device).requires_grad_(False)
        if form == "fp8":
            table.pack()
        places = card.whole(table.weight.shape[0], 2, 50, 8)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            wanted = table(places).cpu()
            for home in ("host", "mapped", "device"):
                table.place(home, device=card.device, file=Path(folder) / "rows")
                for how in ("at once", "ahead"):

                    def compare(how: str = how, table: MemoryTable = table, wanted: Any = wanted) -> Checked:
                        found = table(places) if how == "at once" else table.start(places).result()
                        if found.device != places.device:
                            raise ValueError(f"rows came to {found.device}")
                        return float((found.cpu() != wanted).sum()), 0.0

                    book.check(f"Engram rows, {form}, {home}, {how}", compare)


def homes(card: Card, book: Book) -> None:
    """A whole core gives the same logits wherever its memory lies, read at once and token by token."""
    core = _core(card, presets.micro())
    ids = card.whole(256, 2, 24)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        wanted = core(ids).logits_BTV
        for home in ("host", "mapped", "device"):

            def compare(home: str = home) -> Checked:
                core.place_memory(home, folder)
                return float((core(ids).logits_BTV != wanted).sum()), 0.0

            book.check(f"the same logits with memory in {home}", compare)


def _core(card: Card, config: Any) -> LanguageCore:
    return LanguageCore.from_config(config).eval().requires_grad_(False).to(card.device)


def cores(card: Card, book: Book) -> None:
    """The core on the card beside the processor's in float32: whole rows, the cache in pieces, kernels and none."""
    configs = {"micro": (presets.micro(), 40)}
    if not card.tiny:
        config = dataclasses.replace(presets.nano(), attention=dataclasses.replace(presets.nano().attention, top_k=64))
        configs["nano, 64 chosen"] = (config, 400)
    for name, (config, length) in configs.items():
        here = LanguageCore.from_config(config).eval().requires_grad_(False)
        there = copy.deepcopy(here).to(card.device)
        ids = torch.randint(0, config.vocab_size, (1, length))
        with torch.no_grad(), plainly():
            wanted = here(ids).logits_BTV

        def pieces(core: Any = there, ids: Any = ids, length: int = length) -> Any:
            cache, parts = core.new_cache(1, length), []
            for piece in ids.to(card.device).split((length - 4, 1, 1, 1, 1), 1):
                parts.append(core(piece, cache=cache).logits_BTV)
            return torch.cat(parts, 1)

        def whole(core: Any = there, ids: Any = ids) -> Any:
            return core(ids.to(card.device)).logits_BTV

        for how, call in (("whole rows", whole), ("a cache in pieces", pieces)):
            for kernels in ("kernels", "no kernels"):

                def compare(call: Any = call, kernels: str = kernels, wanted: Any = wanted) -> Checked:
                    with torch.no_grad():
                        if kernels == "kernels":
                            return apart(call(), wanted), 1e-3
                        with plainly():
                            return apart(call(), wanted), 1e-3

                book.check(f"core {name}, {how}, {kernels}, float32, against the processor", compare)


def experts(card: Card, book: Book) -> None:
    """Experts all together, routed and one by one against a loop over tokens in float64."""
    base = presets.nano()
    count, chosen = 8, 2
    config = dataclasses.replace(base, hidden=64) if card.tiny else base
    module = Experts(config, 0).to(card.device).requires_grad_(False)
    for weight in (module.experts_in, module.experts_out):
        torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    for tokens in (1, 3, 40):
        x = card.normal(1, tokens, config.hidden, dtype=torch.float32)
        weights, picked, _ = module.router(x)
        assert int(picked.sum()) == tokens * chosen and picked.shape[-1] == count
        wanted = _slow_experts(module, x, weights)
        forms = {"together": lambda x=x, w=weights: module._together(x, w),
                 "routed": lambda x=x, w=weights, p=picked: module._routed(x, w, p)}  # fmt: skip
        for name, call in forms.items():

            def compare(call: Any = call, wanted: Any = wanted) -> Checked:
                with torch.no_grad():
                    return apart(call(), wanted), 1e-4

            book.check(f"experts {name}, {tokens} tokens, float32", compare)


def _slow_experts(module: Experts, x_1TW: Any, weights_1TE: Any) -> Any:
    wide = copy.deepcopy(module).double()
    out = []
    for x_W, weights_E in zip(x_1TW[0].double(), weights_1TE[0].double(), strict=True):
        gate, up = (wide.shared_in.weight @ x_W).chunk(2)
        total = wide.shared_out.weight @ (torch.nn.functional.silu(gate) * up)
        for expert, weight in enumerate(weights_E):
            gate, up = (wide.experts_in[expert] @ x_W).chunk(2)
            total = total + weight * (wide.experts_out[expert] @ (torch.nn.functional.silu(gate) * up))
        out.append(total)
    return torch.stack(out)[None]


def hands(card: Card, book: Book) -> None:
    """The joint head on the card beside the processor's, a picture and a clip."""
    from generation import head as heads

    config = heads.micro() if card.tiny else heads.nano()
    here = heads.JointHead(config).eval().requires_grad_(False)
    torch.nn.init.normal_(here.wan.proj_out.weight, std=0.05)
    there = copy.deepcopy(here).to(card.device)
    for frames in (1, 4):
        noisy, level = torch.randn(2, 3, frames, 32, 32), torch.rand(2)
        told, mask = torch.randn(2, 12, config.connector.cond_dim), torch.rand(2, 12) < 0.7
        mask[:, 0] = True

        def compare(noisy: Any = noisy, level: Any = level, told: Any = told, mask: Any = mask) -> Checked:
            with torch.no_grad():
                wanted = here(noisy, level, told, mask)
                found = there(*(given.to(card.device) for given in (noisy, level, told, mask)))
            return apart(found, wanted), 1e-3

        book.check(f"joint head, {frames} frame(s), float32, against the processor", compare)


def eyes(card: Card, book: Book) -> None:
    """The DeepEncoder on the card beside the processor's, at its own size and another."""
    from vision import DeepEncoder, DeepEncoderConfig

    config = DeepEncoderConfig.micro() if card.tiny else DeepEncoderConfig.nano()
    here = DeepEncoder(config).eval().requires_grad_(False)
    there = copy.deepcopy(here).to(card.device)
    for side in (256,) if card.tiny else (512, 640):
        pixels = torch.rand(2, 3, side, side) * 2 - 1

        def compare(pixels: Any = pixels) -> Checked:
            with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
                return apart(there.grid(pixels.to(card.device)), here.grid(pixels)), 1e-3

        book.check(f"DeepEncoder, {side} pixels, float32, against the processor", compare)
