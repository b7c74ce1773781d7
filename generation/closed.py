"""Build frozen configs from dictionaries that may hold nothing unknown."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, TypeVar

T = TypeVar("T")


def from_closed_dict(cls: type[T], data: dict[str, Any]) -> T:
    """Make `cls` from `data`; an unknown key raises ValueError that names the nearest known one."""
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"unknown {cls.__name__} key '{key}'{hint} allowed: {', '.join(known)}")
    return cls(**data)


def require_positive(owner: str, **values: int | float) -> None:
    """Raise ValueError for the first value that is not above zero."""
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{owner}.{name} must be above zero, got {value}")
