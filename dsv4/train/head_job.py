"""Stages `paint`, `enlarge` and `film`: the head learns pictures and clips from the states of a frozen core.

Shape letters: B rows, T prompt tokens, F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
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
from dsv4.train.precision import autocast, compile_core, compile_head, eager
from dsv4.train.stages import PATCHES, HeadKind
from dsv4.train.step import Batch
from dsv4.train.world import World

DROP = 0.1  # share of rows that learn without a prompt, for guidance
CLEAN_FIRST = 0.2  # share of clips whose first frame is given
FEW_PROMPTS = 128
GOLDEN = 0.5 * (5**0.5 - 1)


class HeadJob:
    """Scenes composed on the device, noised, and predicted back; see `Job` in run.py for the attributes."""

    def __init__(
        self,
        model: Model,
        world: World,
        data_dir: Path,
        *,
        kinds: Mapping[str, HeadKind],
        rows: int,
        seed: int,
        workers: int | None = None,
    ) -> None:
        assert model.head is not None
        self.core, self.head, self.world, self.kinds = model.core.eval(), model.head, world, kinds
        self.parts: dict[str, nn.Module] = {"head": model.head}
        self.trained: list[nn.Module] = [model.head]
        self.gentle: list[nn.Module] = []
        self.average: Average | None = Average(model.head)
        self.atlas = Atlas.load(data_dir, world.device)
        self.generator = torch.Generator(world.device).manual_seed(seed * 1000 + world.rank)
        count = workers_for(world.size) if workers is None else workers
        share = max(1, count // len(kinds)) if count else 0
        self.feeders = {
            name: self._feeder(data_dir, kind, max(1, rows * PATCHES // kind.patches), seed + number, share)
            for number, (name, kind) in enumerate(kinds.items())
        }
        compile_core(model.core, world.device)
        compile_head(model.head, world.device)

    def kind(self, step: int) -> str:
        """The kinds by their shares, each spread evenly over the steps."""
        place = (step * GOLDEN) % 1 * sum(kind.share for kind in self.kinds.values())
        for name, kind in self.kinds.items():
            place -= kind.share
            if place < 0:
                return name
        return next(iter(self.kinds))

    def rests(self, kind: str) -> bool:
        """Every step teaches all that is trained."""
        return False

    def batch(self, kind: str) -> Batch:
        """The next scenes and prompts of a kind, with noise and chances."""
        asked, batch = self.kinds[kind], self.feeders[kind].next()
        rows, device = batch["ids"].shape[0], self.world.device
        shape = (rows, 3, asked.frames, asked.size, asked.size)
        levels = part("generation").noise_levels
        batch["sigma"] = levels(
            "clip" if asked.frames > 1 else "picture", rows, generator=self.generator, device=device
        )
        batch["drop"] = self._chance(rows, DROP)
        batch["clean_first"] = self._chance(rows, CLEAN_FIRST)
        batch["noise"] = torch.randn(shape, generator=self.generator, device=device)
        return batch

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """The flow's loss of a batch."""
        asked = self.kinds[kind]
        with torch.no_grad(), autocast(self.world.device):
            if asked.frames > 1:
                clean_B3FHW = render_clips(batch, self.atlas, asked.size, asked.frames)
            else:
                clean_B3FHW = render_pictures(batch, self.atlas, asked.size)[:, :, None]
            taps = self._read_prompt(batch["ids"].long())
        with autocast(self.world.device):
            loss = head_loss(
                self.head,
                taps,
                batch["mask"].bool(),
                clean_B3FHW,
                sigma_B=batch["sigma"],
                drop_B=batch["drop"],
                clean_first_B=batch["clean_first"] if asked.frames > 1 else None,
                noise_B3FHW=batch["noise"],
            )
        return {"loss": loss, kind: loss}

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Nothing to steer."""

    def close(self) -> None:
        """Stop the data workers."""
        for feeder in self.feeders.values():
            feeder.close()

    def _feeder(self, data_dir: Path, kind: HeadKind, rows: int, seed: int, workers: int) -> Feeder:
        task = "film" if kind.frames > 1 else "paint"
        return Feeder(
            lambda number: iter(PictureStream(data_dir, task, seed=number, rows=rows)),
            workers=workers,
            seed=seed * 1000 + self.world.rank,
            device=self.world.device,
        )

    def _read_prompt(self, ids_BT: Tensor) -> tuple[Tensor, ...]:
        # A prompt is shorter than what a sparse layer selects, so nothing is left out by reading all of it.
        # The few prompts of a batch of clips are not worth compiling for.
        with nullcontext() if len(ids_BT) > FEW_PROMPTS else eager():
            return self.core(ids_BT, taps=tap_blocks(self.core.config.layers), logits=False, sparse=False).taps

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
