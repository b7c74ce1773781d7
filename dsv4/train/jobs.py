"""From a stage of the curriculum to the job that runs it."""

from __future__ import annotations

from pathlib import Path

from dsv4.data.text import SETTLE
from dsv4.model import Model
from dsv4.train.head_job import HeadJob
from dsv4.train.run import Job
from dsv4.train.see_job import AskJob, SeeJob
from dsv4.train.stages import Stage
from dsv4.train.text_job import IndexJob, TextJob
from dsv4.train.world import World


def make_job(stage: Stage, model: Model, world: World, data_dir: Path, *, seed: int, workers: int | None = None) -> Job:
    """The job of `stage` with its data workers started; `workers` 0 makes batches in this process (tests)."""
    rows = stage.rows(world.device.type)
    common = {"rows": rows, "seed": seed, "workers": workers}
    if stage.job == "text":
        return TextJob(model, world, data_dir, seq_len=stage.seq_len, **common)
    if stage.job == "settle":
        return TextJob(model, world, data_dir, seq_len=stage.seq_len, mix=SETTLE, **common)
    if stage.job == "index":
        return IndexJob(model, world, data_dir, seq_len=stage.seq_len, **common)
    if stage.job in ("see", "ask"):
        made = SeeJob if stage.job == "see" else AskJob
        return made(model, world, data_dir, seq_len=stage.seq_len, **common)
    if stage.job == "head":
        return HeadJob(model, world, data_dir, kinds=stage.kinds, **common)
    raise ValueError(f"stage {stage.name!r} has an unknown job {stage.job!r}")
