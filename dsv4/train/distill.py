"""Few-step distillation: a head learns to say at once what it says after many guided steps.

The teacher is the head as it was. Of its own finished picture and the noise that it began with, everything between is
shown to the student, which is to see the finished picture in it, without guidance: then 1 to 4 steps do, each half as
dear. Shape letters: B rows, T tokens, F frames, H and W pixels.
Sources: guidance distillation (arXiv 2210.03142); straight paths between noise and what a flow made of it, 2-rectified
flow (arXiv 2209.03003).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsv4._parts import part
from dsv4.data.pictures import PictureStream
from dsv4.errors import InputError
from dsv4.limits import CLIP_SIZE, PAINTED_SIZES
from dsv4.model import Model
from dsv4.quant.policy import nano_bits
from dsv4.train.optim import Average, Rates, make_optimizers, schedule, set_rates
from dsv4.train.precision import autocast
from dsv4.train.rejoin import read

RATES = Rates(matrices=1.5e-3, rest=2e-4, rows=0.0)
CLIP_FRAMES = 16
MINUTES = 10.0  # of learning, where nothing else is asked for
AT_ONE = 0.4  # share of rows that begin with noise alone: the one step that all of a picture hangs on


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """How the teacher works, and how often it shows clips."""

    steps: int = 8
    guidance: float = 2.0
    clips: float = 0.2  # share of batches


def distil(
    model: Model,
    data_dir: Path,
    *,
    minutes: float | None,
    steps: int | None,
    rows: int,
    lessons: Lessons | None = None,
    seed: int = 0,
) -> list[float]:
    """Teach the model's head in place for so many minutes or steps; returns the loss of every step.

    Raises InputError for a model without a head, and unless exactly one of minutes and steps is given.
    """  # fmt: skip
    if model.head is None:
        raise InputError("this model has no picture head to distil")
    if (minutes is None) == (steps is None):
        raise InputError("give either minutes or steps")
    lessons = lessons or Lessons()
    student = model.head.float().train().requires_grad_(True)
    teacher = copy.deepcopy(student).eval().requires_grad_(False).half_precision()
    optimizers, average = make_optimizers([student], RATES), Average(student, decay=0.99)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    started = time.monotonic()
    for ids_BT, mask_BT, shape in _requests(model, data_dir, rows, lessons.clips, seed):
        done = len(losses) / steps if steps else (time.monotonic() - started) / (60 * (minutes or 1))
        if done >= 1:
            break
        set_rates(optimizers, schedule(int(done * 1_000_000), 1_000_000, warmup=50_000, hold=0.4))
        taps = read(model.core, ids_BT)
        noise_B3FHW, made_B3FHW = _taught(teacher, taps, mask_BT, shape, lessons, generator)
        sigma_B = _levels(len(ids_BT), generator)
        with autocast(ids_BT.device):
            condition = student.condition(taps, mask_BT)
            loss = part("generation").flow_loss(
                student, made_B3FHW, condition, sigma_B=sigma_B, noise_B3FHW=noise_B3FHW
            )  # fmt: skip
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average.update()
        losses.append(float(loss.detach()))
        if len(losses) % 10 == 1:
            print(f"step {len(losses)}, {100 * done:.0f} %: loss {losses[-1]:.4f}", flush=True)
    average.swap()
    student.eval().requires_grad_(False)
    return losses


def _taught(
    teacher: Any, taps: tuple[Tensor, ...], mask_BT: Tensor, shape: tuple[int, int, int], lessons: Lessons,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Noise [B,3,F,H,W], and what the teacher makes of it."""
    generation = part("generation")
    noise_B3FHW = torch.randn(len(mask_BT), 3, *shape, generator=generator)
    with torch.no_grad():
        made_B3FHW = generation.sample_flow(
            teacher, teacher.condition(taps, mask_BT), shape=shape, steps=lessons.steps, guidance=lessons.guidance,
            noise_B3FHW=noise_B3FHW,
        )  # fmt: skip
    return noise_B3FHW, made_B3FHW.clamp(-1, 1)


def _levels(rows: int, generator: torch.Generator) -> Tensor:
    """Noise levels [B]: 1 for a share of the rows, anything for the others."""
    level_B = torch.rand(rows, generator=generator).clamp(min=0.05)
    return torch.where(torch.rand(rows, generator=generator) < AT_ONE, torch.ones(rows), level_B)


def _requests(
    model: Model, data_dir: Path, rows: int, clips: float, seed: int
) -> Iterator[tuple[Tensor, Tensor, tuple[int, int, int]]]:
    """Ids and mask [B, T] of requests, cut to the longest, and the frames, height and width that they ask for."""
    kinds = {"paint": (1, PAINTED_SIZES[-1], PAINTED_SIZES[-1]), "film": (CLIP_FRAMES, CLIP_SIZE, CLIP_SIZE)}
    # A clip is as many pictures as it has frames.
    counts = {"paint": rows, "film": max(1, rows // CLIP_FRAMES)}
    streams = {
        kind: iter(PictureStream(data_dir, kind, seed=seed, rows=counts[kind], tokenizer=model.tokenizer))
        for kind in kinds
    }
    owed = 0.0
    while True:
        owed += clips
        kind = "film" if owed >= 1 else "paint"
        owed -= kind == "film"
        batch = next(streams[kind])
        longest = int(batch["mask"].sum(1).max())
        ids, mask = (torch.from_numpy(batch[name][:, :longest]) for name in ("ids", "mask"))
        yield ids.long(), mask.bool(), kinds[kind]


def main(args: argparse.Namespace) -> int:
    """`dsv4 train distill`: teach the head of `args.model` few steps; returns the exit status."""
    from dsv4.studio import Studio

    out = Path(args.out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out: '{out}' holds something already; name a new folder")
    if not (Path(args.data) / "tokenizer.json").is_file():
        raise InputError(f"--data: no training data in '{args.data}'; make it with dsv4 data build")
    if not 0 <= args.clips <= 1:
        raise InputError(f"--clips is a share from 0 to 1, got {args.clips}")
    model = Studio.load(args.model).model
    minutes = None if args.steps else args.minutes or MINUTES
    lessons = Lessons(clips=args.clips)
    distil(model, Path(args.data), minutes=minutes, steps=args.steps, rows=args.rows, lessons=lessons, seed=args.seed)
    about = {name: model.about[name] for name in ("name", "size", "talks") if name in model.about}
    about |= {"stages": [*model.about.get("stages", []), "distill"], "policy": "nano"}
    model.save(out, policy=nano_bits, about=about)
    print(f"{out}: made for --guidance 1 and 1 to 4 --steps")
    return 0
