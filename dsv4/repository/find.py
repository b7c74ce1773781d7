"""Which functions and classes a question is about: BM25 over symbols, by the stems of the question's words.

Names count most, then documentation, then bodies. It finds words, not meanings: a description that shares no stem with
the code, its names or its comments is not found. Source: Robertson and Zaragoza 2009, the probabilistic relevance
framework (BM25).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dsv4.repository.facts import Symbol
from dsv4.repository.graph import Graph

_STOP = frozenset(
    "the and for are was has have that this with from into which what where when who how why does not can you all any "
    "its their there here function functions class method methods code file files find show explain please of to in "
    "on is it be by or as at an if do we me my use uses used using".split()
)
_ENDINGS = ("ations", "ation", "ingly", "ising", "izing", "ing", "edly", "ies", "ied", "ers", "er", "ed", "es", "ly")
_ENDINGS += ("s", "e", "y")
SATURATION, LENGTH = 1.2, 0.6
NAME, DOC, PATH = 6.0, 2.5, 1.5  # how much a hit there counts beside one in the body
MOST_TERMS = 40


@dataclass(frozen=True, kw_only=True)
class Match:
    """A symbol of a file and how well it fits."""

    path: str
    symbol: Symbol
    score: float


def terms(query: str) -> list[str]:
    """Stems of a question's words, in order, each once; `parseCSVFile` and `parse_csv_file` are three words."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", query)
    words = re.findall(r"[^\W_]{2,}", split.lower())
    return list(dict.fromkeys(_stem(word) for word in words if word not in _STOP))[:MOST_TERMS]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def matches(graph: Graph, query: str) -> list[Match]:
    """Every symbol that shares a stem with the question, best first; ties go by path and line."""
    asked = terms(query)
    if not asked:
        return []
    found: list[tuple[str, Symbol, list[float], int]] = []
    seen_in = [0] * len(asked)
    for path in sorted(graph.files):
        lowered = graph.files[path].text.lower()
        if not any(term in lowered for term in asked):
            continue
        lines = lowered.split("\n")
        place = path.lower()
        for symbol in graph.facts[path].symbols:
            body = "\n".join(lines[symbol.first - 1 : symbol.last])
            name, doc = symbol.name.lower(), symbol.doc.lower()
            counts = [
                body.count(t) + NAME * (t in name) + DOC * min(2, doc.count(t)) + PATH * (t in place) for t in asked
            ]
            if any(counts):
                found.append((path, symbol, counts, len(body)))
                for index, count in enumerate(counts):
                    seen_in[index] += count > 0
    if not found:
        return []
    usual = sum(length for *_, length in found) / len(found)
    weights = [math.log(1 + (len(found) - seen + 0.5) / (seen + 0.5)) for seen in seen_in]
    scored = []
    for path, symbol, counts, length in found:
        norm = SATURATION * (1 - LENGTH + LENGTH * length / usual)
        score = sum(w * c * (SATURATION + 1) / (c + norm) for w, c in zip(weights, counts, strict=True))
        score *= sum(count > 0 for count in counts) / len(asked)  # many of the words beat one word often
        scored.append(Match(path=path, symbol=symbol, score=score))
    return sorted(scored, key=lambda one: (-one.score, one.path, one.symbol.first))
