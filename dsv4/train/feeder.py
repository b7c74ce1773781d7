"""Batches made by worker processes: numpy arrays through a bounded queue, moved to the device one batch ahead.

Workers are forked and touch numpy only, so they may live beside a device context in the parent.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, np.ndarray]


class Feeder:
    """Iterates over device batches of `make(seed)`, one independent stream a worker.

    `make` returns an endless iterator of dicts of arrays. With no workers the stream runs in this process, which is
    what tests use. A worker that dies is an error at the next batch, never a silent end.
    """

    def __init__(
        self, make: Callable[[int], Iterator[Batch]], *, workers: int, seed: int, device: torch.device, depth: int = 24
    ) -> None:
        self.device = device
        self._ahead: dict[str, Tensor] | None = None
        self._processes: list[Any] = []
        if workers == 0:
            self._stream: Iterator[Batch] | None = make(seed)
            return
        self._stream = None
        context = multiprocessing.get_context("fork")
        self._queue = context.Queue(depth)
        for number in range(workers):
            process = context.Process(target=_work, args=(make, seed * 10_007 + number, self._queue), daemon=True)
            process.start()
            self._processes.append(process)

    def next(self) -> dict[str, Tensor]:
        """The next batch on the device; the one after it is already on its way."""
        if self._ahead is None:
            self._ahead = self._fetch()
        batch, self._ahead = self._ahead, self._fetch()
        return batch

    def close(self) -> None:
        """Stop the workers."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(timeout=5)
        self._processes = []

    def _fetch(self) -> dict[str, Tensor]:
        arrays = next(self._stream) if self._stream is not None else self._take()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if self.device.type != "cuda":
            return {name: tensor.to(self.device) for name, tensor in tensors.items()}
        return {name: tensor.pin_memory().to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def _take(self) -> Batch:
        while True:
            try:
                return self._queue.get(timeout=10)
            except queue.Empty:
                dead = [process.exitcode for process in self._processes if not process.is_alive()]
                if dead:
                    raise RuntimeError(f"{len(dead)} data workers ended with exit codes {dead}") from None


def workers_for(world_size: int) -> int:
    """How many data workers one process of the run should start: its share of the cores but one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // world_size - 2)


def _work(make: Callable[[int], Iterator[Batch]], seed: int, out: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    for batch in make(seed):
        out.put(batch)
