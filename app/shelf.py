"""Which models can be chosen: the one that is there from the start, others of ours, and real weights of others.

The server knows names and what each can make; the model's process loads them, the others when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dsv4
from dsv4.errors import InputError, unknown

from . import presets

ALIASES = ("", "nano", "dsv4")  # names by which programs mean whatever is there, unless a model is called so


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One model. `factory` can be pickled; `kinds` are the jobs it can do, () where only loading it tells."""

    name: str
    factory: Callable[[], Any]
    about: str = ""
    kinds: tuple[str, ...] = ()
    preset: bool = False


def choices(models: Sequence[str], weights: Path | None = None) -> tuple[Choice, ...]:
    """The models that are named (names, folders, addresses) and the presets whose weights lie in `weights`.

    Raises InputError for a folder that is none, and for two models of one name.
    """
    found = [Choice(name=_called(one), factory=partial(dsv4.load, one), about=_about(one)) for one in models]
    found += [
        Choice(
            name=one.name,
            factory=partial(presets.PresetStudio, one.name, str(one.folder)),
            about=one.row.repo,
            kinds=(one.row.kind,),
            preset=True,
        )
        for one in presets.shelf(weights)
        if one.here and one.folder is not None
    ]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two models are called '{min(twice)}'; rename one of the folders")
    return tuple(found)


class Shelf:
    """The models of a house by name; the default is not among `others`."""

    def __init__(self, default: Callable[[], str], others: Sequence[Choice] = ()) -> None:
        """`default` tells the name of the model that is there from the start, which it tells itself once loaded."""
        self._default = default
        self.others = {one.name: one for one in others}

    @property
    def names(self) -> list[str]:
        """All names, the default's first."""
        here = self._default()
        return [here, *(name for name in self.others if name != here)]

    def find(self, name: str | None) -> Choice | None:
        """One of the others, or None for the default; raises InputError that names the nearest."""
        if not name or name == self._default():
            return None
        if name in self.others:
            return self.others[name]
        if name in ALIASES:
            return None
        raise unknown("model", name[:80], self.names)


def _called(model: str) -> str:
    if model in ("nano", "echo") or "://" in model:
        return model
    folder = Path(model)
    if not folder.is_dir():
        raise unknown("model", model, ["nano", "echo", "a folder of weights", "an address"])
    return folder.resolve().name


def _about(model: str) -> str:
    return {"nano": "shipped with the studio", "echo": "no weights: repeats what it is asked"}.get(model, model)
