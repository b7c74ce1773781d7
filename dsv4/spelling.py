"""A mistyped word read as the one that was meant ("did you mean"), by the list of words that a model's folder holds.

Only words of four letters and more that no list knows are looked at, and only what is one slip away (a letter swapped,
left out, doubled or wrong) is put in their place. What stands in quotes, has a capital inside a sentence, or is a
number, an address or code stays as it was typed.
Source: the noisy channel of Kernighan, Church and Gale (COLING 1990); candidates as P. Norvig lists them (norvig.com).
"""

from __future__ import annotations

import gzip
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from dsv4.limits import CORRECTED_CHARACTERS
from dsv4.messages import Message, Repo, Text

FILE = "spelling.txt.gz"
# What the mark before a name says that it is; a word that is none of it is only spelled so.
THING, ICON, WORD, ASKED = 1, 2, 4, 8  # ASKED: a word that requests are put in
ALIEN = "-"  # a good word that the model was not taught: not touched, and never put in place of another
SHORTEST, LONGEST = 4, 32  # letters of a word that is looked at
NAME_WORDS = 6  # of a name that is looked for around a word
COMMON = 12  # a word that stands in so many names is common
# What speaks for a word: each neighbour in a name, an icon of that name being asked for, in how many names it stands
# (the logarithm), being a name alone, and one of the kind that is asked for, and being a word that requests are put in.
W = {"name": 3.0, "icon": 1.0, "count": 0.3, "whole": 1.0, "kind": 0.5, "asked": 0.5}
# How likely a slip is ("touched": a needless letter whose key lies beside that of a neighbour), and from how many
# letters on it is thought of: nearly every short word is one wrong letter away from some other.
S = {
    "sound": 2.0,
    "swap": 2.0,
    "left": 2.0,
    "double": 2.0,
    "beside": 1.5,
    "vowel": 1.0,
    "touched": 1.0,
    "extra": 0.5,
    "other": 0.5,
}
LEAST = {"sound": 5, "swap": 4, "left": 4, "double": 4, "beside": 4, "vowel": 5, "touched": 6, "extra": 8, "other": 8}

_VOWELS = "aeiouy"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE = {
    key: {row[place] for place in (at - 1, at + 1) if 0 <= place < len(row)}
    for row in _KEYS
    for at, key in enumerate(row)
}
# What is kept as it is: quotes, code and tags; and every run without spaces that is an address, a path or a number.
_QUOTED = re.compile(
    r"""```.{0,4000}?```|`[^`\n]{0,400}`|"[^"]{0,400}"|“[^”]{0,400}”|«[^»]{0,400}»|<[^<>\n]{0,400}>"""
    r"""|(?<!\w)['‘][^'’\n]{1,400}['’](?!\w)""",
    re.DOTALL,
)
_CODE = re.compile(r"://|[@\\/_\d=]|\w\.\w")
_WORD = re.compile(r"([^\W\d_]+)(['’][^\W\d_]+)?")
_TOKEN = re.compile(r"[^\W_]+")
_DRAW = re.compile(r"\b(?:draw|paint|sketch|icons?|svg|picture|drawing|clip|animate|film|show (?:me |us )?an?)\b")
# A question for the meaning of one word; a subject of several words is no business of the list.
_MEANING = re.compile(
    r"(?:what(?:['’]?s| is| are) (?:the meaning of |meant by )?|what (?:does|do) (?:the word )?|define |explain "
    r"|(?:the )?meaning of )(?:an? |the )?([a-z]{3,}) ?(?:mean)?[ ?.!]*",
    re.IGNORECASE,
)
_TWO = re.compile(
    r"(?:what(?:['’]?s| is) the |the )?difference between "
    r"(?:an? |the )?([a-z]{3,}) and (?:an? |the )?([a-z]{3,})[ ?.!]*",
    re.IGNORECASE,
)
_PERSONS = frozenset("you they them she her him his its our your who that these those".split())  # have no meaning


class Corrected(NamedTuple):
    """A text as it was read, what was changed (as typed, as read), and words asked for that the dictionary lacks."""

    text: str
    changes: tuple[tuple[str, str], ...] = ()
    untaught: tuple[str, ...] = ()


class Speller:
    """Corrects by one list of words, which is read when it is first needed."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Lines are a mark (a hexadecimal digit, or ALIEN) and a name."""
        self._lines = lines
        self.correct: Callable[..., Corrected] = lru_cache(maxsize=256)(self._correct)

    @classmethod
    def of(cls, packed: bytes) -> Speller:
        """The speller of a list as `packed_list` writes it; of nothing, one that changes nothing."""
        return cls(_Packed(packed) if packed else ())

    def conversation(
        self, prompt: str, shown: Sequence[object], history: Sequence[Message]
    ) -> tuple[Corrected, tuple[Message, ...]]:
        """The newest question as it is read, and earlier ones as they were read when they were new.

        What is read depends on the words alone, so that a conversation begins every time as it did before. Where a
        repository is shown nothing is changed: its names are words that no list has.
        """
        parts = [*shown, *(part for said in history for part in said.parts)]
        if any(isinstance(part, Repo) for part in parts):
            return Corrected(prompt), tuple(history)
        read = self.correct(prompt)
        read = read._replace(untaught=self.untaught(read.text))
        return read, tuple(self._reread(said) if said.role == "user" else said for said in history)

    def _reread(self, said: Message) -> Message:
        parts = (Text(text=self.correct(one.text).text) if isinstance(one, Text) else one for one in said.parts)
        return replace(said, parts=tuple(parts))

    @cached_property
    def _known(self) -> _Known:
        return _Known.of(self._lines)

    def untaught(self, question: str) -> tuple[str, ...]:
        """The words whose meaning a question asks for and that are in no list's dictionary: what is said is made up."""
        if not isinstance(question, str) or len(question) > CORRECTED_CHARACTERS or not self._known.words:
            return ()
        found = _MEANING.fullmatch(question.strip()) or _TWO.fullmatch(question.strip())
        names, asked = self._known.names, self._known.asked
        return tuple(
            word
            for word in (found.groups() if found else ())
            if word.lower() not in asked | _PERSONS
            and not any(names.get(form, 0) & WORD for form in (word.lower(), *_stems(word.lower())))
        )

    def knows(self, word: str) -> bool:
        """Whether some list has the word (lower case), or one that it is a form of."""
        return word in self._known.words or self._weakly(word)

    def _weakly(self, word: str) -> bool:
        """Whether the word stands in no name, and is a good one nevertheless."""
        known = self._known
        return word in known.others or any(form in known.words or form in known.others for form in _stems(word))

    def _correct(self, text: str, drawing: bool = False) -> Corrected:
        """The text as it is read; `drawing`: it asks for a drawing, a picture or a clip."""
        if not isinstance(text, str) or len(text) > CORRECTED_CHARACTERS or not self._known.words:
            return Corrected(text)
        made, changes = text, []
        for word, start, stop in [*_looked_at(text)][::-1]:
            lower = word.lower()
            if lower in self._known.words:
                continue
            before, after = made[:start].lower(), made[stop:].lower()
            drawn = drawing or _DRAW.search(re.split(r"[.?!\n]", before)[-1] + re.split(r"[.?!\n]", after)[0])
            place = _Place(_TOKEN.findall(before), _TOKEN.findall(after), bool(drawn))
            best = self._meant(lower, place, good=self._weakly(lower))
            if not word.islower():  # a name may begin a sentence
                best = best.capitalize() if best in self._known.asked else ""
            if best:
                made = made[:start] + best + made[stop:]
                changes.append((word, best))
        return Corrected(made, tuple(changes[::-1]))

    def _meant(self, word: str, place: _Place, *, good: bool) -> str:
        """The word that was meant, "" for none; a `good` word only gives way to a longer name of what is drawn."""
        best, most, forms = "", 0.0, set(_stems(word))
        for other, slip in _edits(word).items():
            count = self._known.taught.get(other, 0)
            if not count or (other[0] != word[0] and other not in self._known.asked):
                continue
            if good and (not place.drawing or other in forms or word in _stems(other)):
                continue
            longest, icon, here = self._names(other, place, drawn=good)
            if longest < 2 and (good or (place.drawing and not self._drawn(other, count, place))):
                continue
            points = slip + W["name"] * (longest - 1) + W["icon"] * icon + W["count"] * math.log(count)
            points += W["asked"] * (other in self._known.asked)
            points += W["whole"] * bool(here) + W["kind"] * bool(here & ((THING | ICON) if place.drawing else WORD))
            if points > most or (points == most and other < best):
                best, most = other, points
        return self._known.capitals.get(best, best)

    def _drawn(self, word: str, count: int, place: _Place) -> bool:
        """Whether a request for a drawing may well hold the word: one of a thing or an icon, or a very common one."""
        asked = word in self._known.asked and place.before[-1:] not in (["a"], ["an"])
        return asked or word in self._known.drawn or count >= COMMON

    def _names(self, word: str, place: _Place, *, drawn: bool) -> tuple[int, int, int]:
        """(words of the longest name that it is part of, whether an icon of such a name is asked for, its own mark).

        drawn: only names of things and icons count.
        """
        names, longest, icon = self._known.names, 1, 0
        for left in range(min(NAME_WORDS, len(place.before) + 1)):
            begun = [*place.before[len(place.before) - left :], word]
            for right in range(min(NAME_WORDS - left, len(place.after) + 1)):
                mark = names.get(" ".join([*begun, *place.after[:right]]), 0)
                if mark & (THING | ICON) or (mark and not drawn):
                    longest = max(longest, left + right + 1)
                if mark & ICON and place.after[right : right + 1] in (["icon"], ["icons"]):
                    icon = 1
        return longest, icon, names.get(word, 0)


class _Place(NamedTuple):
    """The words on both sides of the one that is looked at, and whether a drawing is asked for."""

    before: list[str]
    after: list[str]
    drawing: bool


class _Known(NamedTuple):
    """A list that was read, all in lower case."""

    names: dict[str, int]  # marks of names, their words with one space between
    words: dict[str, int]  # how many names a word stands in
    taught: dict[str, int]  # the same for words of texts too
    others: set[str]  # good words that stand in no name
    drawn: set[str]  # words of things and icons
    asked: set[str]  # words that requests are put in
    capitals: dict[str, str]  # words that always have a capital

    @classmethod
    def of(cls, lines: Iterable[str]) -> _Known:
        names: dict[str, int] = {}
        words: Counter[str] = Counter()
        texts: list[str] = []
        others: set[str] = set()
        drawn: set[str] = set()
        asked: set[str] = set()
        capitals: dict[str, str] = {}
        small: set[str] = set()
        for line in lines:
            mark, name = line[:1], line[1:]
            if mark in (ALIEN, "0"):
                others.add(name)
                if mark == "0":
                    texts.append(name)
                continue
            tokens = [name] if name.isalpha() else _TOKEN.findall(name)
            lower = tokens if name.islower() else [one.lower() for one in tokens]
            words.update(lower)
            if lower is tokens:
                small.update(lower)
            else:
                capitals.update((low, one) for low, one in zip(lower, tokens, strict=True) if low != one)
                small.update(low for low, one in zip(lower, tokens, strict=True) if low == one)
            key, bits = " ".join(lower), int(mark, 16)
            names[key] = names.get(key, 0) | bits
            if bits & (THING | ICON):
                drawn.update(lower)
            if bits & ASKED:
                asked.add(name)
        taught = words.copy()
        taught.update(texts)
        capitals = {low: one for low, one in capitals.items() if low not in small}
        return cls(names, words, taught, others, drawn, asked, capitals)


def told(corrected: Mapping[str, str], untaught: Sequence[str] = ()) -> str:
    """What was changed (as typed, as read) and what was never taught, as sentences for people; "" for nothing."""
    said = []
    if corrected:
        read = _listed([f"“{typed}” as “{meant}”" for typed, meant in corrected.items()])
        said.append(f"I read {read}. Put a word in quotes to keep it as it is.")
    if untaught:
        verb, it = ("is", "it") if len(untaught) == 1 else ("are", "them")
        words = _listed([f"“{word}”" for word in untaught])
        said.append(f"{words} {verb} not in the dictionary that I learnt: what I say of {it} may be made up.")
    return " ".join(said)


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}"


def packed_list(marked: Iterable[str]) -> bytes:
    """Lines of marks and names as the content of FILE, the same bytes for the same lines."""
    lines = sorted(set(marked), key=lambda line: (line[1:], line[:1]))
    return gzip.compress("\n".join(lines).encode(), 9, mtime=0)


class _Packed:
    """The lines of a packed list, unpacked whenever they are asked for."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __iter__(self) -> Iterator[str]:
        return iter(gzip.decompress(self._packed).decode().split("\n"))


def _looked_at(text: str) -> Iterator[tuple[str, int, int]]:
    """(word, start, stop) of words that may be mistyped."""
    plain = _QUOTED.sub(lambda kept: "\0" * len(kept[0]), text)
    for run in re.finditer(r"[^\s\0]+", plain):
        if _CODE.search(run[0]):
            continue
        for found in _WORD.finditer(run[0]):
            word, start = found[1], run.start() + found.start()
            fits = SHORTEST <= len(word) <= LONGEST and word.isascii() and (found[2] or "'s")[1:] == "s"
            if fits and (word.islower() or (word[1:].islower() and _begins(text, start))):
                yield word, start, start + len(word)


def _begins(text: str, start: int) -> bool:
    """Whether a sentence begins at `start`."""
    before = text[max(0, start - 8) : start].rstrip(" \t\"'“‘(*-")
    return not before or before[-1] in ".?!:;\n"


def _stems(word: str) -> Iterator[str]:
    """Words that this one may be a regular form of."""
    for ending, stem_ends, added in _ENDINGS:
        stem = word.removesuffix(ending)
        single = ending in ("ed", "ing", "er", "est") and not added and _SHORT_STEM.fullmatch(stem)
        if stem != word and len(stem) > 2 and stem_ends.search(stem) and not single:
            yield stem + added
    doubled = re.fullmatch(r"(\w*[^aeiou][aeiou]([bdgklmnprt]))\2(?:ed|ing|er|est)", word)
    if doubled:
        yield doubled[1]  # "stopped"
    before = re.fullmatch(r"(?:un(\w{5,})|(?:re|over|under|out|non|mis)(\w{4,}))", word)
    if before:
        yield before[1] or before[2]


_SHORT_STEM = re.compile(r"[^aeiou]+[aeiou][bdgklmnprt]")  # "stop", whose last letter is doubled: "stopped"
_ENDINGS = tuple(
    (ending, re.compile(stem_ends), added)
    for ending, stem_ends, added in (
        ("s", r"[^s]$", ""), ("es", r"(?:[sxzo]|[cs]h)$", ""), ("ies", r"[^aeiou]$", "y"), ("ed", r"[^e]$", ""),
        ("d", r"e$", ""), ("ied", r"[^aeiou]$", "y"), ("ing", r"(?:[^e]|ee)$", ""), ("ing", r"[^aeiou]$", "e"),
        ("er", r"[^e]$", ""), ("r", r"e$", ""), ("est", r"[^e]$", ""), ("st", r"e$", ""), ("ly", r"", ""),
        ("men", r"", "man"),
    )
)  # fmt: skip


def _edits(word: str) -> dict[str, float]:
    """Words one slip away with how likely the slip is; the first letter is right, or swapped with the second."""
    found: dict[str, float] = {}

    def add(other: str, slip: str) -> None:
        if len(word) >= LEAST[slip] and S[slip] > found.get(other, 0.0):
            found[other] = S[slip]

    add(word[1] + word[0] + word[2:], "swap")
    for place in range(1, len(word)):
        head, letter, tail = word[:place], word[place], word[place + 1 :]
        if tail:
            add(head + tail[0] + letter + tail[1:], "swap")
        near = letter in _BESIDE.get(head[-1], ()) or letter in _BESIDE.get(tail[:1], ())
        add(head + tail, "double" if letter == head[-1] else "touched" if near else "extra")
        for other in _LETTERS:
            vowels = letter in _VOWELS and other in _VOWELS
            add(head + other + tail, "beside" if other in _BESIDE.get(letter, ()) else "vowel" if vowels else "other")
            add(head + other + letter + tail, "left")
    for other in _LETTERS:
        add(word + other, "left")
    for typed, meant in (("f", "ph"), ("ph", "f")):
        if typed in word[1:]:
            add(word[0] + word[1:].replace(typed, meant, 1), "sound")
    found.pop(word, None)
    return found
