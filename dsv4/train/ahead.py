"""Begin a later stage before its turn: compile it while an earlier one trains in another process, then wait for that.

Compiling nano's stages takes minutes of one processor, and the cards of a run need not wait for it. Nothing is learnt
here: gradients are taken and dropped.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dsv4.errors import InputError
from dsv4.train.run import Job, finished_stages
from dsv4.train.world import World

LOOKED_AHEAD = 64  # steps, which show every kind that a stage has


def compile_ahead(jobs: Sequence[Callable[[], Job]], world: World) -> None:
    """Run every kind of step of every job once, forwards and backwards, and change no weight."""
    with world.own_stream():
        for make in jobs:
            job = make()
            try:
                for kind in sorted({job.kind(step) for step in range(LOOKED_AHEAD)}):
                    learning = [p for part in (*job.trained, *job.gentle) for p in part.parameters() if p.requires_grad]
                    loss = job.loss(kind, job.batch(kind))["loss"]
                    torch.autograd.grad(loss, learning, allow_unused=True)
            finally:
                job.close()


def wait_for(stage: str, run_dir: Path, *, poll: float = 0.2) -> None:
    """Return when the run has finished `stage`, in whatever process that happens."""
    while stage not in finished_stages(run_dir):
        time.sleep(poll)


def minutes_until(clock: str, now: datetime.datetime | None = None) -> float:
    """Minutes from now to the next time that the clock shows `HH:MM` or `HH:MM:SS`; InputError for other forms."""
    if not re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", clock):
        raise InputError(f"--until takes a time of day such as 17:45 or 17:45:30, got '{clock}'")
    hour, minute, second = (*map(int, clock.split(":")), 0)[:3]
    now = now or datetime.datetime.now()
    try:
        wanted = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
    except ValueError as error:
        raise InputError(f"--until: '{clock}' is no time of day") from error
    if wanted <= now:
        wanted += datetime.timedelta(days=1)
    return (wanted - now).total_seconds() / 60
