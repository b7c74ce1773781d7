"""One training step: gradients of a batch in one flat vector, averaged over the world, then the optimisers' turn.

On CUDA both halves are captured as graphs after a few ordinary steps and replayed from then on: nano's step is hundreds
of short kernels, and launching them one by one takes longer than running them.
Source: CUDA graphs as in torch.cuda.graph; a step's shapes depend on its kind alone, so there is one graph a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from dsv4.train.world import World

Batch = dict[str, Tensor]
WARM_STEPS = 3  # ordinary steps of a kind before it is captured: they compile, and make the optimisers' state


class Gradients:
    """The gradients of all parameters as views of one vector: one transfer over the world, one norm."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        first = self.parameters[0]
        self.flat = torch.zeros(sum(p.numel() for p in self.parameters), dtype=first.dtype, device=first.device)
        start = 0
        for parameter in self.parameters:
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def clear(self) -> None:
        """Set all to zero, keeping the views."""
        self.flat.zero_()

    def clip(self, longest: float) -> None:
        """Shorten the whole vector to `longest` where it is longer."""
        self.flat *= (longest / (self.flat.norm() + 1e-6)).clamp(max=1.0)


class Loss(Protocol):
    """Losses of one batch by name; `loss` is the one that is minimised."""

    def __call__(self, kind: str, batch: Batch) -> dict[str, Tensor]: ...


class Stepper:
    """Runs steps one after another, each operation as it comes; the reference for `Replayer`.

    Raises ValueError for a batch that is not like the first of its kind, on every device: a captured step reads what
    lies at the places of that first one.
    """

    def __init__(
        self, loss: Loss, gradients: Gradients, optimizers: list[torch.optim.Optimizer], world: World, *, clip: float
    ) -> None:
        self.loss, self.gradients, self.optimizers, self.world, self.clip = loss, gradients, optimizers, world, clip
        self._first: dict[str, dict[str, str]] = {}

    def run(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch; its losses, detached."""
        self.check(kind, batch)
        losses = self.differentiate(kind, batch)
        self.world.average(self.gradients.flat)
        self.improve()
        return losses

    def check(self, kind: str, batch: Batch) -> None:
        """Hold a batch to the names, shapes, formats and devices of the first of its kind."""
        found = {name: f"{value.dtype} {tuple(value.shape)} on {value.device}" for name, value in batch.items()}
        first = self._first.setdefault(kind, found)
        for name in first.keys() | found.keys():
            was, now = first.get(name, "not there"), found.get(name, "not there")
            if was != now:
                raise ValueError(
                    f"batches of kind '{kind}' must all be alike, for their step is captured once: '{name}' was {was} "
                    f"and is {now}; pad it, or give it a kind of its own"
                )

    def differentiate(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch, and their gradients in `gradients`."""
        self.gradients.clear()
        losses = self.loss(kind, batch)
        losses["loss"].backward()
        return {name: value.detach() for name, value in losses.items()}

    def improve(self) -> None:
        """Clip, and let every optimiser step."""
        self.gradients.clip(self.clip)
        for optimizer in self.optimizers:
            optimizer.step()


class Replayer(Stepper):
    """The same steps as CUDA graphs: one for the gradients of each kind, one for the optimisers.

    Everything runs on one stream of its own, since graphs cannot be captured on the default one. The returned losses
    are overwritten by later steps.
    """

    def __init__(
        self, loss: Loss, gradients: Gradients, optimizers: list[torch.optim.Optimizer], world: World, *, clip: float
    ) -> None:
        super().__init__(loss, gradients, optimizers, world, clip=clip)
        self._taken: dict[str, int] = {}
        self._graphs: dict[str, tuple[torch.cuda.CUDAGraph, Batch, dict[str, Tensor]]] = {}
        self._improve: torch.cuda.CUDAGraph | None = None
        # Kinds may share memory, since only one is at work at a time; the optimisers run before its losses are read.
        self._pool, self._improve_pool = torch.cuda.graph_pool_handle(), torch.cuda.graph_pool_handle()

    def run(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch; its losses, detached."""
        self.check(kind, batch)
        self._taken[kind] = self._taken.get(kind, 0) + 1
        if self._taken[kind] <= WARM_STEPS:
            return super().run(kind, batch)
        if kind not in self._graphs:
            self._graphs[kind] = self._captured(kind, batch)
        graph, inputs, losses = self._graphs[kind]
        for name, value in batch.items():
            inputs[name].copy_(value, non_blocking=True)
        graph.replay()
        self.world.average(self.gradients.flat)
        if self._improve is None:
            self._improve, _ = self._capture(self.improve, self._improve_pool)
        self._improve.replay()
        return losses

    def _captured(self, kind: str, batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch, dict[str, Tensor]]:
        inputs = {name: value.clone() for name, value in batch.items()}
        graph, losses = self._capture(lambda: self.differentiate(kind, inputs), self._pool)
        return graph, inputs, losses

    def _capture(self, work: Callable[[], Any], pool: Any) -> tuple[torch.cuda.CUDAGraph, Any]:
        graph = torch.cuda.CUDAGraph()
        # Other threads (of the transfers between cards) may ask about events while this one captures.
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            result = work()
        return graph, result


def make_stepper(
    loss: Loss, gradients: Gradients, optimizers: list[torch.optim.Optimizer], world: World, *, clip: float
) -> Stepper:
    """Graphs on CUDA, ordinary steps elsewhere."""
    made = Replayer if world.device.type == "cuda" else Stepper
    return made(loss, gradients, optimizers, world, clip=clip)
