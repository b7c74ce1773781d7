"""Stage `text`: the core learns icons, drawings, definitions, facts and the caption language from packed documents.

Shape letters: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from dsv4.data.text import TextMixture
from dsv4.model import Model
from dsv4.train.feeder import Feeder, workers_for
from dsv4.train.optim import Average
from dsv4.train.precision import autocast, compile_core, eager
from dsv4.train.step import Batch
from dsv4.train.world import World

BALANCE_WEIGHT = 1e-3


def text_loss(core: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Cross entropy over the learnt places, the balance loss, and expert loads [L, E] of one packed batch."""
    output = core(
        batch["ids"].long(), positions_BT=batch["positions"].long(), segments_BT=batch["segments"].long(), logits=False
    )
    return core.loss(output.hidden_BTD, batch["targets"].long()), output.balance_loss, output.loads_LE


class TextJob:
    """Packed text batches through the core; see `Job` in run.py for the attributes."""

    def __init__(
        self,
        model: Model,
        world: World,
        data_dir: Path,
        *,
        rows: int,
        seq_len: int,
        seed: int,
        workers: int | None = None,
        mix: Mapping[str, float] | None = None,
    ) -> None:
        self.core, self.world = model.core, world
        self.parts: dict[str, nn.Module] = {"core": model.core}
        self.trained: list[nn.Module] = [model.core]
        self.gentle: list[nn.Module] = []
        self.average: Average | None = None
        compile_core(model.core.train(), world.device)
        self.feeder = Feeder(
            lambda number: iter(TextMixture(data_dir, seed=number, seq_len=seq_len, rows=rows, mix=mix)),
            workers=workers_for(world.size) if workers is None else workers,
            seed=seed * 1000 + world.rank,
            device=world.device,
        )

    def kind(self, step: int) -> str:
        """All steps are alike."""
        return "text"

    def rests(self, kind: str) -> bool:
        """Every step teaches all that is trained."""
        return False

    def batch(self, kind: str) -> Batch:
        """The next packed rows."""
        return self.feeder.next()

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch, and the loads of the experts."""
        with autocast(self.world.device):
            text, balance, loads_LE = text_loss(self.core, batch)
        return {"loss": text + BALANCE_WEIGHT * balance, "text": text, "balance": balance, "loads": loads_LE}

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Steer the router towards even loads."""
        self.core.update_router_bias(self.world.mean(losses["loads"]))

    def close(self) -> None:
        """Stop the data workers."""
        self.feeder.close()


def index_loss(core: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """How far the indexers' scores are from what attention looks at, as a KL divergence; only indexers learn."""
    output = core(
        batch["ids"].long(),
        positions_BT=batch["positions"].long(),
        segments_BT=batch["segments"].long(),
        index_loss=True,
        logits=False,
    )
    return output.index_loss


class IndexJob(TextJob):
    """Stage `index`: the lightning indexers learn to find what dense attention finds (DSA's warm-up stage)."""

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """The KL divergence of a batch."""
        with autocast(self.world.device), eager():  # its tiles have many shapes
            loss = index_loss(self.core, batch)
        return {"loss": loss, "index": loss}

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """The router is not trained here."""
