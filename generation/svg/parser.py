"""Parse drawing tokens into a drawing: strictly for a whole one, or as far as they reach for a preview.

Source: the grammar described in `tokens`.
"""

from __future__ import annotations

from .drawing import MAX_DEPTH, Drawing, Group, Override, RootStyle, Shape
from .palette import PAINTS
from .words import COMMANDS, KINDS, OVAL_ARCS, ROUND_ARCS

_PAINTS = frozenset(PAINTS)


class OutOfTokens(Exception):
    """The tokens end before the drawing does."""


class _Words:
    """A cursor over token names."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.place = words, 0

    def peek(self) -> str:
        if self.place >= len(self.words):
            raise OutOfTokens
        return self.words[self.place]

    def take(self) -> str:
        word = self.peek()
        self.place += 1
        return word

    def fail(self, wanted: str) -> ValueError:
        found = self.words[self.place] if self.place < len(self.words) else "the end"
        return ValueError(f"drawing token {self.place}: wanted {wanted}, found {found!r}")

    def number(self) -> int:
        try:
            value = int(self.peek())
        except ValueError:
            raise self.fail("a number") from None
        self.place += 1
        return value

    def numbers(self, count: int) -> tuple[int, ...]:
        return tuple(self.number() for _ in range(count))

    def paint(self) -> str:
        if self.peek() not in _PAINTS:
            raise self.fail("a paint")
        return self.take()

    def prefixed(self, prefix: str) -> float:
        if not self.peek().startswith(prefix):
            raise self.fail(prefix.rstrip(":"))
        return float(self.take()[len(prefix) :])


def parse(words: list[str], *, partial: bool = False) -> Drawing:
    """Parse token names into a drawing.

    Args:
        words: token names from `svg` or `svg-line` on; with `partial`, any beginning of such a list.
        partial: keep what is complete and close the rest instead of refusing.

    Raises ValueError where the grammar is broken, or where a whole drawing ends early or goes on behind `/svg`.
    """
    cursor = _Words(words)
    items: list[Shape | Group] = []
    style = RootStyle(fill="none")
    try:
        if cursor.peek() not in ("svg", "svg-line"):
            raise cursor.fail("'svg' or 'svg-line'")
        style = _style(cursor, cursor.take() == "svg-line")
        _items(cursor, items, "/svg", 1, partial)
        cursor.take()
    except OutOfTokens:
        if not partial:
            raise cursor.fail("more of the drawing") from None
        return Drawing(style=style, items=tuple(items))
    if cursor.place != len(words):
        raise cursor.fail("nothing behind '/svg'")
    return Drawing(style=style, items=tuple(items))


def _style(cursor: _Words, line: bool) -> RootStyle:
    fill = "none" if line else cursor.paint()
    stroke, width = "none", 0
    if line or cursor.peek() == "root-stroke":
        if not line:
            cursor.take()
        stroke, width = cursor.paint(), cursor.number()
    evenodd = cursor.peek() == "root-evenodd"
    if evenodd:
        cursor.take()
    return RootStyle(fill=fill, stroke=stroke, width=width, evenodd=evenodd)


def _items(cursor: _Words, items: list, end: str, depth: int, partial: bool) -> None:
    """Append items until `end`, which is left to the caller; what is complete stays when tokens run out."""
    while cursor.peek() != end or not items:
        if cursor.peek() in ("g", "g-line"):
            if depth >= MAX_DEPTH:
                raise cursor.fail(f"at most {MAX_DEPTH - 1} groups inside each other")
            _group(cursor, items, depth, partial)
        else:
            _shape(cursor, items, partial)


def _group(cursor: _Words, items: list, depth: int, partial: bool) -> None:
    line = cursor.take() == "g-line"
    x, y = cursor.numbers(2)
    scale = cursor.prefixed("scale:")
    style = _style(cursor, line)
    children: list[Shape | Group] = []
    try:
        _items(cursor, children, "/g", depth + 1, partial)
        cursor.take()
    except OutOfTokens:
        if partial and children:
            items.append(Group(x=x, y=y, scale=scale, style=style, items=tuple(children)))
        raise
    items.append(Group(x=x, y=y, scale=scale, style=style, items=tuple(children)))


def _shape(cursor: _Words, items: list, partial: bool) -> None:
    style = _override(cursor)
    kind = cursor.peek()
    if kind in KINDS:
        cursor.take()
        data = cursor.numbers(KINDS[kind])
        if kind in ("rect", "rrect"):
            kind, data = "rect", data if kind == "rrect" else (*data, 0)
        items.append(Shape(kind, data, style))
    elif kind == "path":
        cursor.take()
        segments = [("M", *cursor.numbers(2))]
        try:
            while (segment := _segment(cursor)) is not None:
                segments.append(segment)
        except OutOfTokens:
            if partial and len(segments) > 1:
                items.append(Shape("path", tuple(segments), style))
            raise
        items.append(Shape("path", tuple(segments), style))
    else:
        raise cursor.fail("a shape")


def _override(cursor: _Words) -> Override:
    fill = cursor.take() if cursor.peek() in _PAINTS else None
    stroke = width = rule = opacity = None
    if cursor.peek() == "stroke":
        cursor.take()
        stroke = cursor.paint()
    if cursor.peek() == "stroke-width":
        cursor.take()
        width = cursor.number()
    if cursor.peek() in ("evenodd", "nonzero"):
        rule = cursor.take()
    if cursor.peek().startswith("opacity:"):
        opacity = cursor.prefixed("opacity:")
    return Override(fill=fill, stroke=stroke, width=width, rule=rule, opacity=opacity)


def _segment(cursor: _Words) -> tuple | None:
    word = cursor.peek()
    if word in COMMANDS:
        cursor.take()
        return (word, *cursor.numbers(COMMANDS[word]))
    if word in ROUND_ARCS or word in OVAL_ARCS:
        cursor.take()
        rx = cursor.number()
        ry = rx if word in ROUND_ARCS else cursor.number()
        return ("A", rx, ry, int(word[1]), int(word[2]), *cursor.numbers(2))
    return None
