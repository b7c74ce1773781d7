"""The atomic tokens of a drawing and the exact way between canonical text and token ids.

A drawing is `svg` and its style, then shapes and groups, then `/svg`. A shape is its own style, its kind, its numbers:
a bare paint is the fill, `path` carries its first move, one token carries an arc's kind and flags.
Source: atomic SVG tokens as in InternSVG (ICLR 2026) and OmniSVG (2025); the grammar is ours.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from .drawing import HIGH, LOW, OPACITIES, RADII, SCALES, Drawing, Group, Override, RootStyle, Shape, write
from .palette import PAINTS, nearest_paint
from .parser import parse
from .reader import read
from .words import COMMANDS, CONTAINERS, KINDS, OVAL_ARCS, ROUND_ARCS, STYLES


def _all_tokens() -> tuple[str, ...]:
    markup = (*CONTAINERS, "path", *KINDS, *STYLES, *COMMANDS, *ROUND_ARCS, *OVAL_ARCS)
    opacities = tuple(f"opacity:{value:g}" for value in OPACITIES)
    scales = tuple(f"scale:{value:g}" for value in SCALES)
    numbers = tuple(str(value) for value in (*range(LOW, HIGH + 1), *RADII))
    return (*markup, *PAINTS, *opacities, *scales, *numbers)


class Vocabulary:
    """Tokens of drawings with local ids 0 to N - 1; `encode` and `decode` are inverse on canonical text."""

    def __init__(self) -> None:
        self.tokens: tuple[str, ...] = _all_tokens()
        self.index: dict[str, int] = {token: place for place, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def id_of(self, token: str) -> int:
        """Return the id of a token. Raises ValueError with what would have been possible."""
        try:
            return self.index[token]
        except KeyError:
            raise ValueError(_teach(token)) from None

    def encode(self, svg: str) -> list[int]:
        """Turn canonical drawing text into ids. Raises ValueError where the text is not canonical."""
        return self.encode_drawing(read(svg))

    def encode_drawing(self, drawing: Drawing) -> list[int]:
        """Turn a drawing into ids, ending with `/svg`. Raises ValueError where something has no token."""
        if not drawing.items:
            raise ValueError("an empty drawing has no tokens; it needs at least one shape")
        words = [*_opening("svg", drawing.style), *_words(drawing.items), "/svg"]
        return [self.id_of(word) for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn the ids of one whole drawing into canonical text. Raises ValueError where the grammar is broken."""
        return write(self.decode_drawing(ids))

    def decode_drawing(self, ids: Iterable[int]) -> Drawing:
        """Turn the ids of one whole drawing into its tree. Raises ValueError where the grammar is broken."""
        return parse(self.words(ids))

    def words(self, ids: Iterable[int]) -> list[str]:
        """Name ids as tokens. Raises ValueError for an id outside the vocabulary."""
        words = []
        for place, token_id in enumerate(ids):
            if not 0 <= token_id < len(self.tokens):
                raise ValueError(f"id {token_id} at place {place} is no drawing token; ids are 0 to {len(self) - 1}")
            words.append(self.tokens[token_id])
        return words


@functools.cache
def vocabulary() -> Vocabulary:
    """Return the one vocabulary of drawings (immutable, built once)."""
    return Vocabulary()


def _teach(token: str) -> str:
    text = token.removeprefix("opacity:").removeprefix("scale:")
    if token.startswith("opacity:"):
        return f"opacity {text} has no token; allowed: {', '.join(f'{value:g}' for value in OPACITIES)}"
    if token.startswith("scale:"):
        return f"scale {text} has no token; allowed: {SCALES[0]:g} to {SCALES[-1]:g} in steps of 0.05"
    if text.lstrip("-").isdigit():
        return f"number {text} has no token; places run from {LOW} to {HIGH}, radii beyond by steps up to {RADII[-1]}"
    try:
        return f"colour {token!r} is not in the palette; the nearest there is {nearest_paint(token)!r}"
    except ValueError as error:
        return str(error)


def _opening(name: str, style: RootStyle) -> list[str]:
    evenodd = ["root-evenodd"] if style.evenodd else []
    if style.stroke == "none":
        return [name, style.fill, *evenodd]
    stroke = [style.stroke, str(style.width)]
    if style.fill == "none":
        return [f"{name}-line", *stroke, *evenodd]
    return [name, style.fill, "root-stroke", *stroke, *evenodd]


def _words(items: tuple[Shape | Group, ...]) -> list[str]:
    words: list[str] = []
    for item in items:
        if isinstance(item, Group):
            if not item.items:
                raise ValueError("an empty group has no tokens; it needs at least one shape")
            first, *style = _opening("g", item.style)
            words += [first, str(item.x), str(item.y), f"scale:{item.scale:g}", *style, *_words(item.items), "/g"]
        else:
            words += [*_override_words(item.style), *_shape_words(item)]
    return words


def _override_words(style: Override) -> list[str]:
    words = [] if style.fill is None else [style.fill]
    words += [] if style.stroke is None else ["stroke", style.stroke]
    words += [] if style.width is None else ["stroke-width", str(style.width)]
    words += [] if style.rule is None else [style.rule]
    return words + ([] if style.opacity is None else [f"opacity:{style.opacity:g}"])


def _shape_words(shape: Shape) -> list[str]:
    if shape.kind == "path":
        return _path_words(shape.data)
    if shape.kind == "rect":
        return ["rrect", *map(str, shape.data)] if shape.data[4] else ["rect", *map(str, shape.data[:4])]
    return [shape.kind, *map(str, shape.data)]


def _path_words(segments: tuple) -> list[str]:
    words = ["path", *map(str, segments[0][1:])]
    for letter, *numbers in segments[1:]:
        if letter == "A":
            rx, ry, large, sweep, x, y = numbers
            radii = [rx] if rx == ry else [rx, ry]
            words += [f"{'a' if rx == ry else 'e'}{large}{sweep}", *map(str, radii), str(x), str(y)]
        else:
            words += [letter, *map(str, numbers)]
    return words
