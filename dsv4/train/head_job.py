"""Stages `paint` and `film`: the head learns pictures and clips from the states of a frozen core.

Shape letters: B rows, T prompt tokens, F frames, H and W pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dsv4._parts import part
from dsv4.data.atlas import Atlas
from dsv4.data.compose import render_clips, render_pictures
from dsv4.data.pictures import PictureStream
from dsv4.model import Model, tap_blocks
from dsv4.train.feeder import Feeder, workers_for
from dsv4.train.optim import Average
from dsv4.train.precision import autocast, compile_head, eager
from dsv4.train.world import World

DROP = 0.1  # share of rows that learn without a prompt, for guidance
CLEAN_FIRST = 0.2  # share of clips whose first frame is given
PICTURE_ROWS = 12  # rows of a picture step for one row of a clip step, about the same work


class HeadJob:
    """Scenes composed on the device, noised, and predicted back; see `Job` in run.py for the attributes."""

    def __init__(
        self,
        model: Model,
        world: World,
        data_dir: Path,
        *,
        task: str,
        size: int,
        frames: int,
        pictures: float,
        rows: int,
        seed: int,
        workers: int | None = None,
    ) -> None:
        assert model.head is not None
        self.core, self.head, self.world = model.core.eval(), model.head, world
        self.task, self.size, self.frames, self.pictures = task, size, frames, pictures
        self.parts: dict[str, nn.Module] = {"head": model.head}
        self.trained: list[nn.Module] = [model.head]
        self.gentle: list[nn.Module] = []
        self.average: Average | None = Average(model.head)
        self.atlas = Atlas.load(data_dir, world.device)
        self.generator = torch.Generator(world.device).manual_seed(seed * 1000 + world.rank)
        count = workers_for(world.size) if workers is None else workers
        self.feeders = {task: self._feeder(data_dir, task, rows, seed, count)}
        if task == "film":
            self.feeders["paint"] = self._feeder(
                data_dir, "paint", rows * PICTURE_ROWS, seed + 7, max(1, count // 4) if count else 0
            )
        compile_head(model.head, world.device)

    def loss(self, step: int) -> dict[str, Tensor]:
        """Losses of the next batch."""
        # Pictures among the clips keep names bound; their steps lie evenly among the others.
        pictures = self.task == "film" and int((step + 1) * self.pictures) > int(step * self.pictures)
        task = "paint" if pictures else self.task
        batch = self.feeders[task].next()
        with torch.no_grad(), autocast(self.world.device):
            clean = self._render(task, batch)
            clean_B3FHW = clean[:, :, None] if clean.ndim == 4 else clean
            with eager():  # few kernels beside the head's, and many shapes
                taps = self._read_prompt(batch["ids"].long())
        rows = clean_B3FHW.shape[0]
        draws = {
            "sigma_B": part("generation").noise_levels(
                "clip" if task == "film" else "picture", rows, generator=self.generator, device=self.world.device
            ),
            "drop_B": self._chance(rows, DROP),
            "clean_first_B": self._chance(rows, CLEAN_FIRST) if task == "film" else None,
            "noise_B3FHW": torch.randn(clean_B3FHW.shape, generator=self.generator, device=self.world.device),
        }
        with autocast(self.world.device):
            loss = head_loss(self.head, taps, batch["mask"].bool(), clean_B3FHW, **draws)
        return {"loss": loss, task: loss}

    def after_step(self, step: int) -> None:
        """Nothing to steer."""

    def close(self) -> None:
        """Stop the data workers."""
        for feeder in self.feeders.values():
            feeder.close()

    def _feeder(self, data_dir: Path, kind: str, rows: int, seed: int, workers: int) -> Feeder:
        return Feeder(
            lambda number: iter(PictureStream(data_dir, kind, seed=number, rows=rows)),
            workers=workers,
            seed=seed * 1000 + self.world.rank,
            device=self.world.device,
        )

    def _render(self, task: str, batch: dict[str, Tensor]) -> Tensor:
        if task == "film":
            return render_clips(batch, self.atlas, self.size, self.frames)
        return render_pictures(batch, self.atlas, self.size)

    def _read_prompt(self, ids_BT: Tensor) -> tuple[Tensor, ...]:
        return self.core(ids_BT, taps=tap_blocks(self.core.config.layers), logits=False).taps

    def _chance(self, rows: int, share: float) -> Tensor:
        return torch.rand(rows, generator=self.generator, device=self.world.device) < share


def head_loss(
    head: nn.Module,
    taps: tuple[Tensor, ...],
    mask_BT: Tensor,
    clean_B3FHW: Tensor,
    *,
    sigma_B: Tensor,
    drop_B: Tensor,
    clean_first_B: Tensor | None,
    noise_B3FHW: Tensor,
) -> Tensor:
    """The flow's loss of one batch; all chances are drawn by the caller."""
    condition = head.condition(taps, mask_BT, drop_B)
    return part("generation").flow_loss(
        head, clean_B3FHW, condition, sigma_B=sigma_B, noise_B3FHW=noise_B3FHW, clean_first_B=clean_first_B
    )
