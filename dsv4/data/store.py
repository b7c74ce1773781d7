"""Lists of unequal length in one compressed file: texts as joined UTF-8, token lists as one flat array with ends.

Shape letters: N entries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsv4.errors import InputError


class Ragged:
    """A read-only list of integer arrays kept as one flat array."""

    def __init__(self, flat: np.ndarray, ends_N: np.ndarray) -> None:
        self.flat = flat
        self.ends_N = ends_N.astype(np.int64)
        self.starts_N = np.concatenate([[0], self.ends_N[:-1]]).astype(np.int64) if len(ends_N) else self.ends_N

    def __len__(self) -> int:
        return len(self.ends_N)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.flat[self.starts_N[index] : self.ends_N[index]]

    @property
    def lengths_N(self) -> np.ndarray:
        """Length of every entry."""
        return self.ends_N - self.starts_N


def save_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns: arrays as they are, lists of str, and lists of id lists (all ids under 65,536)."""
    arrays: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            arrays[f"array.{name}"] = column
        elif column and not isinstance(column[0], str):
            arrays[f"ids.{name}"] = np.concatenate([np.asarray(ids, np.uint16) for ids in column])
            arrays[f"ends.{name}"] = np.cumsum([len(ids) for ids in column]).astype(np.int32)
        else:
            if any("\n" in text for text in column):
                raise ValueError(f"a text of column '{name}' holds a line break")
            joined = "\n".join(column).encode()
            arrays[f"text{len(column)}.{name}"] = np.frombuffer(joined, np.uint8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)


def load_table(path: Path) -> dict[str, Any]:
    """Read columns back: arrays, lists of str, and `Ragged` id lists. Raises InputError when the file is missing."""
    if not path.is_file():
        raise InputError(f"there is no '{path.name}' in '{path.parent}'; `dsv4 data build` writes it")
    columns: dict[str, Any] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, name = key.split(".", 1)
            if kind == "array":
                columns[name] = arrays[key]
            elif kind == "ids":
                columns[name] = Ragged(arrays[key], arrays[f"ends.{name}"])
            elif kind.startswith("text"):
                columns[name] = arrays[key].tobytes().decode().split("\n") if kind != "text0" else []
    return columns


def lengths(column: Sequence[Any] | Ragged) -> np.ndarray:
    """Length of every entry of a column."""
    return column.lengths_N if isinstance(column, Ragged) else np.array([len(entry) for entry in column])
