"""`dsv4 train svg` and `dsv4 train image`: a person's own drawings or pictures, learnt by a finished model in minutes.

The run folder keeps checkpoints (a second call goes on), `report.json`, and at the end `model/`, which `--model` loads.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dsv4.errors import InputError
from dsv4.quant.policy import eight_bits
from dsv4.train.optim import Rates
from dsv4.train.own_pairs import Pair, digest
from dsv4.train.run import Job, StagePlan, finished_stages, load_parts, run_stage
from dsv4.train.world import World, join_world

CHECKPOINT_MINUTES = 1.0
# Drawings go into the memory (Engram rows); matrices that move as fast forget a third of the icons (docs/training.md).
DRAW_RATES = Rates(matrices=1e-4, rest=5e-5, rows=4e-3)
PAINT_RATES = Rates(matrices=1.5e-3, rest=3e-4, rows=0.0)  # of three tried: docs/log.md


@dataclass(frozen=True, kw_only=True)
class Own:
    """A run that has begun: its folder, the studio that it starts from, the device, and the length of its stage."""

    folder: Path
    studio: Any
    world: World
    plan: StagePlan
    seed: int
    data: Path | None  # nano's own data, for rehearsal


def main(args: argparse.Namespace) -> int:
    """Learn what `args.data` holds; `args.kind` is svg or image. Returns the exit status."""
    return {"svg": _draw, "image": _paint}[args.kind](args)


def _draw(args: argparse.Namespace) -> int:
    from dsv4.train.own_svg import (
        REHEARSED,
        OwnSvgJob,
        exactly_drawn,
        going_back,
        kept_rehearsal,
        read_drawings,
        rehearsal,
        row_length,
    )

    pairs, drawings = read_drawings(Path(args.data))
    lost = [f"{pair.path.name}: {one.lost}" for pair, one in zip(pairs, drawings, strict=True) if one.lost]
    middle = sorted(len(one.ids) for one in drawings)[len(drawings) // 2]
    print(f"{len(drawings)} drawings, {middle} tokens in the middle; {len(lost)} lost something", *lost, sep="\n  ")
    own = begin(args, pairs, DRAW_RATES, lambda model: row_length(model.tokenizer, drawings))
    model = own.studio.model
    before = exactly_drawn(model, drawings)
    start = {name: value.clone() for name, value in model.core.state_dict().items()}
    rehearsed: Any = own.data
    if rehearsed is None:
        print("without --rehearse DIR (nano's own data), the model rehearses what it draws by itself", flush=True)
        rehearsed = kept_rehearsal(
            own.folder / "rehearsal.json",
            lambda: rehearsal(own.studio, count=REHEARSED, seed=own.seed, tell=lambda line: print(line, flush=True)),
        )
    run(own, lambda: OwnSvgJob(model, own.world, drawings, rehearsed, rows=args.rows or 2, seed=own.seed))
    share, after = 1.0, before
    for tried, most in going_back(model, start, drawings):
        share = tried
        after = exactly_drawn(finished(own, pairs).model, drawings)
        if sum(after) >= most:
            break
    rows = [
        {"file": pair.path.name, "caption": pair.caption, "before": was, "after": now, "lost": one.lost}
        for pair, one, was, now in zip(pairs, drawings, before, after, strict=True)
    ]
    told = f"drawn exactly: {sum(before)} of {len(before)} before, {sum(after)} after ({share:.0%} of the way)"
    return report(
        own, {"kind": "svg", "exact_before": sum(before), "exact_after": sum(after), "share": share, "rows": rows}, told
    )


def _paint(args: argparse.Namespace) -> int:
    from dsv4.studio import Studio
    from dsv4.train.own_image import OwnImageJob, longest_request, nearness, read_pictures, self_painted

    pairs, pictures_N3HW = read_pictures(Path(args.data))
    captions = [pair.caption for pair in pairs]

    def fits(model: Any) -> None:
        if model.head is None:
            raise InputError(f"'{args.start or 'nano'}' has no picture head, so it learns no pictures")
        longest_request(model.tokenizer, captions)

    own = begin(args, pairs, PAINT_RATES, fits)
    painter = Studio.load(own.studio.source)  # painting rounds the weights, so the head that learns does none
    before = nearness(painter, captions, pictures_N3HW)
    rehearsed = own.data or self_painted(painter, own.folder / "rehearsal.npz", seed=own.seed)
    given, rows = (captions, pictures_N3HW), args.rows or 8
    run(own, lambda: OwnImageJob(own.studio.model, own.world, given, rehearsed, rows=rows, seed=own.seed))
    after = nearness(finished(own, pairs), captions, pictures_N3HW)
    lines = [
        {"file": pair.path.name, "caption": pair.caption, "before": round(was, 2), "after": round(now, 2)}
        for pair, was, now in zip(pairs, before, after, strict=True)
    ]
    means = [sum(values) / len(values) for values in (before, after)]
    told = f"nearness (PSNR) to the pictures: {means[0]:.1f} dB before, {means[1]:.1f} dB after"
    return report(own, {"kind": "image", "psnr_before": means[0], "psnr_after": means[1], "rows": lines}, told)


def begin(
    args: argparse.Namespace, pairs: Sequence[Pair], rates: Rates, fits: Callable[[Any], object] = lambda model: None
) -> Own:
    """Open or make the run folder and load the model that is to learn; InputError when the run holds other data.

    fits: given the model before the folder is made; raises InputError for what that model cannot learn.
    """
    from dsv4.studio import Studio

    folder, start = Path(args.out), args.start or "nano"
    note, told = folder / "own.json", {"kind": args.kind, "start": str(start), "data": digest(pairs)}
    if note.is_file() and json.loads(note.read_text()) != told:
        raise InputError(f"--out: '{folder}' is a run over other files or another start; name a new folder")
    if folder.is_dir() and not note.is_file() and any(folder.iterdir()):
        raise InputError(f"--out: '{folder}' holds something else; name a new folder")
    data = Path(args.rehearse) if args.rehearse else None
    if data is not None and not (data / "tokenizer.json").is_file():
        raise InputError(f"--rehearse: no training data in '{data}'; `dsv4 data build` makes them, or leave it out")
    torch.manual_seed(args.seed)
    studio = Studio.load(start)
    if data is not None:
        _same_words(studio.model, data)
    fits(studio.model)
    world = join_world(args.device or "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(told) + "\n")
    minutes = None if args.steps else args.minutes or 5.0
    plan = StagePlan(
        name=args.kind, minutes=minutes, steps=args.steps, rates=rates, warmup=20, hold=0.5,
        checkpoint_minutes=CHECKPOINT_MINUTES,
    )  # fmt: skip
    return Own(folder=folder, studio=studio, world=world, plan=plan, seed=args.seed, data=data)


def run(own: Own, make: Any) -> None:
    """The stage, from its checkpoint where there is one; a finished one is loaded.

    Afterwards the model is on the CPU again, where what it has learnt is measured beside what it was before.
    """
    model = own.studio.model
    if own.plan.name in finished_stages(own.folder):
        print("this run is finished; its model is written again", flush=True)
    else:
        for part in model.parts().values():
            part.to(own.world.device)
        job: Job = make()
        try:
            run_stage(job, own.plan, own.world, own.folder)
        finally:
            job.close()
            own.world.close()
        for part in model.parts().values():
            part.cpu()
    load_parts(own.folder, model.parts())


def finished(own: Own, pairs: Sequence[Pair]) -> Any:
    """The new model, written to `model/` in eight bits and read back as anybody will read it."""
    from dsv4.studio import Studio

    model = own.studio.model
    was = {key: model.about[key] for key in ("name", "size", "talks") if key in model.about}
    stages = [*model.about.get("stages", []), f"own {own.plan.name} ({len(pairs)})"]
    target = own.folder / "model"
    for part in model.parts().values():
        part.cpu().float()
    model.save(target, policy=eight_bits, about={**was, "stages": stages, "policy": "eight"})
    return Studio.load(target)


def report(own: Own, record: dict[str, Any], told: str) -> int:
    """Write the figures into the run folder and say them."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (own.folder / "report.json").write_text(text + "\n", encoding="utf-8")
    print(f"{told}\n{own.folder / 'model'}: use it with --model {own.folder / 'model'}")
    return 0


def _same_words(model: Any, data: Path) -> None:
    from dsv4.tokenizer import Tokenizer

    if Tokenizer.from_file(data / "tokenizer.json").fingerprint != model.tokenizer.fingerprint:
        raise InputError(f"--rehearse: '{data}' was built with another tokenizer than the model's; build it again")
