"""Claims that need models trained side by side: share and needles of Engram, quality of sparse attention, VVPA.

The data are made up: a language of fixed phrases (pairs of tokens that fix the third), which can only be learnt by
heart, mixed with copying of earlier text, which can only be computed; and lists of keys and values that are asked for
later. Shape letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING

from dsv4.core.config import AttentionConfig, CoreConfig, EngramConfig, ExpertsConfig, LanesConfig
from dsv4.eval.claims_kit import Finding, Setting, mean, spread
from dsv4.eval.plot import Line

if TYPE_CHECKING:
    from torch import Tensor

    from dsv4.core.frame import Frame
    from dsv4.core.model import LanguageCore

VOCABULARY = 256
SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.125)
OFFSETS = (0, 1_000, 10_000, 100_000)


def small(hidden: int) -> CoreConfig:
    """The model that all claims start from: two layers, a plain residual stream, sixteen experts."""
    return CoreConfig(
        vocab_size=VOCABULARY,
        hidden=hidden,
        reach=("sparse", "sparse"),
        attention=AttentionConfig(
            heads=4, entry=32, rotated=16, q_rank=48, groups=2, o_rank=24, window=32, top_k=16,
            index_heads=4, index_size=16, index_rotated=8,
        ),
        experts=ExpertsConfig(count=16, chosen=2, inner=32, shared_inner=hidden),
        lanes=LanesConfig(count=1),
    )  # fmt: skip


def batch(rows: int, length: int, seed: int, device: str) -> Tensor:
    """Rows of phrases learnt by heart, each followed by a copy of what stood 24 places before, in turn."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    table = torch.randint(0, VOCABULARY, (VOCABULARY, 32), generator=torch.Generator().manual_seed(-1))
    ids = torch.randint(0, VOCABULARY, (rows, length), generator=generator)
    for place in range(2, length):
        if place % 32 < 24 or place < 32:
            fixed = table[ids[:, place - 1], ids[:, place - 2] % 32]
            keep = torch.rand(rows, generator=generator) < 0.8
            ids[:, place] = torch.where(keep, fixed, ids[:, place])
        else:
            ids[:, place] = ids[:, place - 24]
    return ids.to(device)


def needles(rows: int, length: int, pairs: int, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """Pairs of key and value, noise, then keys asked for again; targets [B, T] are -100 but where a value follows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(192, VOCABULARY, (rows, length), generator=generator)
    keys = torch.rand(rows, 64, generator=generator).argsort(-1)[:, :pairs]
    values = torch.randint(64, 192, (rows, pairs), generator=generator)
    asked = torch.rand(rows, pairs, generator=generator).argsort(-1)[:, : pairs // 2]
    spots = torch.rand(rows, (length - pairs) // 2, generator=generator).argsort(-1)[:, :pairs] * 2
    ids.scatter_(1, spots, keys).scatter_(1, spots + 1, values)
    targets = torch.full_like(ids, -100)
    for number in range(pairs // 2):
        at = length - pairs + 2 * number
        ids[:, at] = keys.gather(1, asked[:, number : number + 1])[:, 0]
        targets[:, at] = ids[:, at + 1] = values.gather(1, asked[:, number : number + 1])[:, 0]
    return ids.to(device), targets.to(device)


def train(
    core: LanguageCore, setting: Setting, *, seed: int, steps: int, rows: int = 16, length: int = 64,
    rate: float = 3e-3, needle: int = 0, indexed: bool = False,
) -> float:  # fmt: skip
    """AdamW with a falling rate; the mean loss of the last tenth, 0 steps give the loss as it starts.

    needle: learn needles of so many pairs instead of text. indexed: half of the steps with everything seen and the
    indexer learning from it, then half with its choice.
    """
    import torch

    core.train()
    rest = [p for name, p in core.named_parameters() if "table" not in name]
    tables = [p for name, p in core.named_parameters() if "table" in name]
    groups = [{"params": rest, "lr": rate}, {"params": tables, "lr": 5 * rate}]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.95), weight_decay=0.0)
    starts = [group["lr"] for group in optimiser.param_groups]
    losses: list[float] = []
    for step in range(max(1, steps)):
        for group, start in zip(optimiser.param_groups, starts, strict=True):
            group["lr"] = start * min(1.0, (step + 1) / 20) * max(0.05, 1 - step / max(1, steps))
        number = seed * 1_000_000 + step
        options = {"index_loss": "all"}
        if indexed and step >= steps // 2:
            options = {"index_loss": "chosen", "sparse": True}
        if needle:
            ids, targets = needles(rows, length, needle, number, setting.device)
        else:
            ids = batch(rows, length, number, setting.device)
            targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], -100)), 1)
        output = core(ids, logits=False, **(options if indexed else {}))
        loss = core.loss(output.hidden_BTD, targets)
        losses.append(loss.item())
        if not steps:
            break
        extra = 0.01 * output.balance_loss + (output.index_loss if indexed else 0.0)
        optimiser.zero_grad()
        (loss + extra).backward()
        torch.nn.utils.clip_grad_norm_(core.parameters(), 1.0)
        optimiser.step()
        core.update_router_bias(output.loads_LE, 1e-3)
    core.eval()
    return mean(losses[-max(1, len(losses) // 10) :])


def held_out(core: LanguageCore, setting: Setting, *, length: int = 64, offset: int = 0, sparse: bool = False) -> float:
    """Nats a token on text that was not trained on, positions counted from `offset`."""
    import torch

    ids = batch(64, length, 10**9, setting.device)
    targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], -100)), 1)
    positions = (torch.arange(length, device=ids.device) + offset)[None]
    with torch.no_grad():
        return core.loss(core.hidden(ids, positions_BT=positions, sparse=sparse), targets).item()


def found_needles(core: LanguageCore, setting: Setting, *, length: int, pairs: int, sparse: bool = False) -> float:
    """Share of asked values that are named right."""
    import torch

    ids, targets = needles(128, length, pairs, 10**9, setting.device)
    with torch.no_grad():
        guess = core(ids, sparse=sparse).logits_BTV.argmax(-1)
    asked = targets >= 0
    return (guess[asked] == targets[asked]).float().mean().item()


def shared_out(share: float, hidden: int) -> CoreConfig:
    """A model that gives `share` of a fixed sparse budget to experts and the rest to rows of memory."""
    config = small(hidden)
    each = 3 * hidden * config.experts.inner * config.layers
    budget = 16 * each
    count = max(2, round(share * 16))
    left = budget - count * each
    left -= hidden * (2 * 2 * 2 * 16 + 7)  # the two projections, norms and convolution of memory cost too
    rows = left // (2 * 2 * 16)  # two orders, two heads, sixteen numbers a row
    memory = EngramConfig(layers=(0,), rows=rows, width=16, heads=2) if rows > 100 else None
    return replace(config, experts=replace(config.experts, count=count), engram=memory)


def _built(config: CoreConfig, seed: int, device: str) -> LanguageCore:
    import torch

    from dsv4.core.model import LanguageCore

    torch.manual_seed(seed)
    return LanguageCore.from_config(config).to(device)


def memory_share(setting: Setting) -> Iterator[Finding]:
    """Loss at a fixed number of parameters, by the share that experts get."""
    from dsv4.core.count import count

    found = Finding(
        title="Engram: loss at equal parameters, by the share of the sparse budget that experts get",
        columns=("share of experts", "experts", "memory rows", "parameters", "held-out loss, nats"),
        x="share of experts, percent", y="nats",
    )  # fmt: skip
    places = []
    for share in SHARES:
        config = shared_out(share, setting.width)
        losses = []
        for seed in setting.seeds:
            core = _built(config, seed, setting.device)
            train(core, setting, seed=seed, steps=setting.steps)
            losses.append(held_out(core, setting))
        size = count(config)
        rows = size.memory // 16
        cells = (str(config.experts.count), f"{rows:,}", f"{size.total:,}", spread(losses))
        found.rows.append((f"{100 * share:.0f} %", *cells))
        places.append((100 * share, mean(losses)))
    found.lines = [Line("held-out loss", tuple(places))]
    yield found


def memory_needle(setting: Setting) -> Iterator[Finding]:
    """Needles found by models of equal size with and without memory, by how many pairs there are to keep apart."""
    found = Finding(
        title="Engram: values named right among many, at equal parameters",
        columns=("pairs", "experts alone", "a quarter memory"),
        x="pairs", y="percent right",
    )  # fmt: skip
    shares, pairs = {"experts alone": 1.0, "a quarter memory": 0.75}, (4, 8, 16)
    scores: dict[str, dict[int, list[float]]] = {name: {n: [] for n in pairs} for name in shares}
    for name, share in shares.items():
        for seed in setting.seeds:
            core = _built(shared_out(share, setting.width), seed, setting.device)
            train(core, setting, seed=seed, steps=2 * setting.steps, needle=8)
            for number in pairs:
                scores[name][number].append(100 * found_needles(core, setting, length=64, pairs=number))
    for number in pairs:
        found.rows.append((str(number), *(spread(scores[name][number], 1) for name in shares)))
    found.lines = [Line(name, tuple((n, mean(values)) for n, values in scores[name].items())) for name in shares]
    yield found


def sparse_quality(setting: Setting) -> Iterator[Finding]:
    """Loss and needles of a model trained and read with the indexer's choice against one that sees everything."""
    found = Finding(
        title="DSA: 16 entries of 96 chosen, against all, at equal steps",
        columns=("attention", "held-out loss, nats", "needles found, percent"),
        x="0 dense, 1 sparse", y="percent of needles found",
    )  # fmt: skip
    places = []
    for number, (name, indexed) in enumerate((("dense", False), ("sparse", True))):
        losses, scores = [], []
        for seed in setting.seeds:
            core = _built(small(setting.width), seed, setting.device)
            train(core, setting, seed=seed, steps=setting.steps, length=96, rows=12, indexed=indexed)
            losses.append(held_out(core, setting, length=96, sparse=indexed))
            core = _built(small(setting.width), seed, setting.device)
            train(core, setting, seed=seed, steps=2 * setting.steps, length=96, rows=12, indexed=indexed, needle=8)
            scores.append(100 * found_needles(core, setting, length=96, pairs=8, sparse=indexed))
        found.rows.append((name, spread(losses), spread(scores, 1)))
        places.append((number, mean(scores)))
    found.lines = [Line("needles", tuple(places))]
    yield found


def turned_values(setting: Setting) -> Iterator[Finding]:
    """Loss where positions start late, for values that are turned back at the query and for values that are not."""
    found = Finding(
        title="VVPA: loss of one text read from later positions on (trained from position 0)",
        columns=("first position", "turned back (VVPA)", "not turned back"),
        x="first position (plus 100)", y="nats", log_x=True,
    )  # fmt: skip
    losses: dict[bool, dict[int, list[float]]] = {on: {offset: [] for offset in OFFSETS} for on in (True, False)}
    for on in losses:
        for seed in setting.seeds:
            core = _built(small(setting.width), seed, setting.device)
            if not on:
                for block in core.blocks:
                    block.attention.forward = MethodType(_not_turned_back, block.attention)
            train(core, setting, seed=seed, steps=setting.steps)
            for offset in OFFSETS:
                losses[on][offset].append(held_out(core, setting, offset=offset))
    for offset in OFFSETS:
        found.rows.append((f"{offset:,}", spread(losses[True][offset]), spread(losses[False][offset])))
    found.lines = [
        Line(name, tuple((offset + 100, mean(values)) for offset, values in losses[on].items()))
        for name, on in (("turned back", True), ("not turned back", False))
    ]
    yield found


def _not_turned_back(self: object, x_BTW: Tensor, frame: Frame) -> tuple[Tensor, Tensor | None]:
    """The forward pass of shared attention without its last rotation."""
    from dsv4.core.attention import SharedAttention
    from dsv4.ops.rotary import rotate

    assert isinstance(self, SharedAttention)
    turn = self._turn(frame)
    out = SharedAttention.forward
    kept = self._project
    # The output is turned forwards again, which undoes the turning back inside.
    self._project = lambda out_BTHD: kept(rotate(out_BTHD, turn.cos_BT1P, turn.sin_BT1P))
    try:
        return out(self, x_BTW, frame)
    finally:
        del self._project
