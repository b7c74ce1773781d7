"""One stage of training as a resumable loop: schedule by time or by steps, checkpoints, a log, any number of devices.

A run folder holds `weights/<part>.safetensors` (what the last finished stage left), `<stage>/` (a checkpoint while the
stage is under way), `log.jsonl` and `run.json` with the names of finished stages.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dsv4.train.optim import Average, Rates, make_optimizers, schedule, set_rates
from dsv4.train.step import Batch, Gradients, Stepper, make_stepper
from dsv4.train.world import World


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """How long a stage runs and at which rates; exactly one of `minutes` and `steps` is given."""

    name: str
    minutes: float | None = None
    steps: int | None = None
    rates: Rates = field(default_factory=Rates)
    warmup: int = 100
    hold: float = 0.3
    clip: float = 1.0
    gentle: float = 0.25  # of the rates, for what a stage trains gently
    checkpoint_minutes: float = 3.0
    log_seconds: float = 10.0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError(f"stage {self.name!r} needs minutes or steps, and not both")


class Job(Protocol):
    """What a stage gives the loop."""

    parts: dict[str, nn.Module]  # saved under these names
    trained: list[nn.Module]  # these get gradients at the plan's rates
    gentle: list[nn.Module]  # these get gradients at a share of them: what they know already must stay
    average: Average | None

    def kind(self, step: int) -> str:
        """What sort of step this is; steps of one kind have inputs of the same shapes and do the same work."""
        ...

    def rests(self, kind: str) -> bool:
        """Whether steps of this kind leave the modules in `trained` as they are, for they have no gradient there."""
        ...

    def batch(self, kind: str) -> Batch:
        """The next inputs of a kind, on the device, chances drawn."""
        ...

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Losses by name; `loss` is the one that is minimised. What is no loss (`loads`) is for `after_step`."""
        ...

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Called when the optimisers have stepped."""
        ...

    def close(self) -> None:
        """Stop data workers."""
        ...


class Clock:
    """How much of a stage is done, the same number on every process.

    By steps it is exact. By minutes it is read from rank 0 every few steps and carried forward in between, so that no
    step waits for a host clock of its own.
    """

    every = 20
    settled = 12  # steps at the start that compile and capture, which says nothing about the others

    def __init__(self, plan: StagePlan, world: World, *, elapsed: float, step: int) -> None:
        self.plan, self.world, self.before = plan, world, elapsed
        self.started = time.monotonic() - elapsed
        self.fraction, self.slope, self.read_at = 0.0, 0.0, step

    def restart(self) -> None:
        """Count from now on, what was done before a resumption kept."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        self.started = time.monotonic() - self.before

    def elapsed(self) -> float:
        """Seconds since the stage began, pauses between resumptions left out."""
        return time.monotonic() - self.started

    def done(self, step: int) -> float:
        """Share of the stage that is done before `step`, 0 to 1."""
        if self.plan.steps is not None:
            return step / self.plan.steps
        assert self.plan.minutes is not None
        if step % self.every == 0:
            if self.world.device.type == "cuda":
                torch.cuda.synchronize()
            now = self.world.agree(self.elapsed() / (60 * self.plan.minutes))
            steps = max(1, step - self.read_at)
            self.slope = (now - self.fraction) / steps if self.fraction > 0 else 0.0
            self.fraction, self.read_at = now, step
        return self.fraction + self.slope * (step - self.read_at)


def finished_stages(run_dir: Path) -> list[str]:
    """Names of the stages that this run has completed."""
    path = run_dir / "run.json"
    return json.loads(path.read_text())["finished"] if path.is_file() else []


def run_stage(job: Job, plan: StagePlan, world: World, run_dir: Path) -> dict[str, float]:
    """Train `job` to the end of `plan`, resuming from its checkpoint if there is one; return the last losses."""
    # Buffers too: a router's bias is one, and processes with different ones would route apart.
    world.same(tensor for part in job.parts.values() for tensor in (*part.parameters(), *part.buffers()))
    trained = make_optimizers(job.trained, plan.rates)
    optimizers = trained + make_optimizers(job.gentle, plan.rates, share=plan.gentle)
    gradients = Gradients(p for module in [*job.trained, *job.gentle] for p in module.parameters())
    checkpoint = run_dir / plan.name
    step, elapsed = resume(checkpoint, job, optimizers, world)
    with world.own_stream():
        stepper = make_stepper(job.loss, gradients, optimizers, world, clip=plan.clip)
        losses = _loop(job, plan, world, run_dir, stepper, resting=len(trained), step=step, elapsed=elapsed)
    if job.average is not None:
        job.average.swap()
    if world.first:
        finish(run_dir, plan.name, job.parts)
    return {name: float(value) for name, value in losses.items() if value.ndim == 0}


def _loop(
    job: Job, plan: StagePlan, world: World, run_dir: Path, stepper: Stepper, *, resting: int, step: int, elapsed: float
) -> dict[str, Tensor]:
    """Steps until the plan is done; the losses of the last one. The first `resting` optimisers may rest."""
    clock = Clock(plan, world, elapsed=elapsed, step=step)
    next_log: dict[str, float] = {}
    next_save = elapsed + 60 * plan.checkpoint_minutes
    first, losses = step, {}
    while (done := clock.done(step)) < 1:
        kind, factor = job.kind(step), _factor(plan, step, done)
        set_rates(stepper.optimizers[:resting], 0.0 if job.rests(kind) else factor)
        set_rates(stepper.optimizers[resting:], factor)
        losses = stepper.run(kind, job.batch(kind))
        job.after_step(losses)
        if job.average is not None:
            job.average.update()
        step += 1
        if step == first + Clock.settled:
            clock.restart()
            next_log.clear()
        if world.first and clock.elapsed() >= next_log.get(kind, 0.0):
            _log(run_dir, plan.name, step, done, clock.elapsed(), losses)
            next_log[kind] = clock.elapsed() + plan.log_seconds
        if world.first and clock.elapsed() >= next_save:
            save_checkpoint(run_dir / plan.name, job, stepper.optimizers, step=step, elapsed=clock.elapsed())
            next_save = clock.elapsed() + 60 * plan.checkpoint_minutes
    if world.first and losses:
        _log(run_dir, plan.name, step, 1.0, clock.elapsed(), losses)
    return losses


def finish(run_dir: Path, name: str, parts: Mapping[str, nn.Module]) -> None:
    """Write the parts as the run's weights, note the stage as finished and drop its checkpoint."""
    (run_dir / "weights").mkdir(parents=True, exist_ok=True)
    for part, module in parts.items():
        _write(run_dir / "weights" / f"{part}.safetensors", _tensors(module))
    record = {"finished": [*[stage for stage in finished_stages(run_dir) if stage != name], name]}
    _write_text(run_dir / "run.json", json.dumps(record) + "\n")
    shutil.rmtree(run_dir / name, ignore_errors=True)


def load_parts(run_dir: Path, parts: Mapping[str, nn.Module]) -> list[str]:
    """Load what the run has of `parts`; return the names that were found. A wrong key or shape is an error."""
    found = []
    for part, module in parts.items():
        path = run_dir / "weights" / f"{part}.safetensors"
        if path.is_file():
            module.load_state_dict(load_file(path))
            found.append(part)
    return found


def save_checkpoint(
    folder: Path, job: Job, optimizers: list[torch.optim.Optimizer], *, step: int, elapsed: float
) -> None:
    """Write parts, averages, optimiser state and the place in the schedule; the note goes last, so a kill is safe."""
    folder.mkdir(parents=True, exist_ok=True)
    slot = f"{step:08d}"
    state: dict[str, Tensor] = {}
    for name, module in job.parts.items():
        state.update({f"part|{name}|{key}": value for key, value in _tensors(module).items()})
    if job.average is not None:
        state.update({f"average|{i}": value.cpu() for i, value in enumerate(job.average.kept)})
    for i, optimizer in enumerate(optimizers):
        for j, entry in optimizer.state_dict()["state"].items():
            state.update({f"optimizer|{i}|{j}|{key}": torch.as_tensor(value).cpu() for key, value in entry.items()})
    _write(folder / f"{slot}.safetensors", state)
    averaged = job.average.steps if job.average is not None else 0
    _write_text(
        folder / "note.json", json.dumps({"slot": slot, "step": step, "elapsed": elapsed, "averaged": averaged})
    )
    for old in folder.glob("*.safetensors"):
        if old.stem != slot:
            old.unlink()


def resume(folder: Path, job: Job, optimizers: list[torch.optim.Optimizer], world: World) -> tuple[int, float]:
    """Load a checkpoint made by `save_checkpoint`; return (step, elapsed seconds), or (0, 0) when there is none."""
    note_path = folder / "note.json"
    if not note_path.is_file():
        return 0, 0.0
    note = json.loads(note_path.read_text())
    state = load_file(folder / f"{note['slot']}.safetensors")
    by_part: dict[str, dict[str, Tensor]] = {}
    by_optimizer: dict[int, dict[int, dict[str, Any]]] = {}
    for key, value in state.items():
        kind, *rest = key.split("|")
        if kind == "part":
            by_part.setdefault(rest[0], {})["|".join(rest[1:])] = value
        elif kind == "optimizer":
            by_optimizer.setdefault(int(rest[0]), {}).setdefault(int(rest[1]), {})[rest[2]] = value
    for name, module in job.parts.items():
        module.load_state_dict(by_part[name])
    for i, optimizer in enumerate(optimizers):
        whole = optimizer.state_dict()
        optimizer.load_state_dict({**whole, "state": by_optimizer.get(i, {})})
    if job.average is not None:
        job.average.steps = note["averaged"]
        for i, kept in enumerate(job.average.kept):
            kept.copy_(state[f"average|{i}"])
    return note["step"], note["elapsed"]


def _factor(plan: StagePlan, step: int, done: float) -> float:
    return schedule(int(done * 1_000_000), 1_000_000, warmup=0, hold=plan.hold) * min(1.0, (step + 1) / plan.warmup)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    os.replace(temporary, path)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _log(run_dir: Path, name: str, step: int, done: float, elapsed: float, losses: Mapping[str, Tensor]) -> None:
    row = {"stage": name, "step": step, "done": round(done, 3), "seconds": round(elapsed, 1)}
    row |= {key: round(float(value), 4) for key, value in losses.items() if value.ndim == 0}
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
