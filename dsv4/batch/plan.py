"""Which rows are made together: a function of the input alone, so that a restart groups them as before.

That is what makes an interrupted run end in the same bytes: products of several rows at once round differently in
their last digit from products of one, so a row must always meet the same neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

# How many rows share a pass, by task. Answers and drawings gain most; a clip fills the machine by itself.
TOGETHER = {"chat": 32, "svg": 32, "image": 8, "video": 1, "read": 1, "fault": 64}


def groups(kinds: Iterable[tuple[Any, ...]], *, size: int | None = None) -> Iterator[tuple[int, ...]]:
    """Places of rows of one kind, at most `size` of them (by default as TOGETHER says), each group once it is full."""
    waiting: dict[tuple[Any, ...], list[int]] = {}
    for place, kind in enumerate(kinds):
        group = waiting.setdefault(kind, [])
        group.append(place)
        if len(group) >= (TOGETHER[kind[0]] if size is None else size):
            yield tuple(waiting.pop(kind))
    yield from sorted(tuple(group) for group in waiting.values())


def seed_of(seed: int, name: str) -> int:
    """The seed of a row that names none: from the seed of the batch and the row's id."""
    digest = hashlib.sha256(f"{seed}|{name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
