"""Write one page token by token: whole characters out, a loop seen and cut, what is missing known at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dsv4.engine.repeats import LoopGuard
from dsv4.reading import Stopped
from dsv4.results import Usage

Decode = Callable[[Sequence[int]], str]


class TokenWriter:
    """The pieces of a page's text from a stream of tokens; see `PageWriter` in `dsv4.reading`."""

    def __init__(
        self,
        tokens: Iterator[int],
        decode: Decode,
        *,
        max_tokens: int,
        read: int,
        pictures: int,
        cancelled: Callable[[], bool],
        guard: LoopGuard | None = None,
    ) -> None:
        self.raw, self.usage = "", Usage(read=read, pictures=pictures)
        self.stopped: Stopped = "end"
        self._tokens, self._decode, self._cancelled = tokens, decode, cancelled
        self._most, self._guard = max_tokens, guard or LoopGuard()

    def __iter__(self) -> Iterator[str]:
        text, written, period = Unbroken(self._decode), 0, 0
        kept: list[str] = []
        for token in self._tokens:
            written += 1
            piece = text.push(token)
            if piece:
                kept.append(piece)
                yield piece
            period = self._guard.push(token)
            if period:
                break
        rest = text.rest()
        if rest:
            kept.append(rest)
            yield rest
        self.usage = Usage(read=self.usage.read, written=written, pictures=self.usage.pictures)
        self.raw = self._decode(self._guard.kept(period)) if period else "".join(kept)
        if period:
            self.stopped = "loop"
        elif self._cancelled():
            self.stopped = "cancelled"
        elif written >= self._most:
            self.stopped = "length"


class Unbroken:
    """Turns tokens into text as they come and holds back the bytes of a character that is not whole yet.

    Only the tokens since the last whole character are decoded again, so a long page costs no more a token than a
    short one.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._before: list[int] = []  # one settled token, since some decoders treat the first one differently
        self._open: list[int] = []

    def push(self, token: int) -> str:
        """The text that this token completes, often a word, sometimes nothing."""
        self._open.append(token)
        piece = self.rest(flush=False)
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._before, self._open = self._open[-1:], []
        return piece

    def rest(self, *, flush: bool = True) -> str:
        """What the held tokens say, broken characters included."""
        if not self._open:
            return ""
        known = self._decode(self._before) if self._before else ""
        piece = self._decode([*self._before, *self._open])[len(known) :]
        if flush:
            self._before, self._open = self._open[-1:], []
        return piece
