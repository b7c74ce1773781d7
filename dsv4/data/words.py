"""The dictionary: one meaning for each of some 77,000 words, as a question and a short answer.

Source: the Open English WordNet's fields `words`, `kind`, `definition`, `kind_of`, `opposites`; the choice is ours.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsv4.data.language import article, is_plural

_LEMMA = re.compile(r"(?!an? |the )[A-Za-z][A-Za-z' -]{1,27}", re.IGNORECASE)
# Concrete kinds come first to mind; slang for persons last.
_KIND_BONUS = {
    "noun.animal": 5.0, "noun.food": 5.0, "noun.plant": 3.5, "noun.body": 4.5, "noun.artifact": 3.5, "noun.object": 3.0,
    "noun.substance": 3.5, "noun.phenomenon": 3.0, "noun.time": 2.5, "noun.group": 2.5, "noun.shape": 2.0,
    "noun.person": 1.5,
}  # fmt: skip
_UNCOUNTED = frozenset("water air hair blood land soil skin snow rain sand mud fur flesh fat grass corn wheat".split())
_COUNTABLE = frozenset({"noun.animal", "noun.artifact", "noun.plant", "noun.body", "noun.object", "noun.person"})
LONGEST = 150
LONGEST_EXAMPLE = 60
# What "Is a heron a bird?" may ask about; the first synset of that name with the kind is meant.
CATEGORIES = {
    "animal": "noun.Tops", "bird": "noun.animal", "fish": "noun.animal", "insect": "noun.animal",
    "mammal": "noun.animal", "reptile": "noun.animal", "dog": "noun.animal", "plant": "noun.Tops", "tree": "noun.plant",
    "flower": "noun.plant", "food": "noun.Tops", "edible fruit": "noun.food", "vegetable": "noun.food",
    "beverage": "noun.food", "dish": "noun.food", "person": "noun.Tops", "vehicle": "noun.artifact",
    "musical instrument": "noun.artifact", "building": "noun.artifact", "furniture": "noun.artifact",
    "clothing": "noun.artifact", "tool": "noun.artifact", "weapon": "noun.artifact", "machine": "noun.artifact",
    "container": "noun.artifact", "body part": "noun.body", "disease": "noun.state", "feeling": "noun.Tops",
    "game": "noun.act", "sport": "noun.act", "chromatic color": "noun.attribute", "chemical element": "noun.substance",
    "mineral": "noun.substance", "country": "noun.location", "language": "noun.communication",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A word, what kind of word it is ("n", "v", "a"), how it is asked for ("a heron") and the answer."""

    word: str
    part: str
    asked: str
    answer: str
    broader: str = ""
    opposite: str = ""
    categories: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    example: str = ""


def read_words(rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """One entry a word, in alphabetical order; words that differ only in case share the better entry.

    A lemma counts when it leads a synset, or is one small word; rarer synonyms are left out.
    """
    rows = list(rows)
    by_id = {row["id"]: row for row in rows}
    below = Counter(parent for row in rows for parent in row.get("kind_of", ()))
    best: dict[str, tuple[float, int, str, Mapping[str, Any]]] = {}
    for number, row in enumerate(rows):
        for place, lemma in enumerate(row["words"]):
            if not _LEMMA.fullmatch(lemma) or (place > 0 and not (lemma.isalpha() and lemma.islower())):
                continue
            score = (_score(row, lemma, place, below), -number, lemma, row)
            if lemma.lower() not in best or score[:2] > best[lemma.lower()][:2]:
                best[lemma.lower()] = score
    leads = {row["words"][0].lower() for row in rows}
    chosen = [found for key, found in sorted(best.items()) if key in leads]
    entries = [_entry(lemma, row, by_id) for _, _, lemma, row in chosen]
    kept = [(entry, row) for entry, (_, _, _, row) in zip(entries, chosen, strict=True) if entry is not None]
    above = _Ancestors(by_id)
    return [
        replace(
            entry,
            categories=above.categories(row),
            parts=_parts(entry.word, row, by_id),
            example=_example(entry.word, row.get("examples", ())),
        )
        for entry, row in kept
    ]


class _Ancestors:
    """Which of CATEGORIES a meaning belongs to, by its chain of broader meanings."""

    def __init__(self, by_id: Mapping[str, Mapping[str, Any]]) -> None:
        self.by_id = by_id
        self.names: dict[str, str] = {}
        for row in by_id.values():
            for name, kind in CATEGORIES.items():
                if row["kind"] == kind and name in row["words"] and name not in self.names.values():
                    self.names[row["id"]] = name

    def categories(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        found, waiting, seen = [], list(row.get("kind_of", ())), set()
        while waiting:
            parent = waiting.pop()
            if parent in seen or parent not in self.by_id:
                continue
            seen.add(parent)
            found += [self.names[parent]] if parent in self.names else []
            waiting += self.by_id[parent].get("kind_of", ())
        return tuple(sorted(found))


def _score(row: Mapping[str, Any], lemma: str, place: int, below: Counter[str]) -> float:
    """How likely this meaning is the one that people mean by the lemma."""
    kind = row["kind"]
    score = _KIND_BONUS.get(kind, 1.0 if kind.startswith("noun") else 1.5 if kind.startswith("verb") else 2.0)
    score += 3.0 if place == 0 else 1.5 / place
    score += 0.8 * math.log1p(below[row["id"]]) + 0.5 * min(3, len(row.get("examples", ())))
    score += 0.3 * min(5, len(row.get("similar", ()))) + (1.5 if lemma in row.get("opposites", ()) else 0.0)
    score += 3.0 if "color" in row["definition"] and kind == "noun.attribute" else 0.0
    score += 0.5 * min(2, len(row.get("parts", ()))) - (4.0 if lemma != lemma.lower() else 0.0)
    return score - (2.0 if "slang" in row["definition"] or "informal" in row["definition"] else 0.0)


def _entry(lemma: str, row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> Entry | None:
    meaning = shorten(row["definition"])
    if not meaning:
        return None
    kind, part = row["kind"], {"noun": "n", "verb": "v"}.get(row["kind"].split(".")[0], "a")
    opposite = next(iter(row.get("opposites", {}).get(lemma, ())), "")
    if part == "v":
        return Entry(word=lemma, part=part, asked=lemma, answer=f"To {lemma} means to {meaning}.", opposite=opposite)
    if part == "a":
        answer = f"{_capital(lemma)} means {meaning}."
        return Entry(word=lemma, part=part, asked=lemma, answer=answer, opposite=opposite)
    broader = next((by_id[parent]["words"][0] for parent in row.get("kind_of", ()) if parent in by_id), "")
    if broader.lower() == lemma.lower():
        broader = ""
    countable = kind in _COUNTABLE and lemma == lemma.lower() and not is_plural(lemma) and lemma not in _UNCOUNTED
    asked = article(lemma) + lemma if countable else lemma
    if broader:
        verb = "are" if is_plural(lemma) and lemma == lemma.lower() else "is"
        answer = f"{_capital(asked)} {verb} a kind of {broader}: {meaning}."
    else:
        answer = f"{_capital(lemma)}: {meaning}."
    return Entry(word=lemma, part=part, asked=asked, answer=answer, broader=broader, opposite=opposite)


def shorten(definition: str, longest: int = LONGEST) -> str:
    """The first clauses of a definition that fit; "" when not even the first does. Quotes are made plain."""
    plain = definition.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
    plain = re.sub(r"\s+", " ", plain).strip().rstrip(".;,")
    kept = ""
    for clause in plain.split(";"):
        longer = f"{kept};{clause}" if kept else clause
        if len(longer) > longest:
            break
        kept = longer
    if not kept and "," in plain[:longest]:
        kept = plain[: plain[:longest].rindex(",")]
    return kept.strip() if kept.count("(") == kept.count(")") else ""


def _parts(word: str, row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Up to three of its parts."""
    named = [by_id[part]["words"][0] for part in row.get("parts", ()) if part in by_id]
    return tuple(name for name in dict.fromkeys(named) if name != word and "|" not in name)[:3]


def _example(word: str, examples: Sequence[str]) -> str:
    """The first short sentence that uses the word as it is written."""
    for text in examples:
        plain = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}).strip()
        used = re.search(rf"\b{re.escape(word)}\b", plain)
        if used and len(plain) <= LONGEST_EXAMPLE and plain.isascii() and "\n" not in plain:
            return plain
    return ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
