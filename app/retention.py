"""What is let go of after a time, or beyond a size; nothing is unless the server was started with such a limit.

What has a star stays, and so does whatever a conversation that stays has shown.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .house import House

DAY = 24 * 3600.0


def let_go(house: House, *, days: int, gigabytes: int) -> tuple[int, int]:
    """Drop conversations untouched for `days`, files older than that, then the oldest beyond `gigabytes`.

    Returns how many of each went; 0 means no limit.
    """
    talks = files = 0
    if days:
        before = time.time() - days * DAY
        old = house.store.rows(
            "SELECT id, owner FROM talk "
            "WHERE coalesce((SELECT max(created) FROM message WHERE talk = talk.id), created) < ? "
            "AND NOT EXISTS (SELECT 1 FROM message WHERE talk = talk.id AND state = 'running')", (before,),
        )  # fmt: skip
        for row in old:
            house.talks.drop(row["id"], row["owner"])
        talks = len(old)
        files += _drop(house, [row for row in _loose(house) if row["created"] < before])
    if gigabytes:
        loose, held = _loose(house), _held(house)
        while loose and held > gigabytes * 10**9:
            files += _drop(house, [loose.pop(0)])
            held = _held(house)
    return talks, files


def _held(house: House) -> int:
    (row,) = house.store.rows("SELECT coalesce(sum(bytes), 0) AS bytes FROM media")
    return row["bytes"]


def _loose(house: House) -> list[dict]:
    """Files without a star that no conversation and no waiting job names, the oldest first."""
    named: set[str] = set()
    for row in house.store.rows("SELECT shown FROM message WHERE shown <> '[]'"):
        named |= set(json.loads(row["shown"]))
    waiting = " ".join(
        row["params"] for row in house.store.rows("SELECT params FROM job WHERE state IN ('queued', 'running')")
    )
    rows = house.store.rows(
        "SELECT id, owner, created FROM media WHERE star = 0 AND purpose IN ('made', 'shown', 'read') ORDER BY rowid"
    )
    return [row for row in rows if row["id"] not in named and row["id"] not in waiting]


def _drop(house: House, rows: list[dict]) -> int:
    for row in rows:
        house.media.drop(row["id"], row["owner"])
    return len(rows)
