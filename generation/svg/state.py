"""The exact mask over drawing tokens: what may come next so that the drawing ends well-formed, inside and in time.

Shape letters: N tokens of the drawing vocabulary.
Source: the grammar in `tokens`; a hand-written machine, because a general grammar cannot bound a circle by its middle.
"""

from __future__ import annotations

import functools

import numpy as np

from .drawing import HIGH, LOW, MAX_DEPTH, RADII
from .palette import PAINTS
from .tokens import vocabulary
from .words import COMMANDS, KINDS, OVAL_ARCS, ROUND_ARCS

SHORTEST = 7
_SHAPE_COST = 4

# What each number of a primitive is: a place, a radius around the place, or an extent from the place.
_ROLES = {
    "circle": ("inner", "inner", "r"),
    "ellipse": ("inner", "inner", "rx", "ry"),
    "rect": ("corner", "corner", "width", "height"),
    "rrect": ("corner", "corner", "width", "height", "rounding"),
}


class _Tables:
    """Masks and token kinds, built once for the vocabulary."""

    def __init__(self) -> None:
        vocab = vocabulary()
        self.size = len(vocab)
        self.word = vocab.tokens
        self.none = self.mask()
        self.place = self.mask(*range(LOW, HIGH + 1))
        self.inner = self.mask(*range(LOW + 1, HIGH))
        self.corner = self.mask(*range(LOW, HIGH))
        self.paint = self.mask(*PAINTS)
        self.colour = self.mask(*(paint for paint in PAINTS if paint != "none"))
        self.scale = self.mask(*(word for word in self.word if word.startswith("scale:")))
        self.radius = self.mask(*range(1, HIGH + 1), *RADII)
        self.size_1_to = [self.mask(*range(1, limit + 1)) for limit in range(HIGH + 1)]
        self.opacity = tuple(word for word in self.word if word.startswith("opacity:"))
        self.number = {vocab.index[str(value)]: value for value in (*range(LOW, HIGH + 1), *RADII)}
        self.end, self.end_group = vocab.index["/svg"], vocab.index["/g"]
        self.menus: dict[tuple, _Menu] = {}

    def mask(self, *words: str | int) -> np.ndarray:
        """Return a read-only mask [N] that allows the given tokens."""
        index = vocabulary().index
        allowed = np.zeros(self.size if hasattr(self, "size") else len(index), bool)
        allowed[[index[str(word)] for word in words]] = True
        allowed.flags.writeable = False
        return allowed


class _Menu:
    """Alternatives at one decision: groups of words, each with the fewest tokens that must still follow it."""

    def __init__(self, tables: _Tables, costs: dict[str, int]) -> None:
        """`costs` counts tokens from the word on until the same kind of decision could be closed."""
        self.levels = sorted(set(costs.values()))
        self.masks = []
        for level in self.levels:
            self.masks.append(tables.mask(*(word for word, cost in costs.items() if cost <= level)))
        self.most = self.levels[-1]
        self.tables = tables

    def within(self, room: int) -> np.ndarray:
        """Return the mask of words whose whole cost fits in `room` tokens."""
        if room >= self.most:
            return self.masks[-1]
        best = self.tables.none
        for level, mask in zip(self.levels, self.masks, strict=True):
            if level <= room:
                best = mask
        return best


@functools.cache
def _tables() -> _Tables:
    return _Tables()


class SvgState:
    """Follows one drawing token by token and says which tokens may come next.

    Every finished walk parses, rebuilds and renders; all places lie within the grid's margin; `/svg` always comes
    within `max_tokens`. `copy.deepcopy` gives an independent state (beam search, retries).

    Args:
        max_tokens: tokens the drawing may have altogether, `/svg` included; at least 7.
    """

    __slots__ = ("done", "left", "_depth", "_filled", "_mode", "_numbers", "_pending", "_stage")

    def __init__(self, max_tokens: int = 1200) -> None:
        if max_tokens < SHORTEST:
            raise ValueError(f"a drawing needs at least {SHORTEST} tokens, not max_tokens={max_tokens}")
        self.left = max_tokens
        self.done = False
        self._depth = 0
        self._filled: tuple[bool, ...] = ()
        self._mode = "open"
        self._numbers: tuple[int, ...] = ()
        self._pending: tuple[str, ...] = ()
        self._stage = 0

    def __deepcopy__(self, memo: dict) -> SvgState:
        twin = object.__new__(SvgState)
        for name in SvgState.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def allowed(self) -> np.ndarray:
        """Return the read-only mask [N] of tokens that may come next; all False once done."""
        tables = _tables()
        if self._pending:
            return self._argument(tables)
        if self.done:
            return tables.none
        return self._menu(tables).within(self._room())

    def push(self, token_id: int) -> None:
        """Take one token. Raises ValueError where it was not allowed."""
        tables = _tables()
        if not 0 <= token_id < tables.size or not self.allowed()[token_id]:
            word = tables.word[token_id] if 0 <= token_id < tables.size else f"id {token_id}"
            options = [tables.word[place] for place in np.flatnonzero(self.allowed())[:8]]
            raise ValueError(f"{word!r} cannot come here; possible is {', '.join(options) or 'nothing more'}")
        self.left -= 1
        if self._pending:
            self._take_argument(tables, token_id)
        else:
            self._take_word(tables.word[token_id])

    def _room(self) -> int:
        """Tokens that may be spent before the open containers must close."""
        return self.left - self._depth

    def _argument(self, tables: _Tables) -> np.ndarray:
        role = self._pending[0]
        n = self._numbers
        if role in ("place", "inner", "corner", "paint", "scale", "radius"):
            return getattr(tables, role)
        if role == "line-paint":
            return tables.colour
        if role == "thick":
            return tables.size_1_to[HIGH]
        if role == "other-radius":
            mask = tables.radius.copy()
            mask[vocabulary().index[str(n[-1])]] = False
            return mask
        if role == "r":
            return tables.size_1_to[min(n[0] - LOW, HIGH - n[0], n[1] - LOW, HIGH - n[1])]
        if role in ("rx", "ry"):
            middle = n[0] if role == "rx" else n[1]
            return tables.size_1_to[min(middle - LOW, HIGH - middle)]
        if role in ("width", "height"):
            return tables.size_1_to[min(HIGH, HIGH - (n[0] if role == "width" else n[1]))]
        return tables.size_1_to[min(HIGH, max(n[2], n[3]))]

    def _take_argument(self, tables: _Tables, token_id: int) -> None:
        self._pending = self._pending[1:]
        if self._mode == "style" and tables.word[token_id] == "none":
            # A stroke on an unfilled container has a word of its own, so that one drawing has one token list.
            self._stage = 1
        value = tables.number.get(token_id)
        if value is not None:
            self._numbers += (value,)

    def _take_word(self, word: str) -> None:
        mode = self._mode
        self._numbers = ()
        if mode == "open" or word in ("g", "g-line"):
            self._open(word)
        elif word in ("/svg", "/g"):
            self._depth -= 1
            self._filled = (*self._filled[:-2], True) if word == "/g" else ()
            self.done = word == "/svg"
            self._mode, self._stage = "items", 0
        elif word == "root-stroke":
            self._pending, self._stage = ("line-paint", "thick"), 1
        elif word == "root-evenodd":
            self._mode, self._stage = "items", 0
        elif word in KINDS:
            self._pending = _ROLES[word]
            self._mode, self._stage, self._filled = "items", 0, (*self._filled[:-1], True)
        elif word == "path":
            self._pending = ("place", "place")
            self._mode, self._stage, self._filled = "moved", 0, (*self._filled[:-1], True)
        elif mode in ("moved", "drawn", "closed") and (word in COMMANDS or word in ROUND_ARCS or word in OVAL_ARCS):
            self._segment(word)
        else:
            self._style(word)

    def _open(self, word: str) -> None:
        line = word.endswith("-line")
        style = ("line-paint", "thick") if line else ("paint",)
        self._pending = style if word.startswith("svg") else ("place", "place", "scale", *style)
        self._mode, self._stage = "style", 1 if line else 0
        self._depth += 1
        self._filled += (False,)

    def _segment(self, word: str) -> None:
        if word in ROUND_ARCS:
            self._pending = ("radius", "place", "place")
        elif word in OVAL_ARCS:
            self._pending = ("radius", "other-radius", "place", "place")
        else:
            self._pending = ("place",) * COMMANDS[word]
        self._mode = "moved" if word == "M" else "closed" if word == "z" else "drawn"

    def _style(self, word: str) -> None:
        """Take one word of a shape's own style; the stage says which words may still follow."""
        self._mode = "styled"
        if word == "stroke":
            self._pending, self._stage = ("paint",), 2
        elif word == "stroke-width":
            self._pending, self._stage = ("thick",), 3
        elif word in ("evenodd", "nonzero"):
            self._stage = 4
        else:
            self._stage = 5 if word.startswith("opacity:") else 1

    def _menu(self, tables: _Tables) -> _Menu:
        filled = bool(self._filled) and self._filled[-1]
        deep = self._depth >= MAX_DEPTH
        key = (self._mode, self._stage, filled, self._depth == 1, deep)
        menu = tables.menus.get(key)
        if menu is None:
            menu = tables.menus[key] = _Menu(tables, _costs(tables, *key))
        return menu


def _costs(tables: _Tables, mode: str, stage: int, filled: bool, outermost: bool, deep: bool) -> dict[str, int]:
    """Return the words of one decision with the tokens each costs until the open container could close.

    A cost counts the word, what must follow it, and a first shape where the container has none yet; the closing
    tokens of open containers are kept back by `SvgState` itself.
    """
    if mode == "open":
        return {"svg": 1 + 1 + _SHAPE_COST + 1, "svg-line": 1 + 2 + _SHAPE_COST + 1}
    first = 0 if filled else _SHAPE_COST
    if mode == "style":
        styles = {"root-stroke": 3 + first} if stage == 0 else {}
        return {**styles, "root-evenodd": 1 + first, **_item_costs(tables, 0, filled, outermost, deep)}
    if mode == "items":
        return _item_costs(tables, 0, filled, outermost, deep)
    if mode == "styled":
        return _shape_costs(tables, stage)
    segments = {word: 1 + count for word, count in COMMANDS.items() if word not in ("M", "z")}
    segments |= dict.fromkeys(ROUND_ARCS, 4) | dict.fromkeys(OVAL_ARCS, 5)
    if mode == "moved":
        return segments
    segments["M"] = 3 + 2
    if mode == "drawn":
        segments["z"] = 1
    return {**segments, **_item_costs(tables, 0, True, outermost, deep)}


def _item_costs(tables: _Tables, stage: int, filled: bool, outermost: bool, deep: bool) -> dict[str, int]:
    costs = _shape_costs(tables, stage)
    if filled:
        costs["/svg" if outermost else "/g"] = 0
    if not deep:
        costs |= {"g": 5 + _SHAPE_COST + 1, "g-line": 6 + _SHAPE_COST + 1}
    return costs


def _shape_costs(tables: _Tables, stage: int) -> dict[str, int]:
    """Return a shape's kinds and the style words still possible: 0 all, 1 behind the fill, 2 behind the stroke..."""
    costs = {kind: 1 + count for kind, count in KINDS.items()}
    costs["path"] = 3 + 2
    if stage < 1:
        costs |= dict.fromkeys(PAINTS, 1 + _SHAPE_COST)
    if stage < 2:
        costs["stroke"] = 2 + _SHAPE_COST
    if stage < 3:
        costs["stroke-width"] = 2 + _SHAPE_COST
    if stage < 4:
        costs |= dict.fromkeys(("evenodd", "nonzero"), 1 + _SHAPE_COST)
    if stage < 5:
        costs |= dict.fromkeys(tables.opacity, 1 + _SHAPE_COST)
    return costs
