"""The dated tables behind the plan: hardware, prices, and the sizes of released models, read from assets."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Any

from dsv4._parts import asset

TABLES = ("hardware", "prices", "family")


@cache
def table(name: str) -> dict[str, Any]:
    """One of TABLES as plain dictionaries; every row says its `source` and the table says when it was `dated`."""
    import yaml

    with open(asset(f"{name}.yaml"), encoding="utf-8") as file:
        return yaml.safe_load(file)


def age_in_days(name: str, today: datetime.date | None = None) -> int:
    """How old a table is."""
    return ((today or datetime.date.today()) - table(name)["dated"]).days
