"""Stage `see`: eyes and core learn to describe scenes, answer questions and read; most steps are on text all the same.

Shape letters: B rows, T tokens, V vision tokens, D hidden size, C cells of a view, K kinds of things.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsv4.data.atlas import Atlas
from dsv4.data.compose import render_pictures
from dsv4.data.glyphs import GlyphSheets, render_text
from dsv4.data.glyphs_layout import NO_LETTER, PATCH
from dsv4.data.pictures import PictureStream
from dsv4.data.text import TextMixture
from dsv4.model import Model
from dsv4.train.feeder import Feeder, workers_for
from dsv4.train.optim import Average
from dsv4.train.precision import autocast, compile_core, compile_eyes
from dsv4.train.step import Batch
from dsv4.train.text_job import BALANCE_WEIGHT, text_loss
from dsv4.train.world import World

PICTURE_START = 2  # bos and user stand before the places of a picture
SIDE = 512  # Tiny mode's own pixels
GRID = 8  # cells a side in Tiny mode
INSIDE = SIDE // GRID // PATCH  # patches a side of a cell
TEXT_ROWS = 64
CELLS_WEIGHT = 0.2
LETTERS_WEIGHT = 0.5
EMPTY_WEIGHT = 0.1  # of a patch without a letter; most are
INK_ROWS = (8, 72)  # of a strip's 80: where letters are
TEXT_WEIGHT = 3.0  # its gradients in the core are a few times shorter than those of pictures
ASKED = {"asked": 1.0}
LOOK_EVERY = 2  # one step in so many is on pictures, the others on text: whatever comes last pushes out the rest
SCENES = 0.4  # of the pictures; pages take longer to learn


class SeeJob:
    """Scenes and pages together, or text, a step; see `Job` in run.py for the attributes. Twice `rows` pictures."""

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
        self.glyphs = GlyphSheets.load(data_dir, world.device)
        hidden = model.core.config.hidden
        with torch.random.fork_rng(devices=[]):  # the same however often the stage is set up
            torch.manual_seed(seed)
            self.cells = nn.Linear(hidden, self.atlas.count + 1).to(world.device)
            self.letters = nn.Linear(hidden, INSIDE**2 * (NO_LETTER + 1)).to(world.device)
        self.parts: dict[str, nn.Module] = {
            "core": model.core, "eyes": model.eyes, "cells": self.cells, "letters": self.letters,
        }  # fmt: skip
        self.trained: list[nn.Module] = [model.eyes, self.cells, self.letters]
        self.gentle: list[nn.Module] = [model.core]
        self.average: Average | None = None
        self.place = model.tokenizer.id_of("<|image|>")
        compile_core(model.core.train(), world.device)
        compile_eyes(model.eyes, world.device)
        count = workers_for(world.size) if workers is None else workers
        share = max(1, count // 4) if count else 0

        def feeder(make, number: int) -> Feeder:  # noqa: ANN001 - a stream's constructor
            return Feeder(make, workers=share, seed=(seed + number) * 1000 + world.rank, device=world.device)

        def texts(number: int, mix: Mapping[str, float] | None = None) -> Feeder:
            return feeder(
                lambda n: iter(TextMixture(data_dir, seed=n, seq_len=seq_len, rows=text_rows, mix=mix)), number
            )

        # As many as in stage `text`, whose compiled shapes serve here too.
        text_rows = TEXT_ROWS if world.device.type != "cpu" else max(1, rows // 2)
        scenes = max(1, round(2 * rows * SCENES))
        self.feeders = {
            "see": feeder(lambda n: iter(PictureStream(data_dir, "see", seed=n, rows=scenes)), 1),
            "read": feeder(lambda n: iter(PictureStream(data_dir, "read", seed=n, rows=2 * rows - scenes)), 2),
            "text": texts(3),
        }
        self._texts = texts

    def kind(self, step: int) -> str:
        """Mostly text, pictures in between."""
        return "text" if step % LOOK_EVERY else "look"

    def rests(self, kind: str) -> bool:
        """The eyes stay as they are on text, where Muon would go on along what pictures last said."""
        return kind == "text"

    def batch(self, kind: str) -> Batch:
        """The next text rows, or scenes and pages together: `see …` and `read …`."""
        if kind in ("text", "ask"):
            return self.feeders[kind].next()
        found = {name: self.feeders[name].next() for name in ("see", "read")}
        return {f"{name} {key}": value for name, batch in found.items() for key, value in batch.items()}

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch of its kind, and the loads of the experts."""
        with autocast(self.world.device):
            if kind in ("text", "ask"):
                text, balance, loads_LE = text_loss(self.core, batch)
                return {"loss": TEXT_WEIGHT * (text + BALANCE_WEIGHT * balance), kind: text, "loads": loads_LE}
            see, read = (_of(batch, name) for name in ("see", "read"))
            with torch.no_grad():
                scene_B3HW = render_pictures(see, self.atlas, SIDE)
                page_B3HW = render_text(read, self.glyphs, SIDE)
                labels_BC = cell_labels(see["sprite"], see["place"], nothing=self.atlas.count)
                letters_BYX = letter_labels(read["letters"], read["line"], read["row"])
            both = {name: torch.cat([see[name], read[name]]) for name in ("ids", "targets")}
            features_BVD = self.eyes.sequence(torch.cat([scene_B3HW, page_B3HW]))
            looked = look_loss(self.core, features_BVD, both, self.place, scenes=labels_BC.shape[0])
            # Every row of the grid ends in a newline, and the sequence in a separator; neither is a cell.
            grid_BHWD = features_BVD[:, :-1].unflatten(1, (GRID, GRID + 1))[:, :, :GRID]
            scene_BHWD, page_BHWD = grid_BHWD.tensor_split([labels_BC.shape[0]])
            cells = F.cross_entropy(self.cells(scene_BHWD).float().flatten(0, 2), labels_BC.flatten())
            letters = letters_loss(self.letters(page_BHWD), letters_BYX)
        loss = looked.see + looked.read + CELLS_WEIGHT * cells + LETTERS_WEIGHT * letters
        named = {"see": looked.see, "read": looked.read, "cells": cells, "letters": letters}
        return {"loss": loss + BALANCE_WEIGHT * looked.balance, **named, "loads": looked.loads_LE}

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Steer the router towards even loads."""
        self.core.update_router_bias(self.world.mean(losses["loads"]))

    def close(self) -> None:
        """Stop the data workers."""
        for feeder in self.feeders.values():
            feeder.close()


class AskJob(SeeJob):
    """Stage `ask`: the core learns to answer out of what it has described, and goes on with all else; eyes stay.

    In a stream of all kinds the one word that an answer turns on is lost among thousands; here it has steps of its own.
    """

    def __init__(self, model: Model, world: World, data_dir: Path, **options: Any) -> None:
        super().__init__(model, world, data_dir, **options)
        self.parts = {"core": model.core}
        self.trained, self.gentle = [model.core], []
        self.feeders["ask"] = self._texts(4, ASKED)

    def kind(self, step: int) -> str:
        """Half the steps on text, the others on questions and on pictures in turn."""
        return ("look", "text", "ask", "text")[step % 4]

    def rests(self, kind: str) -> bool:
        """The core learns in every step."""
        return False

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch of its kind, those of cells and letters left out, and the loads of the experts."""
        if kind != "look":
            return super().loss(kind, batch)
        with autocast(self.world.device):
            see, read = (_of(batch, name) for name in ("see", "read"))
            with torch.no_grad():
                scene_B3HW = render_pictures(see, self.atlas, SIDE)
                features_BVD = self.eyes.sequence(torch.cat([scene_B3HW, render_text(read, self.glyphs, SIDE)]))
            both = {name: torch.cat([see[name], read[name]]) for name in ("ids", "targets")}
            looked = look_loss(self.core, features_BVD, both, self.place, scenes=scene_B3HW.shape[0])
        loss = looked.see + looked.read + BALANCE_WEIGHT * looked.balance
        return {"loss": loss, "see": looked.see, "read": looked.read, "loads": looked.loads_LE}


def _of(batch: Batch, name: str) -> Batch:
    return {key.removeprefix(f"{name} "): value for key, value in batch.items() if key.startswith(f"{name} ")}


class Looked(NamedTuple):
    """Losses of a batch whose first rows are scenes and whose others are pages, and expert loads [L, E]."""

    see: Tensor
    read: Tensor
    balance: Tensor
    loads_LE: Tensor


def look_loss(core: nn.Module, features_BVD: Tensor, batch: Batch, place: int, *, scenes: int) -> Looked:
    """Cross entropies of the answers to one picture a row; the first `scenes` rows are scenes."""
    ids_BT, targets_BT = batch["ids"].long(), batch["targets"].long()
    embeds_BTD = core.embed(ids_BT)
    stop = PICTURE_START + features_BVD.shape[1]
    embeds_BTD = torch.cat(
        [embeds_BTD[:, :PICTURE_START], features_BVD.to(embeds_BTD.dtype), embeds_BTD[:, stop:]], dim=1
    )
    memory_BT = torch.where(ids_BT == place, -1, ids_BT)
    output = core(ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=memory_BT, logits=False)
    return Looked(
        see=core.loss(output.hidden_BTD[:scenes], targets_BT[:scenes]),
        read=core.loss(output.hidden_BTD[scenes:], targets_BT[scenes:]),
        balance=output.balance_loss,
        loads_LE=output.loads_LE,
    )


def letters_loss(scores_BHWS: Tensor, letters_BYX: Tensor) -> Tensor:
    """Cross entropy of the letter over the middle of each patch, told from the vision token of its cell.

    scores_BHWS: for each of H x W cells, NO_LETTER + 1 scores for each of its INSIDE x INSIDE patches, row by row;
    letters_BYX: what stands over each patch of the whole page. Patches without a letter count EMPTY_WEIGHT of others.
    """
    scores = scores_BHWS.float().unflatten(-1, (INSIDE, INSIDE, NO_LETTER + 1))
    cut_BHWYX = letters_BYX.unflatten(2, (GRID, INSIDE)).unflatten(1, (GRID, INSIDE)).transpose(2, 3)
    weight = 1 - (1 - EMPTY_WEIGHT) * (torch.arange(NO_LETTER + 1, device=scores.device) == NO_LETTER).float()
    return F.cross_entropy(scores.flatten(0, 4), cut_BHWYX.flatten(), weight=weight)


def letter_labels(letters_BLX: Tensor, line_BY: Tensor, row_BY: Tensor) -> Tensor:
    """Which character stands over the middle of each patch of a page, [B, Y, X]; NO_LETTER where none does."""
    line_BY, row_BY = line_BY[:, PATCH // 2 :: PATCH].long(), row_BY[:, PATCH // 2 :: PATCH]
    inked_BY = (row_BY >= INK_ROWS[0]) & (row_BY < INK_ROWS[1])
    found_BYX = letters_BLX.long().gather(1, line_BY[:, :, None].expand(-1, -1, letters_BLX.shape[-1]))
    return torch.where(inked_BY[:, :, None], found_BYX, NO_LETTER)


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
