"""Every job by name, in order of value: checks first, then what an hour on a card is for, long compilations last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.gpu_parts.book import Book
    from bench.gpu_parts.card import Card


@dataclass(frozen=True, kw_only=True)
class Job:
    """`usual`: seconds that it is expected to take; it is begun only while these are left. `most`: when it is ended."""

    name: str
    place: str
    usual: int
    most: int = 90

    def run(self, card: Card, book: Book) -> None:
        """Do it."""
        module, _, function = self.place.partition(":")
        work: Callable[[Card, Book], None] = getattr(import_module(f"bench.gpu_parts.{module}"), function)
        work(card, book)


def _job(name: str, place: str, usual: int, most: int = 90) -> Job:
    return Job(name=name, place=place, usual=usual, most=most)


_ROWS = (
    _job("ceilings", "card:ceilings", 8, 60),
    _job("check-sparse", "check_ops:sparse", 30, 150),
    _job("check-scores", "check_ops:scores", 15, 120),
    _job("check-chosen", "check_ops:chosen", 3),
    _job("check-lanes", "check_ops:lanes", 8),
    _job("check-rows", "check_ops:rows", 3),
    _job("check-products", "check_ops:products", 2),
    _job("check-memory", "check_models:memory", 3),
    _job("check-homes", "check_models:homes", 3),
    _job("check-experts", "check_models:experts", 3),
    _job("check-cores", "check_models:cores", 15, 90),
    _job("check-hands", "check_models:hands", 5),
    _job("check-eyes", "check_models:eyes", 15),
    _job("decode", "run_attention:decode", 25),
    _job("prefill", "run_attention:prefill", 25),
    _job("indexer", "run_attention:indexer", 25),
    _job("sinkhorn", "run_lanes:kernel", 6),
    _job("rows", "run_memory:packed", 5),
    _job("experts", "run_models:experts", 12),
    _job("reading", "run_models:reading", 30),
    _job("training", "run_lanes:training", 30),
    _job("eyes", "run_pictures:eyes", 30),
    _job("hands", "run_pictures:hands", 15),
    _job("engram-wait", "run_memory:wait", 30, 120),
    _job("engram", "run_memory:gather", 40, 180),
    _job("flex", "run_attention:flex", 60, 180),
    _job("tune", "run_attention:tune", 30, 120),
    _job("site", "run_lanes:site", 20),
    _job("training-compiled", "run_lanes:training_compiled", 60, 240),
)
JOBS: dict[str, Job] = {job.name: job for job in _ROWS}
