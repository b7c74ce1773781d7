"""What may come next: a constraint turns the state of a partial output into a mask over the vocabulary.

Shape letters: V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Constraint(Protocol):
    """A small state machine that follows the output token by token."""

    def allowed_V(self) -> np.ndarray:
        """Boolean mask of the tokens that may come next."""
        ...

    def push(self, token: int) -> None:
        """Advance by one token that was allowed."""
        ...


class TokenState(Protocol):
    """A machine over a contiguous range of the vocabulary, as generation.svg's SvgState."""

    @property
    def done(self) -> bool: ...

    def allowed(self) -> np.ndarray: ...

    def push(self, token: int) -> None: ...


class RangeConstraint:
    """Lifts a machine over local ids to the vocabulary; when it is done only `end` may follow."""

    def __init__(self, state: TokenState, *, offset: int, size: int, vocab_size: int, end: int) -> None:
        self.state, self.offset, self.size, self.end = state, offset, size, end
        self._mask_V = np.zeros(vocab_size, dtype=bool)

    def allowed_V(self) -> np.ndarray:
        """The machine's mask at its place in the vocabulary."""
        self._mask_V[:] = False
        if self.state.done:
            self._mask_V[self.end] = True
        else:
            self._mask_V[self.offset : self.offset + self.size] = self.state.allowed()
        return self._mask_V

    def push(self, token: int) -> None:
        """Advance; the end token leaves the machine as it is."""
        if token != self.end:
            self.state.push(token - self.offset)


class Closed:
    """Never lets the named tokens appear: control tokens have no place in an answer."""

    def __init__(self, tokens: list[int], *, vocab_size: int) -> None:
        self._mask_V = np.ones(vocab_size, dtype=bool)
        self._mask_V[tokens] = False

    def allowed_V(self) -> np.ndarray:
        """Everything but the closed tokens."""
        return self._mask_V

    def push(self, token: int) -> None:
        """A fixed mask has no state."""
