"""Conversations, kept by the server as a tree: an edit or a retry adds a branch, and nothing that was said is lost.

Each talk has a head, the message that its page ends with; the way from the head up to the root is what people see and
what the model remembers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsv4.errors import InputError

from .store import Store, new_id

TITLE_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message; `branch` of `branches` counts it among those with the same parent, from 1."""

    id: str
    talk: str
    parent: str | None
    role: str
    text: str
    shown: tuple[str, ...]
    job: str | None
    state: str
    meta: Mapping[str, Any]
    branch: int = 1
    branches: int = 1


@dataclass(frozen=True, kw_only=True)
class Talk:
    """One conversation."""

    id: str
    title: str
    head: str | None
    created: float


class Talks:
    """The conversations of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def begin(self, owner: str, title: str = "") -> Talk:
        """A new conversation."""
        name = new_id("talk")
        with self.store.change() as change:
            change.execute(
                "INSERT INTO talk (id, owner, title, touched, created) "
                "SELECT ?, ?, ?, coalesce(max(touched), 0) + 1, ? FROM talk",
                (name, owner, _title(title), time.time()),
            )
        return self.get(name, owner)

    def get(self, name: str, owner: str) -> Talk:
        """A conversation of this owner; raises InputError when there is none."""
        row = self.store.row("SELECT * FROM talk WHERE id = ? AND owner = ?", (name, owner))
        if row is None:
            raise InputError(f"there is no conversation '{str(name)[:80]}'")
        return _talk(row)

    def list(self, owner: str, *, words: str = "", limit: int = 50) -> list[Talk]:
        """This owner's conversations, the one touched last first; `words` are looked for in what was said."""
        like = f"%{words.strip()}%"
        found = self.store.rows(
            "SELECT * FROM talk WHERE owner = ? AND (title LIKE ? OR EXISTS (SELECT 1 FROM message "
            "WHERE message.talk = talk.id AND text LIKE ?)) ORDER BY touched DESC LIMIT ?",
            (owner, like, like, limit),
        )
        return [_talk(row) for row in found]

    def drop(self, name: str, owner: str) -> None:
        """Forget a conversation and all that was said in it."""
        self.get(name, owner)
        with self.store.change() as change:
            change.execute("DELETE FROM talk WHERE id = ?", (name,))

    def add(
        self, talk: Talk, role: str, text: str, *, parent: str | None, shown: Sequence[str] = (),
        job: str | None = None, state: str = "done",
    ) -> Said:  # fmt: skip
        """Add a message below `parent` and end the page with it."""
        name = new_id("msg")
        with self.store.change() as change:
            change.execute(
                "INSERT INTO message (id, talk, parent, role, text, shown, job, state, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (name, talk.id, parent, role, text, json.dumps(list(shown)), job, state, time.time()),
            )
            self._look_at(talk.id, name)
            if role == "user" and not talk.title:
                change.execute("UPDATE talk SET title = ? WHERE id = ?", (_title(text), talk.id))
        return self.message(name)

    def message(self, name: str) -> Said:
        """A message by its id."""
        row = self.store.row("SELECT * FROM message WHERE id = ?", (name,))
        if row is None:
            raise InputError(f"there is no message '{name[:80]}'")
        return _said(row)

    def finish(self, job: str, *, state: str, text: str, shown: Sequence[str], meta: Mapping[str, Any]) -> None:
        """Write down what came of the job that answers a message, if one does."""
        with self.store.change() as change:
            change.execute(
                "UPDATE message SET state = ?, text = ?, shown = ?, meta = ? WHERE job = ? AND role = 'assistant'",
                (state, text, json.dumps(list(shown)), json.dumps(dict(meta)), job),
            )

    def page(self, talk: Talk) -> list[Said]:
        """What people see: from the root to the head, each message with its place among its branches."""
        rows = self.store.rows("SELECT * FROM message WHERE talk = ? ORDER BY seq", (talk.id,))
        by_id, children = {row["id"]: row for row in rows}, dict[str | None, list[str]]()
        for row in rows:
            children.setdefault(row["parent"], []).append(row["id"])
        way: list[Said] = []
        name = talk.head
        while name in by_id:
            row, family = by_id[name], children[by_id[name]["parent"]]
            way.append(_said(row, branch=family.index(name) + 1, branches=len(family)))
            name = row["parent"]
        return way[::-1]

    def turn(self, said: Said, by: int) -> None:
        """Go to the neighbouring branch of a message, and down its newest side to the end."""
        family = self.store.rows(
            "SELECT id FROM message WHERE talk = ? AND parent IS ? ORDER BY seq", (said.talk, said.parent)
        )
        names = [row["id"] for row in family]
        name = names[(names.index(said.id) + by) % len(names)]
        while below := self.store.row("SELECT id FROM message WHERE parent = ? ORDER BY seq DESC LIMIT 1", (name,)):
            name = below["id"]
        self._look_at(said.talk, name)

    def _look_at(self, talk: str, message: str) -> None:
        with self.store.change() as change:
            change.execute(
                "UPDATE talk SET head = ?, touched = (SELECT max(touched) + 1 FROM talk) WHERE id = ?", (message, talk)
            )


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"


def _talk(row: Mapping[str, Any]) -> Talk:
    return Talk(id=row["id"], title=row["title"], head=row["head"], created=row["created"])


def _said(row: Mapping[str, Any], *, branch: int = 1, branches: int = 1) -> Said:
    return Said(
        id=row["id"], talk=row["talk"], parent=row["parent"], role=row["role"], text=row["text"],
        shown=tuple(json.loads(row["shown"])), job=row["job"], state=row["state"], meta=json.loads(row["meta"]),
        branch=branch, branches=branches,
    )  # fmt: skip
