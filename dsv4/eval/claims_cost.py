"""Claims that need no or little training: error of FP8 rows, gain of residual lanes, cost of sparse attention.

Shape letters: B batch, T tokens, N lanes, W hidden.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dsv4.eval.claims_kit import Finding, Setting, mean, spread
from dsv4.eval.plot import Line

if TYPE_CHECKING:
    from torch import Tensor

    from dsv4.core.model import LanguageCore

LENGTHS = (64, 256, 1024, 4096)
DEPTH = 32  # blocks, twice as many sites


def fp8_rows(setting: Setting) -> Iterator[Finding]:
    """How far attention over packed rows is from attention over float32 ones, beside bfloat16 rows."""
    import torch

    from dsv4.ops.attend import attend
    from dsv4.ops.fp8 import RowFormat

    found = Finding(
        title="FP8 rows: error of attention output, percent of its size",
        columns=("tokens", "bfloat16 rows", "FP8, shared (584 bytes)", "FP8, latent (656 bytes)"),
        x="tokens", y="percent", log_x=True, log_y=True,
    )  # fmt: skip
    kinds = {"bfloat16": None, "shared": RowFormat.shared(512, 64), "latent": RowFormat.latent(512, 64)}
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for length in LENGTHS:
        cells = []
        for name, form in kinds.items():
            errors = []
            for seed in setting.seeds:
                torch.manual_seed(seed)
                width, value = (576, 512) if name == "latent" else (512, None)
                rows_BSD, q_BQHD = torch.randn(1, length, width), torch.randn(1, 4, 8, width) * 2
                read_BSD = rows_BSD.bfloat16().float()
                if form is not None:
                    read_BSD = form.unpack(form.pack(rows_BSD), torch.float32)
                exact, near = (attend(q_BQHD, one, None, None, value=value) for one in (rows_BSD, read_BSD))
                errors.append(100 * ((near - exact).norm() / exact.norm()).item())
            cells.append(spread(errors, 2))
            points[name].append((length, mean(errors)))
        found.rows.append((f"{length:,}", *cells))
    found.lines = [Line(name, tuple(places)) for name, places in points.items()]
    yield found


def lanes_gain(setting: Setting) -> Iterator[Finding]:
    """How much a signal can grow through all residual mixing matrices together: mHC against free lanes."""
    from dsv4.eval.claims_trained import train

    found = Finding(
        title=f"Composite gain of residual mixing through {2 * DEPTH} sites",
        columns=("lanes", "steps", "forward (row sums)", "backward (column sums)", "training loss"),
        x="optimiser steps", y="gain", log_y=True,
    )  # fmt: skip
    for mixing in ("mhc", "hyper"):
        places = []
        for steps in (0, 30 * setting.scale, 90 * setting.scale):
            gains: list[tuple[float, float]] = []
            losses: list[float] = []
            for seed in setting.seeds:
                core = _deep(mixing, seed).to(setting.device)
                losses.append(train(core, setting, seed=seed, steps=steps, rows=4, length=32, rate=1e-2))
                gains.append(composite(core, setting, seed))
            forward, backward = zip(*gains, strict=True)
            places.append((steps, mean(list(forward))))
            found.rows.append((mixing, str(steps), spread(list(forward), 2), spread(list(backward), 2), spread(losses)))
        found.lines.append(Line(mixing, tuple(places)))
    yield found


def _deep(mixing: str, seed: int) -> LanguageCore:
    import torch

    from dsv4.core.config import LanesConfig
    from dsv4.core.model import LanguageCore
    from dsv4.eval.claims_trained import small

    torch.manual_seed(seed)
    config = small(32)
    dense = replace(config.experts, dense=tuple(range(DEPTH)), dense_inner=32)
    lanes = LanesConfig(count=4, mixing=mixing)
    core = LanguageCore.from_config(replace(config, reach=("sliding",) * DEPTH, experts=dense, lanes=lanes))
    with torch.no_grad():  # as released: weights of the mixing matter from the first step
        for name, parameter in core.named_parameters():
            if name.endswith(("hyper_attention.scale", "hyper_experts.scale")):
                parameter.fill_(0.3)
    return core


def composite(core: LanguageCore, setting: Setting, seed: int) -> tuple[float, float]:
    """Greatest row sum and column sum of |the product of all residual maps|, averaged over tokens."""
    import torch

    from dsv4.core.hyper import HyperLanes
    from dsv4.eval.claims_trained import batch

    maps: list[Tensor] = []

    def note(module: HyperLanes, x_BTNW: Tensor) -> None:
        maps.append(module.mix(x_BTNW)[2].mT.double())

    reads = [(module, module.read) for module in core.modules() if isinstance(module, HyperLanes)]
    for module, read in reads:
        module.read = lambda x, module=module, read=read: (note(module, x), read(x))[1]
    with torch.no_grad():
        core(batch(4, 32, seed + 99, setting.device))
    for module, _ in reads:
        del module.read
    whole = maps[0]
    for one in maps[1:]:
        whole = one @ whole
    return whole.abs().sum(-1).amax(-1).mean().item(), whole.abs().sum(-2).amax(-1).mean().item()


def sparse_cost(setting: Setting) -> Iterator[Finding]:
    """Milliseconds of one token in one layer of nano's shape: all entries against the indexer's choice."""
    import torch

    from dsv4.core import presets
    from dsv4.core.frame import make_frame
    from dsv4.core.model import LanguageCore

    found = Finding(
        title="One token in one sparse layer: milliseconds by length",
        columns=("tokens", "dense", "sparse", "dense / sparse"),
        x="tokens", y="milliseconds", log_x=True, log_y=True,
    )  # fmt: skip
    torch.manual_seed(0)
    config = replace(presets.nano(), reach=("sparse",), engram=None)
    core = LanguageCore.from_config(config).bfloat16().eval().requires_grad_(False)
    points: dict[str, list[tuple[float, float]]] = {"dense": [], "sparse": []}
    for length in (1024, 4096, 16_384, 65_536, 262_144, 1_048_576):
        cache = core.new_cache(1, length + 8, index_keys="int8")
        cache.fill_with_noise(length)
        x_BTW = torch.randn(1, 1, config.hidden, dtype=torch.bfloat16)
        best = {}
        with torch.inference_mode():
            for name in points:
                times = []
                for _ in range(7):
                    frame = make_frame(config, positions_BT=torch.tensor([[length]]), batch=1, segments_BT=None,
                                       cache=cache, sparse=name == "sparse", index_loss=None)  # fmt: skip
                    started = time.thread_time()
                    core.blocks[0].attention(x_BTW, frame)
                    times.append(1000 * (time.thread_time() - started))
                best[name] = min(times)
                points[name].append((length, best[name]))
        cells = (f"{best['dense']:.2f}", f"{best['sparse']:.2f}", f"{best['dense'] / best['sparse']:.1f}")
        found.rows.append((f"{length:,}", *cells))
    found.lines = [Line(name, tuple(places)) for name, places in points.items()]
    yield found
