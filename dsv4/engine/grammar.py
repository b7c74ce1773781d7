"""SVG from models whose tokens are ordinary text: a grammar decides, by llguidance, which tokens may come next.

Models of ours have tokens for drawings and an exact mask of their own, which is an order of magnitude faster; this is
the way for any other tokenizer in the format of `tokenizers`. It needs the extra `grammar`.
Shape letters: V vocabulary. Source: llguidance (Lark grammars over bytes).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from dsv4.errors import InputError

GRID = 96
# What a drawing may hold; coordinates are whole and inside the canvas, so that every text of the grammar renders.
SVG_GRAMMAR = r"""
start: "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 96 96\">" part{1,40} "</svg>"
part: leaf | "<g" paint ">" leaf{1,12} "</g>"
leaf: rect | circle | ellipse | line | path
rect: "<rect x=\"" N "\" y=\"" N "\" width=\"" N "\" height=\"" N "\"" paint "/>"
circle: "<circle cx=\"" N "\" cy=\"" N "\" r=\"" N "\"" paint "/>"
ellipse: "<ellipse cx=\"" N "\" cy=\"" N "\" rx=\"" N "\" ry=\"" N "\"" paint "/>"
line: "<line x1=\"" N "\" y1=\"" N "\" x2=\"" N "\" y2=\"" N "\"" stroke "/>"
path: "<path d=\"M" N " " N step{1,40} "z"? "\"" paint "/>"
step: "L" N " " N | "H" N | "V" N | "Q" N " " N " " N " " N | "C" N " " N " " N " " N " " N " " N
paint: fill stroke? | stroke
fill: " fill=\"" COLOUR "\""
stroke: " stroke=\"" COLOUR "\" stroke-width=\"" WIDTH "\""
COLOUR: /#[0-9a-f]{6}/ | "none"
N: /[0-9]|[1-8][0-9]|9[0-6]/
WIDTH: /[1-9]/
"""


class Grammar:
    """A grammar over one tokenizer, compiled once; `begin` gives a constraint for each text."""

    def __init__(self, tokenizer_file: Path, *, vocab_size: int, end: int, lark: str = SVG_GRAMMAR) -> None:
        """Read a `tokenizer.json`; `end` is the id that ends a text, `vocab_size` the width of the model's logits.

        Raises InputError without llguidance, for a file that is no tokenizer, and for a wrong grammar.
        """
        guidance = _guidance()
        try:
            text = tokenizer_file.read_text(encoding="utf-8")
            self._tokens = guidance.LLTokenizer(text, n_vocab=vocab_size, eos_token=end)
        except Exception as error:
            raise InputError(f"'{tokenizer_file}' is not a tokenizer that a grammar can use: {error}") from error
        self._guidance, self.vocab_size, self.end = guidance, vocab_size, end
        self._grammar = guidance.LLMatcher.grammar_from_lark(lark)
        if told := guidance.LLMatcher.validate_grammar(self._grammar, self._tokens):
            raise InputError(f"the grammar is wrong: {told.strip()}")

    def begin(self) -> GrammarConstraint:
        """A constraint for one text; see `dsv4.engine.constraint.Constraint`."""
        return GrammarConstraint(self._guidance.LLMatcher(self._tokens, self._grammar), self.vocab_size, self.end)


class GrammarConstraint:
    """Follows one text; when the grammar is at its end only the end token may come."""

    def __init__(self, matcher: Any, vocab_size: int, end: int) -> None:
        self._matcher, self._end = matcher, end
        self._mask_V = np.zeros(vocab_size, dtype=bool)

    def allowed_V(self) -> np.ndarray:
        """Boolean mask of the tokens that may come next."""
        self._mask_V[:] = False
        if self._matcher.is_stopped():
            self._mask_V[self._end] = True
            return self._mask_V
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[: len(self._mask_V)]
        self._mask_V[: len(bits)] = bits.astype(bool)
        return self._mask_V

    def push(self, token: int) -> None:
        """Advance by one token; ValueError for one that was not allowed."""
        if token == self._end and self._matcher.is_stopped():
            return
        if not self._matcher.consume_token(token):
            raise ValueError(f"token {token} does not fit the grammar: {self._matcher.get_error()}")


def closed(text: str) -> str:
    """A drawing of SVG_GRAMMAR that was cut off, ended after its last whole part; InputError when it has none."""
    if text.endswith("</svg>"):
        return text
    whole = text[: text.rfind("/>") + 2]
    if "/>" not in text:
        raise InputError("the drawing was cut off before its first part was whole; allow more tokens")
    opened = len(re.findall(r"<g\b", whole)) - whole.count("</g>")
    return whole + "</g>" * opened + "</svg>"


def _guidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise InputError("grammars need the extra `grammar`: pip install 'dsv4-studio[grammar]'") from error
    return llguidance
