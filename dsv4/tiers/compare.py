"""`dsv4 eval tiers`: what a model loses in fewer bits: loss, divergence, agreement, task scores, size and speed.

The reference is the model as it is stored, in float32. Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from dsv4.core.config import AttentionConfig, CoreConfig, EngramConfig, ExpertsConfig, LanesConfig
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.tiers import calibrate
from dsv4.tiers.layer import METHODS
from dsv4.tiers.run import CORE, TIERS, quantize
from dsv4.tiers.source import find_model

if TYPE_CHECKING:
    from dsv4.model import Model

JUDGED = ("icon_by_name", "drawing", "definition")
CLAIM = "Claimed before the release: Q8 within 1 to 2 points, Q4 within 3 to 6."
DECODED = 24  # tokens timed


@dataclass(frozen=True, kw_only=True)
class Line:
    """One tier by one method."""

    tier: str
    method: str
    loss: float | None  # nats a token of held-out answers
    divergence: float  # nats, of the reference from this one
    agreement: float  # share of places with the same likeliest token
    scores: dict[str, float]
    megabytes: float
    tokens_a_second: float

    def row(self) -> str:
        """For the table."""
        told = " · ".join(f"{100 * score:.1f}" for score in self.scores.values()) or "–"
        loss = "–" if self.loss is None else f"{self.loss:.4f}"
        return (
            f"| {self.tier} | {self.method} | {loss} | {self.divergence:.5f} | {100 * self.agreement:.2f} % | {told} "
            f"| {self.megabytes:.1f} | {self.tokens_a_second:.0f} |"
        )


@dataclass(frozen=True, kw_only=True)
class Held:
    """Held-out rows: ids, and from which place on they are an answer (0: all)."""

    ids_T: Tensor
    begin: int = 0


def main(args: argparse.Namespace) -> int:
    """Print the table; `args` has model, data, limit, seed and out. Returns the exit status."""
    if args.limit < 1:
        raise InputError(f"--limit must be above zero, got {args.limit}")
    tiers = _chosen(args.tiers)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        folder = lite_shaped(work / "lite-shaped") if args.model == "lite-shaped" else find_model(args.model)
        ours = (folder / "model.json").is_file()
        data = None if args.data is None else Path(args.data)
        if ours and data is None:
            raise InputError("--data: a model of ours is judged on cases of its training data; name that folder")
        print(heads(JUDGED if ours else ()), flush=True)
        lines = []
        for line in compare(folder, work=work, data=data, limit=args.limit, tiers=tiers):
            lines.append(line)
            print(line.row(), flush=True)
    print(f"\n{CLAIM}")
    if args.out:
        Path(args.out).write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
    return 0


def _chosen(given: str | None) -> list[str]:
    from dsv4.errors import unknown

    names = list(TIERS) if given is None else [name.strip() for name in given.split(",")]
    for name in names:
        if name not in TIERS:
            raise unknown("tier", name, TIERS)
    return names


def heads(judged: Sequence[str]) -> str:
    """The head of the table."""
    told = f"exact, %: {' · '.join(judged)}" if judged else "scores"
    titles = ["tier", "method", "loss", "KL", "same first choice", told, "MB of the core", "tokens/s"]
    return f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}"


def compare(folder: Path, *, work: Path, data: Path | None, limit: int, tiers: Sequence[str]) -> Iterator[Line]:
    """BF16, then each tier by each method; quantised models are written under `work`."""
    ours = (folder / "model.json").is_file()
    reference = _core(folder, ours)
    if ours:
        assert data is not None
        passages, held = calibrate.of_model(folder, data=data), _held(data, limit)
    else:
        vocabulary = reference.config.vocab_size
        passages = calibrate.of_checkpoint(folder, text=(), tokenizer=None, count=16, vocabulary=vocabulary)
        generator = torch.Generator().manual_seed(1)
        held = [Held(ids_T=torch.randint(0, vocabulary, (128,), generator=generator)) for _ in range(limit)]
    expected = [_log_probabilities(reference, one) for one in held]
    judge = _judge(folder, data, limit) if ours else lambda core: {}
    parameters = sum(one.numel() for one in reference.parameters())
    half = _core(folder, ours).bfloat16()
    yield _line("bf16", "–", half, held, expected, judge, 2e-6 * parameters, ours)
    del half
    for tier in tiers:
        for method in METHODS[::-1]:
            out = work / f"{tier}-{method}"
            report = quantize(folder, out, tier=tier, method=method, passages=passages)
            core = _core(out, ours)
            size = sum(path.stat().st_size for path in (out / CORE if ours else out).glob("*.safetensors"))
            yield _line(tier, method, core, held, expected, judge, size / 1e6, ours)
            del core, report


def _core(folder: Path, ours: bool) -> LanguageCore:
    from dsv4.model import Model

    return Model.load(folder).core if ours else LanguageCore.from_pretrained(folder, dtype=torch.float32)


def _held(data: Path, limit: int) -> list[Held]:
    from dsv4.eval.text import cases

    rows = [case for kind in JUDGED for case in cases(data, kind, limit)]
    return [Held(ids_T=torch.tensor([*one.prompt_ids, *one.answer_ids]), begin=len(one.prompt_ids)) for one in rows]


def _judge(folder: Path, data: Path | None, limit: int) -> Callable[[LanguageCore], dict[str, float]]:
    from dsv4.eval.text import judge
    from dsv4.model import Model

    model: Model = Model.load(folder)
    assert data is not None

    def scores(core: LanguageCore) -> dict[str, float]:
        found = {kind: judge(core, model.tokenizer, data, kind=kind, limit=limit) for kind in JUDGED}
        return {kind: right / max(1, count) for kind, (right, count) in found.items()}

    return scores


def _line(
    tier: str,
    method: str,
    core: LanguageCore,
    held: Sequence[Held],
    expected: Sequence[Tensor],
    judge: Callable[[LanguageCore], dict[str, float]],
    megabytes: float,
    answers: bool,
) -> Line:
    losses: list[Tensor] = []
    apart: list[Tensor] = []
    same: list[Tensor] = []
    for one, wanted_TV in zip(held, expected, strict=True):
        found_TV = _log_probabilities(core, one)
        losses.append(-found_TV.gather(-1, one.ids_T[max(1, one.begin) :, None])[:, 0])
        apart.append((wanted_TV.exp() * (wanted_TV - found_TV)).sum(-1))
        same.append(found_TV.argmax(-1) == wanted_TV.argmax(-1))
    return Line(
        tier=tier,
        method=method,
        loss=float(torch.cat(losses).mean()) if answers else None,
        divergence=float(torch.cat(apart).mean()),
        agreement=float(torch.cat(same).float().mean()),
        scores=judge(core),
        megabytes=megabytes,
        tokens_a_second=_speed(core),
    )


def _log_probabilities(core: LanguageCore, one: Held) -> Tensor:
    """Of every token of the answer: [T, V]."""
    with torch.inference_mode():
        logits_TV = core(one.ids_T[None, :-1]).logits_BTV[0, max(1, one.begin) - 1 :]
        return F.log_softmax(logits_TV.float(), -1)


def _speed(core: LanguageCore) -> float:
    cache, token = core.new_cache(1, 64 + DECODED), torch.tensor([[1]])
    with torch.inference_mode():
        core(torch.arange(32)[None], cache=cache, last_only=True)
        core(token, cache=cache)
        begun = time.perf_counter()
        for _ in range(DECODED):
            core(token, cache=cache)
    return DECODED / (time.perf_counter() - begun)


def lite_shaped(folder: Path, seed: int = 0) -> Path:
    """A random model with the layers, lanes, experts and memory of `lite`, narrow enough to compare in minutes."""
    torch.manual_seed(seed)
    config = CoreConfig(
        vocab_size=4096,
        hidden=512,
        reach=("sparse", "sparse", "sparse", "sliding"),
        attention=AttentionConfig(
            heads=8, entry=128, rotated=32, q_rank=128, groups=4, o_rank=128, window=64, top_k=64,
            index_heads=4, index_size=64, index_rotated=32,
        ),
        experts=ExpertsConfig(count=24, chosen=6, inner=256, shared_inner=256),
        lanes=LanesConfig(count=4),
        engram=EngramConfig(layers=(1,), rows=4000, width=64, heads=8),
        tied=False,
    )  # fmt: skip
    core = LanguageCore.from_config(config).eval()
    with torch.no_grad():
        core.embedding.weight.mul_(50)
    core.save_pretrained(folder)
    return folder
