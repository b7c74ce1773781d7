"""Stage `see`: eyes and core learn to describe scenes, answer questions and read, while the core keeps seeing text.

Shape letters: B rows, T tokens, V vision tokens, D hidden size, C cells of a view, K kinds of things.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dsv4.data.atlas import Atlas
from dsv4.data.compose import render_pictures
from dsv4.data.glyphs import GlyphSheets, render_text
from dsv4.data.pictures import PictureStream
from dsv4.data.text import TextMixture
from dsv4.model import Model
from dsv4.train.feeder import Feeder, workers_for
from dsv4.train.optim import Average
from dsv4.train.precision import autocast, compiled
from dsv4.train.text_job import BALANCE_WEIGHT, text_loss
from dsv4.train.world import World

PICTURE_START = 2  # bos and user stand before the places of a picture
SIDE = 512  # Tiny mode's own pixels


class SeeJob:
    """Two kinds of pictures and a text batch a step; see `Job` in run.py for the attributes."""

    def __init__(
        self, model: Model, world: World, data_dir: Path, *, seq_len: int, rows: int, seed: int, workers: int | None = None
    ) -> None:
        assert model.eyes is not None
        self.core, self.eyes, self.world = model.core, model.eyes, world
        self.parts: dict[str, nn.Module] = {"core": model.core, "eyes": model.eyes}
        self.trained: list[nn.Module] = [model.core, model.eyes]
        self.average: Average | None = None
        self.atlas = Atlas.load(data_dir, world.device)
        self.glyphs = GlyphSheets.load(data_dir, world.device)
        self.place = model.tokenizer.id_of("<|image|>")
        self._loads_LE: Tensor | None = None
        self._scene = compiled(lambda batch: render_pictures(batch, self.atlas, SIDE), world.device)
        self._page = compiled(lambda batch: render_text(batch, self.glyphs, SIDE), world.device)
        self._look = compiled(look_loss, world.device)
        self._text = compiled(text_loss, world.device)
        count = workers_for(world.size) if workers is None else workers
        share = max(1, count // 3) if count else 0

        def feeder(make, number: int) -> Feeder:  # noqa: ANN001 - a stream's constructor
            return Feeder(make, workers=share, seed=(seed + number) * 1000 + world.rank, device=world.device)

        text_rows = max(1, rows // 4)
        self.feeders = {
            "see": feeder(lambda n: iter(PictureStream(data_dir, "see", seed=n, rows=rows)), 1),
            "read": feeder(lambda n: iter(PictureStream(data_dir, "read", seed=n, rows=rows)), 2),
            "text": feeder(lambda n: iter(TextMixture(data_dir, seed=n, seq_len=seq_len, rows=text_rows)), 3),
        }

    def loss(self, step: int) -> dict[str, Tensor]:
        """Losses of the next batch of each kind."""
        see, read, text = (self.feeders[name].next() for name in ("see", "read", "text"))
        with autocast(self.world.device):
            with torch.no_grad():
                scene_B3HW, page_B3HW = self._scene(see), self._page(read)
            seen, balance, loads_LE = self._look(self.core, self.eyes, scene_B3HW, see, self.place)
            read_loss, balance_read, loads_read_LE = self._look(self.core, self.eyes, page_B3HW, read, self.place)
            known, balance_text, loads_text_LE = self._text(self.core, text)
        self._loads_LE = loads_LE + loads_read_LE + loads_text_LE
        loss = seen + read_loss + 0.5 * known + BALANCE_WEIGHT * (balance + balance_read + balance_text)
        return {"loss": loss, "see": seen, "read": read_loss, "text": known}

    def after_step(self, step: int) -> None:
        """Steer the router towards even loads."""
        assert self._loads_LE is not None
        self.core.update_router_bias(self.world.mean(self._loads_LE))

    def close(self) -> None:
        """Stop the data workers."""
        for feeder in self.feeders.values():
            feeder.close()


def look_loss(
    core: nn.Module, eyes: nn.Module, pixels_B3HW: Tensor, batch: dict[str, Tensor], place: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross entropy of the answers to one picture a row, the balance loss, and expert loads [L, E]."""
    ids_BT = batch["ids"].long()
    features_BVD = eyes.sequence(pixels_B3HW)
    embeds_BTD = core.embed(ids_BT)
    stop = PICTURE_START + features_BVD.shape[1]
    embeds_BTD = torch.cat(
        [embeds_BTD[:, :PICTURE_START], features_BVD.to(embeds_BTD.dtype), embeds_BTD[:, stop:]], dim=1
    )
    memory_BT = torch.where(ids_BT == place, -1, ids_BT)
    output = core(ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=memory_BT, logits=False)
    return core.loss(output.hidden_BTD, batch["targets"].long()), output.balance_loss, output.loads_LE
