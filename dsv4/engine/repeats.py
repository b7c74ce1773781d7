"""Against endless repetition: a constraint that forbids a phrase to come back soon, and a guard that sees a loop.

Shape letters: V vocabulary. Source: DeepSeek-OCR's published inference settings (n-gram of 20 to 40 tokens, window of
50 to 90, table tags exempt).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class NoRepeat:
    """Forbids the token that would complete a phrase of `length` tokens already written among the last `window`.

    `exempt` tokens are never forbidden, `closed` ones always are.
    """

    def __init__(
        self, *, vocab_size: int, length: int, window: int, exempt: Iterable[int] = (), closed: Iterable[int] = ()
    ) -> None:
        if length < 2 or window < length:
            raise ValueError(f"a phrase has at least 2 tokens and fits the window, got {length} and {window}")
        self.length, self.window, self.exempt = length, window, frozenset(exempt)
        self._open_V = np.ones(vocab_size, dtype=bool)
        self._open_V[list(closed)] = False
        self._written: list[int] = []

    def allowed_V(self) -> np.ndarray:
        """Boolean mask of the tokens that may come next."""
        forbidden = self._forbidden()
        if not forbidden:
            return self._open_V
        allowed_V = self._open_V.copy()
        allowed_V[list(forbidden)] = False
        return allowed_V

    def push(self, token: int) -> None:
        """Remember a token."""
        self._written.append(token)

    def _forbidden(self) -> set[int]:
        recent = self._written[-self.window :]
        begun = recent[len(recent) - self.length + 1 :]
        if len(begun) < self.length - 1:
            return set()
        found = set()
        for start in range(len(recent) - self.length + 1):
            if recent[start : start + self.length - 1] == begun:
                found.add(recent[start + self.length - 1])
        return found - self.exempt


class LoopGuard:
    """Sees when the end of a text is one block, of up to `longest` tokens, written over and over.

    A loop is at least `copies` copies and `least` tokens in all, so that rows of dashes and empty cells are none.
    """

    def __init__(self, *, longest: int = 64, copies: int = 5, least: int = 160) -> None:
        self.longest, self.copies, self.least = longest, copies, least
        self._tokens: list[int] = []
        self._same = [0] * (longest + 1)  # for each period: how many tokens in a row equal the one a period before

    def push(self, token: int) -> int:
        """Add a token; the length of the block that has become a loop, or 0."""
        self._tokens.append(token)
        count = len(self._tokens)
        for period in range(1, min(self.longest, count - 1) + 1):
            if self._tokens[count - 1 - period] != token:
                self._same[period] = 0
                continue
            self._same[period] += 1
            repeated = self._same[period] + period
            if repeated >= max(self.copies * period, self.least):
                return period
        return 0

    def kept(self, period: int) -> list[int]:
        """The tokens with one copy of the block in place of all."""
        return self._tokens[: len(self._tokens) - self._same[period]]
