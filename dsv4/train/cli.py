"""`dsv4 train nano`: run the curriculum, or some of its stages, on what devices there are; a second call resumes."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import torch

from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.tokenizer import Tokenizer
from dsv4.train.ahead import compile_ahead, minutes_until, wait_for
from dsv4.train.jobs import make_job
from dsv4.train.run import Job, StagePlan, finished_stages, load_parts, run_stage
from dsv4.train.stages import Stage, choose
from dsv4.train.world import World, join_world


def main(args: argparse.Namespace) -> int:
    """Train; `args` holds the flags of the command. Returns the exit status."""
    data_dir, run_dir = Path(args.data), Path(args.out)
    if not (data_dir / "tokenizer.json").is_file():
        raise InputError(
            f"no training data in '{data_dir}': make it with dsv4 data build --sources DIR --out {data_dir}"
        )
    stages = choose(args.stages)
    if sum(given is not None for given in (args.minutes, args.steps, args.until)) > 1:
        raise InputError("give one of --minutes, --steps and --until")
    if args.after is not None and any(stage in stages for stage in choose(args.after)):
        raise InputError(f"--after {args.after}: this command runs that stage itself, so it would wait for ever")
    if args.until is not None:
        minutes_until(args.until)
    world = join_world(args.device or "auto")
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(args.seed)
    try:
        model = Model.fresh(Tokenizer.from_file(data_dir / "tokenizer.json"), size=args.model_size)
        if args.start is not None:
            start_from(Path(args.start), model)
        for part in model.parts().values():
            part.to(world.device)
        if args.after is not None or args.until is not None:  # what is compiled later is not in the time that is left
            compile_ahead([_maker(stage, model, world, data_dir, args) for stage in stages], world)
        if args.after is not None:
            wait_for(args.after, run_dir)
        minutes = args.minutes if args.until is None else minutes_until(args.until)
        for stage in stages:
            _run(stage, model, world, data_dir, run_dir, args, share=_share(stages, stage, world, minutes))
    finally:
        world.close()
    return 0


def start_from(folder: Path, model: Model) -> None:
    """Give `model` the weights of a model folder, opened from their integers; both need the same tokenizer and size."""
    found = Model.load(folder)
    if found.tokenizer.fingerprint != model.tokenizer.fingerprint:
        raise InputError(f"'{folder}' was trained with another tokenizer than the data's; build the data again")
    if found.about["size"] != model.about["size"]:
        raise InputError(f"'{folder}' holds a model of size {found.about['size']}, not {model.about['size']}")
    given = model.parts()
    for name, module in found.parts().items():
        given[name].load_state_dict(module.state_dict())


def _share(stages: list[Stage], stage: Stage, world: World, minutes: float | None) -> float | None:
    """The stage's part of `minutes` for all stages together, in the curriculum's proportions."""
    if minutes is None:
        return None
    device = world.device.type
    return minutes * stage.minutes(device) / sum(one.minutes(device) for one in stages)


def _run(
    stage: Stage,
    model: Model,
    world: World,
    data_dir: Path,
    run_dir: Path,
    args: argparse.Namespace,
    *,
    share: float | None,
) -> None:
    if stage.name in finished_stages(run_dir):
        if world.first:
            print(json.dumps({"stage": stage.name, "already": "finished"}), flush=True)
        return
    load_parts(run_dir, model.parts())
    device = world.device.type
    minutes = None if args.steps is not None else share or stage.minutes(device)
    plan = StagePlan(
        name=stage.name, minutes=minutes, steps=args.steps, rates=stage.rates, warmup=stage.warmup,
        hold=stage.hold, gentle=stage.gentle,
    )  # fmt: skip
    job = _maker(stage, model, world, data_dir, args)()
    load_parts(run_dir, job.parts)  # what only stages know too
    try:
        run_stage(job, plan, world, run_dir)
    finally:
        job.close()


def _maker(stage: Stage, model: Model, world: World, data_dir: Path, args: argparse.Namespace) -> Callable[[], Job]:
    if args.rows is not None:
        stage = dataclasses.replace(stage, cpu_rows=args.rows, gpu_rows=args.rows)
    return lambda: make_job(stage, model, world, data_dir, seed=args.seed, workers=args.workers)
