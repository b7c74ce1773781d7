"""Stage `see`: eyes and core learn to describe scenes, answer questions and read, while the core keeps seeing text.

Shape letters: B rows, T tokens, V vision tokens, D hidden size, C cells of a view, K kinds of things.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsv4.data.atlas import Atlas
from dsv4.data.compose import render_pictures
from dsv4.data.glyphs import GlyphSheets, render_text
from dsv4.data.pictures import PictureStream
from dsv4.data.text import TextMixture
from dsv4.model import Model
from dsv4.train.feeder import Feeder, workers_for
from dsv4.train.optim import Average
from dsv4.train.precision import autocast, compile_core, eager
from dsv4.train.text_job import BALANCE_WEIGHT, text_loss
from dsv4.train.world import World

PICTURE_START = 2  # bos and user stand before the places of a picture
SIDE = 512  # Tiny mode's own pixels
GRID = 8  # cells a side in Tiny mode
CELLS_WEIGHT = 0.2
TEXT_ROWS = 32
TEXT_EVERY = 3  # one step in so many is also a step on text, which keeps what the core knows


class SeeJob:
    """Two kinds of pictures and a text batch a step; see `Job` in run.py for the attributes."""

    def __init__(
        self,
        model: Model,
        world: World,
        data_dir: Path,
        *,
        seq_len: int,
        rows: int,
        seed: int,
        workers: int | None = None,
    ) -> None:
        assert model.eyes is not None
        self.core, self.eyes, self.world = model.core, model.eyes, world
        self.atlas = Atlas.load(data_dir, world.device)
        self.cells = nn.Linear(model.core.config.hidden, self.atlas.count + 1).to(world.device)
        self.parts: dict[str, nn.Module] = {"core": model.core, "eyes": model.eyes, "cells": self.cells}
        self.trained: list[nn.Module] = [model.eyes, self.cells]
        self.gentle: list[nn.Module] = [model.core]
        self.average: Average | None = None
        self.glyphs = GlyphSheets.load(data_dir, world.device)
        self.place = model.tokenizer.id_of("<|image|>")
        self._loads_LE: Tensor | None = None
        self._known = torch.zeros((), device=world.device)
        compile_core(model.core, world.device)
        count = workers_for(world.size) if workers is None else workers
        share = max(1, count // 3) if count else 0

        def feeder(make, number: int) -> Feeder:  # noqa: ANN001 - a stream's constructor
            return Feeder(make, workers=share, seed=(seed + number) * 1000 + world.rank, device=world.device)

        # As many as in stage `text`, whose compiled shapes serve here too.
        text_rows = TEXT_ROWS if world.device.type != "cpu" else max(1, rows // 2)
        self.feeders = {
            "see": feeder(lambda n: iter(PictureStream(data_dir, "see", seed=n, rows=rows)), 1),
            "read": feeder(lambda n: iter(PictureStream(data_dir, "read", seed=n, rows=rows)), 2),
            "text": feeder(lambda n: iter(TextMixture(data_dir, seed=n, seq_len=seq_len, rows=text_rows)), 3),
        }

    def loss(self, step: int) -> dict[str, Tensor]:
        """Losses of the next batch of each kind."""
        see, read = self.feeders["see"].next(), self.feeders["read"].next()
        with autocast(self.world.device):
            with torch.no_grad():
                scene_B3HW = render_pictures(see, self.atlas, SIDE)
                page_B3HW = render_text(read, self.glyphs, SIDE)
                labels_BC = cell_labels(see["sprite"], see["place"], nothing=self.atlas.count)
            both_B3HW = torch.cat([scene_B3HW, page_B3HW])
            both = {name: torch.cat([see[name], read[name]]) for name in ("ids", "targets")}
            with eager():  # its shapes are not those of text, and compiling them takes as long as it saves
                features_BVD = self.eyes.sequence(both_B3HW)
                looked = look_loss(self.core, self.cells, features_BVD, both, labels_BC, self.place)
            loss = looked.see + looked.read + CELLS_WEIGHT * looked.cells + BALANCE_WEIGHT * looked.balance
            self._loads_LE = looked.loads_LE
            losses = {"loss": loss, "see": looked.see, "read": looked.read, "cells": looked.cells}
            if step % TEXT_EVERY == 0:
                known, balance, loads_LE = text_loss(self.core, self.feeders["text"].next())
                self._loads_LE = self._loads_LE + loads_LE
                self._known = known.detach()
                losses["loss"] = loss + known + BALANCE_WEIGHT * balance
        return {**losses, "text": self._known}

    def after_step(self, step: int) -> None:
        """Steer the router towards even loads."""
        assert self._loads_LE is not None
        self.core.update_router_bias(self.world.mean(self._loads_LE))

    def close(self) -> None:
        """Stop the data workers."""
        for feeder in self.feeders.values():
            feeder.close()


class Looked(NamedTuple):
    """Losses of a batch whose first half are scenes and whose second half are pages, and expert loads [L, E]."""

    see: Tensor
    read: Tensor
    cells: Tensor
    balance: Tensor
    loads_LE: Tensor


def look_loss(
    core: nn.Module,
    cells: nn.Module,
    features_BVD: Tensor,
    batch: dict[str, Tensor],
    labels_BC: Tensor,
    place: int,
) -> Looked:
    """Cross entropies of the answers to one picture a row, and of what is in the scenes' cells; scenes come first."""
    ids_BT, targets_BT = batch["ids"].long(), batch["targets"].long()
    embeds_BTD = core.embed(ids_BT)
    stop = PICTURE_START + features_BVD.shape[1]
    embeds_BTD = torch.cat(
        [embeds_BTD[:, :PICTURE_START], features_BVD.to(embeds_BTD.dtype), embeds_BTD[:, stop:]], dim=1
    )
    memory_BT = torch.where(ids_BT == place, -1, ids_BT)
    output = core(ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=memory_BT, logits=False)
    scenes = labels_BC.shape[0]
    # Every row of the grid ends in a newline, and the sequence in a separator; neither is a cell.
    grid_BCD = features_BVD[:scenes, :-1].unflatten(1, (GRID, GRID + 1))[:, :, :GRID].flatten(1, 2)
    in_cells = F.cross_entropy(cells(grid_BCD).float().flatten(0, 1), labels_BC.flatten())
    return Looked(
        see=core.loss(output.hidden_BTD[:scenes], targets_BT[:scenes]),
        read=core.loss(output.hidden_BTD[scenes:], targets_BT[scenes:]),
        cells=in_cells,
        balance=output.balance_loss,
        loads_LE=output.loads_LE,
    )


def cell_labels(sprite_BN: Tensor, place_BN4: Tensor, *, nothing: int) -> Tensor:
    """Which sprite covers the middle of each cell, [B, GRID * GRID]; the topmost one, or `nothing`."""
    middle = (torch.arange(GRID, device=sprite_BN.device) + 0.5) / GRID
    labels_BC = torch.full((sprite_BN.shape[0], GRID * GRID), nothing, device=sprite_BN.device)
    y_C, x_C = middle.repeat_interleave(GRID), middle.repeat(GRID)
    for actor in range(sprite_BN.shape[1]):
        x, y, size = (place_BN4[:, actor, part, None].float() for part in range(3))
        covers_BC = ((x_C - x).abs() < 0.42 * size) & ((y_C - y).abs() < 0.42 * size)
        covers_BC = covers_BC & (sprite_BN[:, actor, None] >= 0)
        labels_BC = torch.where(covers_BC, sprite_BN[:, actor, None].long(), labels_BC)
    return labels_BC
