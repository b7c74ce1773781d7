"""Groups of rows on several processes of this machine, each with a model of its own.

A worker that dies is replaced and its rows are tried once more, one by one; what kills its worker each time becomes an
error line. Workers end by themselves when the process that started them is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from dsv4.batch.reading import fingerprint_of
from dsv4.batch.row import Job
from dsv4.batch.work import TRIES, Outcome, lost, make_group
from dsv4.errors import InputError

READY = "ready"  # what a worker says once it has its model


class Item(NamedTuple):
    """Rows to be made together, with their places, and how often each was tried before."""

    group: list[tuple[int, Job]]
    before: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker needs to know: the model by name, its fingerprint, the batch's seed, and its threads."""

    model: str
    fingerprint: str
    seed: int | None
    threads: int = 1


class Worker:
    """What runs in another process: loads the model once, then makes groups."""

    def __init__(self, setup: Setup) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(setup.threads))
        import dsv4

        self.setup, self.studio = setup, dsv4.load(setup.model)
        if fingerprint_of(self.studio) != setup.fingerprint:
            raise InputError(f"the model '{setup.model}' has other weights in a worker than here")
        if hasattr(self.studio, "together"):
            import torch

            torch.set_num_threads(setup.threads)

    def make(self, item: Item) -> list[Outcome]:
        """Make the rows of one group."""
        return make_group(self.studio, item.group, seed=self.setup.seed, before=item.before)


def run_on_processes(items: Iterator[Item], setup: Setup, *, workers: int) -> Generator[list[Outcome], None, None]:
    """Yield the outcomes of each group as it is done, not in order.

    Raises what stops a batch: OSError from a full disk, InputError from a model that does not load.
    """
    crew = [_Hand(setup) for _ in range(workers)]
    again: deque[tuple[Item, int]] = deque()  # rows whose worker died, alone, and how often it did
    try:
        while True:
            for hand in crew:
                if hand.item is None and (given := _next(items, again)) is not None:
                    hand.give(*given)
            busy = [hand for hand in crew if hand.item is not None]
            if not busy:
                return
            ready = set(wait([hand.connection for hand in busy]))
            for hand in busy:
                if hand.connection not in ready:
                    continue
                found = hand.take()
                if isinstance(found, Exception):
                    raise found
                if found is not None:
                    yield found
                    continue
                item, deaths = hand.replace()
                if deaths >= TRIES:
                    yield [lost(*row, item.before.get(row[0], 0) + deaths) for row in item.group]
                else:
                    counted = deaths if len(item.group) == 1 else 0  # of several nobody knows whose fault it was
                    again.extend((Item([row], item.before), counted) for row in item.group)
    finally:
        for hand in crew:
            hand.end()


def _next(items: Iterator[Item], again: deque[tuple[Item, int]]) -> tuple[Item, int] | None:
    if again:
        return again.popleft()
    item = next(items, None)
    return None if item is None else (item, 0)


def _serve(connection: Connection, setup: Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the driver decides what it means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    answer: Any = READY
    try:
        worker = Worker(setup)
    except Exception as error:
        worker, answer = None, error
    while True:
        try:
            connection.send(answer)
            item = connection.recv()
        except (EOFError, OSError):
            return  # the driver is gone
        if worker is None:
            continue
        try:
            answer = worker.make(item)
        except Exception as error:
            answer = error


class _Hand:
    """One worker process as its driver sees it, and the rows that it is at."""

    target = staticmethod(_serve)

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.item: Item | None = None
        self.deaths = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far = context.Pipe()
        self.process: BaseProcess = context.Process(target=self.target, args=(far, self.setup), daemon=True)
        self.process.start()
        self.started = False
        far.close()  # only the worker holds it now, so that its death is the end of the stream here

    def give(self, item: Item, deaths: int) -> None:
        """Send rows over."""
        self.item, self.deaths = item, deaths
        try:
            self.connection.send(item)
        except OSError:
            pass  # it died meanwhile: `take` will say so

    def take(self) -> list[Outcome] | Exception | None:
        """What came back; None when the worker died over its rows. Before it had its model, that is no row's fault."""
        try:
            found = self.connection.recv()
            if found == READY:
                self.started = True
                found = self.connection.recv()
        except (EOFError, OSError):
            if self.started:
                return None
            return OSError("a worker of the batch could not start; can the program that runs it be imported anew?")
        self.item = None
        return found

    def replace(self) -> tuple[Item, int]:
        """A new worker in place of the dead one; returns the rows that are left over, and how often that happened."""
        assert self.item is not None
        item, self.item = self.item, None
        self.end()
        self._start()
        return item, self.deaths + 1

    def end(self) -> None:
        """Stop the worker, whatever it does."""
        self.connection.close()
        self.process.kill()
        self.process.join()
