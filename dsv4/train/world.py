"""The devices of one training run: which one is ours, how many there are, and gradients averaged over them.

One process a device, started by torchrun; a run without it is a world of one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dsv4.errors import InputError


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank, size and device of this process."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def average(self, flat: Tensor) -> None:
        """Replace a tensor by its mean over the world, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(flat)
            flat /= self.size

    def mean(self, value: Tensor) -> Tensor:
        """The mean of `value` over the world, as a new tensor."""
        if self.size == 1:
            return value
        total = value.detach().clone().float()
        torch.distributed.all_reduce(total)
        return total / self.size

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give every process rank 0's values."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor.detach(), 0)

    def agree(self, value: float) -> float:
        """Rank 0's value, on every process."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(box, 0)
        return float(box.item())

    def own_stream(self) -> contextlib.AbstractContextManager[object]:
        """On CUDA a stream for everything within, which the default stream waits for; elsewhere nothing."""
        return _own_stream(self.device) if self.device.type == "cuda" else contextlib.nullcontext()

    def close(self) -> None:
        """Leave the process group."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def join_world(device: str) -> World:
    """Join the run that torchrun started, or make a world of one on `device` (auto, cpu, cuda, mps, ...).

    Raises InputError for a device that is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = found.type if found is not None else "cpu"
    if size == 1:
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's own differ by how it was built
            told = str(error).strip().split("\n")[0]
            raise InputError(f"--device: there is no '{device}' here ({told}); cpu always is") from error
        return World(rank=0, size=1, device=torch.device(device))
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return World(rank=rank, size=size, device=torch.device(device, local) if device == "cuda" else torch.device(device))


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    stream, outer = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
    outer.wait_stream(stream)
