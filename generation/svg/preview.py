"""Show a drawing while its tokens still arrive.

Source: the grammar in `tokens`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .drawing import Drawing, RootStyle, write
from .parser import parse
from .tokens import vocabulary


def partial(ids: Iterable[int]) -> str:
    """Return canonical text of what is complete in the beginning of a drawing's ids.

    A path keeps its complete segments, open groups and the root are closed; no ids give an empty drawing.
    Raises ValueError where the ids break the grammar.
    """
    words = vocabulary().words(ids)
    if not words:
        return write(Drawing(style=RootStyle(fill="none"), items=()))
    return write(parse(words, partial=True))
