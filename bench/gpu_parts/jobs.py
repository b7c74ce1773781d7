"""Every job by name, in order of value: what was never on a card before what was, its checks before its figures."""

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
    _job("ceilings", "card:ceilings", 6, 60),
    _job("check-replays", "check_newer:replays", 15, 90),
    _job("check-ranked", "check_newer:ranked", 2),
    _job("check-sorted", "check_newer:sorted_experts", 5),
    _job("check-site", "check_newer:site", 8),
    _job("check-row-kernels", "check_newer:row_kernels", 5),
    _job("replays", "run_newer:replays", 35, 120),
    _job("experts", "run_models:experts", 20),
    _job("site-kernels", "run_newer:site", 8),
    _job("training-kernels", "run_newer:training", 25),
    _job("rows", "run_memory:packed", 8),
    _job("replay-waits", "run_newer:waits", 15),
    _job("ranking", "run_newer:ranking", 4),
    _job("reading", "run_models:reading", 30),
    _job("training", "run_lanes:training", 25),
    _job("engram-wait", "run_memory:wait", 25, 120),
    _job("flex", "run_attention:flex", 60, 150),
    _job("training-compiled", "run_lanes:training_compiled", 60, 150),
    _job("site", "run_lanes:site", 15),
    _job("check-sparse", "check_ops:sparse", 12, 150),
    _job("check-scores", "check_ops:scores", 8, 120),
    _job("check-chosen", "check_ops:chosen", 2),
    _job("check-lanes", "check_ops:lanes", 5),
    _job("check-rows", "check_ops:rows", 2),
    _job("check-products", "check_ops:products", 1),
    _job("check-memory", "check_models:memory", 2),
    _job("check-homes", "check_models:homes", 2),
    _job("check-experts", "check_models:experts", 2),
    _job("check-cores", "check_models:cores", 8, 90),
    _job("check-hands", "check_models:hands", 3),
    _job("check-eyes", "check_models:eyes", 5),
    _job("decode", "run_attention:decode", 15),
    _job("prefill", "run_attention:prefill", 15),
    _job("indexer", "run_attention:indexer", 15),
    _job("sinkhorn", "run_lanes:kernel", 6),
    _job("eyes", "run_pictures:eyes", 25),
    _job("hands", "run_pictures:hands", 12),
    _job("tune", "run_attention:tune", 15, 120),
    _job("engram", "run_memory:gather", 40, 180),
)
JOBS: dict[str, Job] = {job.name: job for job in _ROWS}
