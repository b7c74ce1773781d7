"""One slip of the fingers in a request: letters swapped, left out, doubled, or the key beside the right one."""

from __future__ import annotations

import random
import re
from collections.abc import Collection

from dsv4.data.language import held_out

SHORTEST = 5  # letters of a word that may be mistyped
_WORD = re.compile(rf"[a-z]{{{SHORTEST},}}")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE = {
    key: "".join(row[place] for place in (at - 1, at + 1) if 0 <= place < len(row))
    for row in _KEYS
    for at, key in enumerate(row)
}


def mistyped(rng: random.Random, text: str, known: Collection[str], *, held: bool = False) -> str:
    """The text with one slip in one of its longer words; as it is when nothing can go wrong in it.

    known: words that the mistyped one must not be; held: slips that training never makes (one in ten, by hash).
    """
    words = [found for found in _WORD.finditer(text) if found[0] in known]
    for _ in range(24 if words else 0):
        word = rng.choice(words)
        wrong = _slip(rng, word[0])
        if wrong != word[0] and wrong not in known and held_out("slip", wrong) == held:
            return text[: word.start()] + wrong + text[word.end() :]
    return text


def _slip(rng: random.Random, word: str) -> str:
    place = rng.randrange(1, len(word))  # the first letter is rarely wrong
    kind = rng.randrange(4)
    if kind == 0 and place + 1 < len(word):
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1:
        return word[:place] + word[place + 1 :]
    if kind == 2:
        return word[:place] + word[place] + word[place:]
    return word[:place] + rng.choice(_BESIDE[word[place]]) + word[place + 1 :]
