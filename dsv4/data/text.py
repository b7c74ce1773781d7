"""The endless stream of packed text rows that the core learns from.

Shape letters: R rows, T tokens of a row. In a batch, `targets[t]` is the token to be predicted AFTER position t
(already shifted); it is IGNORE where nothing is learnt: on requests, on a document's last token, and on padding.
Documents never run from one row into the next; `positions` restart with each, and `segments` number them in a row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from dsv4.data.documents import Document, Documents

IGNORE = -100
# Shares of all tokens; they need not add up to one.
MIX: dict[str, float] = {
    "icon_full": 0.12,
    "icon_short": 0.14,
    "synonym": 0.05,
    "coloured": 0.11,
    "drawing": 0.08,
    "composition": 0.16,
    "scene_svg": 0.03,
    "scene_drawn": 0.07,
    "definition": 0.28,
    "worded": 0.04,
    "fact": 0.13,
    "manner": 0.01,
    "refusal": 0.035,
    "talk": 0.18,
    "slip": 0.11,
    "described": 0.01,
    "caption": 0.02,
    "hidden": 0.04,
    "asked": 0.02,
}
# What is learnt by heart for long is tied to whole phrases; here the words of a question come loose again.
SETTLE: dict[str, float] = {
    "worded": 0.5,
    "definition": 0.12,
    "fact": 0.12,
    "talk": 0.08,
    "refusal": 0.04,
    "manner": 0.02,
    "icon_short": 0.05,
    "coloured": 0.03,
    "drawing": 0.04,
    "composition": 0.05,
    "slip": 0.04,
    "hidden": 0.03,
    "asked": 0.02,
}
# How many waiting documents are tried for the room that is left in a row.
_WAITING = 24


class PackedRows:
    """Iterates for ever over dicts of int32 arrays [R, T]: ids, targets, positions, segments.

    `next_document` gives one document after another, none longer than `seq_len`.
    """

    def __init__(self, next_document: Callable[[], Document], *, pad: int, seq_len: int, rows: int) -> None:
        if seq_len < 8 or rows < 1:
            raise ValueError(f"a batch needs rows of at least 8 tokens and at least one row, got {rows} x {seq_len}")
        self._next, self.pad = next_document, pad
        self.seq_len, self.rows = seq_len, rows
        self._waiting: deque[Document] = deque()

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield self.batch()

    def batch(self) -> dict[str, np.ndarray]:
        """The next batch."""
        shape = (self.rows, self.seq_len)
        batch = {
            "ids": np.full(shape, self.pad, np.int32),
            "targets": np.full(shape, IGNORE, np.int32),
            "positions": np.zeros(shape, np.int32),
            "segments": np.zeros(shape, np.int32),
        }
        for row in range(self.rows):
            self._fill({name: array[row] for name, array in batch.items()})
        return batch

    def _fill(self, row: dict[str, np.ndarray]) -> None:
        start = number = 0
        while (document := self._fitting(self.seq_len - start)) is not None:
            prompt, answer = document
            first, stop = start + len(prompt), start + len(prompt) + len(answer)
            row["ids"][start:first] = prompt
            row["ids"][first:stop] = answer
            # A document without a request is learnt from its second token on.
            learnt = max(first, start + 1)
            row["targets"][learnt - 1 : stop - 1] = row["ids"][learnt:stop]
            row["positions"][start:stop] = np.arange(stop - start)
            row["segments"][start:stop] = number
            start, number = stop, number + 1
        row["positions"][start:] = np.arange(self.seq_len - start)
        row["segments"][start:] = number

    def _fitting(self, room: int) -> Document | None:
        """The longest-waiting document that still fits, or None when none of the waiting does."""
        while len(self._waiting) < _WAITING:
            self._waiting.append(self._next())
        for place, (prompt, answer) in enumerate(self._waiting):
            if len(prompt) + len(answer) <= room:
                found = self._waiting[place]
                del self._waiting[place]
                return found
        return None


class TextMixture(PackedRows):
    """Packed rows of all kinds of documents by their shares; the same for a seed."""

    def __init__(
        self, data_dir: Path, *, seed: int, seq_len: int, rows: int, mix: Mapping[str, float] | None = None
    ) -> None:
        self.documents = Documents(data_dir, seed=seed)
        super().__init__(self.next_document, pad=self.documents.tokenizer.id_of("<|pad|>"), seq_len=seq_len, rows=rows)
        self.mix = dict(MIX if mix is None else mix)
        self._makers: dict[str, Callable[[], Document]] = {name: getattr(self.documents, name) for name in self.mix}
        self._given = dict.fromkeys(self.mix, 0.0)

    def next_document(self) -> Document:
        """A document of the kind that is furthest behind its share, short enough for a row."""
        while True:
            kind = min(self.mix, key=lambda name: self._given[name] / self.mix[name])
            prompt, answer = self._makers[kind]()
            # Counted even when too long, so that a kind that never fits cannot hold up the others.
            self._given[kind] += len(prompt) + len(answer)
            if len(prompt) + len(answer) <= self.seq_len:
                return prompt, answer
