"""The things of the closed world: their names, the aliases that are safe to teach, and their colour drawings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dsv4.data.language import is_shape

_RUDE = frozenset({"shit", "hankey", "fu", "harambe", "reversed hand with middle finger extended"})
_WORD = re.compile(r"[a-z][a-z'’ -]+")


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing: `index` is its place in the sheet of shaded pictures; `svg` is None when there is no flat drawing."""

    index: int
    name: str
    aliases: tuple[str, ...]
    svg: str | None


def read_things(rows: Iterable[Mapping[str, Any]]) -> list[Thing]:
    """All things; an alias stays when it is a word, belongs to one thing only and is no thing's or shape's name."""
    rows = list(rows)
    names = {row["name"] for row in rows}
    uses = Counter(alias for row in rows for alias in set(row["aliases"]))
    things = []
    for row in rows:
        aliases = tuple(
            alias
            for alias in row["aliases"]
            if uses[alias] == 1 and alias not in names and not is_shape(alias)
            and alias not in _RUDE and _WORD.fullmatch(alias)
        )  # fmt: skip
        things.append(Thing(index=row["index"], name=row["name"], aliases=aliases, svg=row["svg"]))
    return things


def scene_names(names: Iterable[str]) -> list[str]:
    """Names of things that may stand in scenes: those that read as a coloured shape are left to the shapes."""
    return [name for name in names if not is_shape(name)]
