"""Drawings for prompts of every kind, sense and nonsense: each must rebuild, render, and keep within every limit.

A drawing that is cut at any token must be a document too, since people watch it come.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsv4._parts import part
from dsv4.data.language import MOTIONS, RELATIONS, SHAPE_NOUNS
from dsv4.limits import SVG_BYTES

ROWS = 16  # drawings of one pass
LONG = 2000  # characters of the longest prompts
SIDE = 32  # pixels at which drawings are rendered
TOKENS = (7, 24, 60, 120)  # limits of tokens, drawn by chance
SHOWN = ("circle", "ellipse", "rect", "path")
THINGS = (
    "heart", "camera", "star", "house", "tiger", "rocket", "cloud", "arrow left", "battery", "key", "slice of pizza",
    "octopus", "bell", "umbrella", "snowman", "credit card", "lightning", "phone", "flag", "map pin",
)  # fmt: skip
ODD = (
    "<svg onload=alert(1)>", "<|eos|>", "<|svg|> <s:svg>", "'; DROP TABLE icons; --", "\u202eright to left", "🐯🚀❤️",
    "漢字かな", "ﷺ", "a\u0301\u0323", "NaN", "-1e309", "http://example.org/a.svg#b", "]]>", "&lt;&#x41;", "%00",
)  # fmt: skip


def prompts(count: int, *, seed: int = 0) -> list[str]:
    """Different kinds in turn: icons, scenes, motions, loose words, odd signs, letters by chance, and long ones."""
    rng = random.Random(f"svg prompts {seed}")
    makers = (_icon, _scene, _moving, _loose, _odd, _letters, _long)
    return [makers[number % len(makers)](rng) for number in range(count)]


@dataclass
class Told:
    """What came of it; `wrong` counts reasons, `first` holds a prompt for each."""

    drawings: int = 0
    streams: int = 0
    prefixes: int = 0
    tokens: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def fail(self, reason: str, prompt: str) -> None:
        """Count what is wrong with a prompt's drawing."""
        self.wrong[reason] += 1
        self.first.setdefault(reason, prompt[:80])

    @property
    def valid(self) -> int:
        """Drawings with nothing wrong about them."""
        return self.drawings - self.wrong.total()


def run(studio: Any, count: int, *, streams: int = 50, seed: int = 0) -> Iterator[Told]:
    """Draw for `count` prompts and check; yields the tally after every pass. The first `streams` are cut everywhere."""
    rng, told, groups = random.Random(f"svg limits {seed}"), Told(), defaultdict(list)
    for number, prompt in enumerate(prompts(count, seed=seed)):
        ask = {"prompt": prompt, "seed": number, "temperature": rng.choice((0.0, 1.0, 2.0))}
        ask["max_tokens"] = rng.choice(TOKENS)
        groups[studio.together.shape("svg", ask)].append(ask)
    for group in groups.values():
        for start in range(0, len(group), ROWS):
            some = group[start : start + ROWS]
            made = studio.together.svg(some)
            _check(some, made, told)
            for ask, drawing in zip(some, made, strict=True):
                if told.streams < streams and not isinstance(drawing, Exception):
                    cut_everywhere(ask["prompt"], drawing.raw, told)
            yield told


def _check(asks: Sequence[dict[str, Any]], made: Sequence[Any], told: Told) -> None:
    svg, good = part("generation.svg"), []
    for ask, drawing in zip(asks, made, strict=True):
        told.drawings += 1
        if isinstance(drawing, Exception):
            told.fail(f"refused: {drawing}", ask["prompt"])
            continue
        told.tokens += drawing.usage.written
        try:
            again = svg.rebuild(drawing.text)
        except ValueError as error:
            told.fail(f"does not rebuild: {error}", ask["prompt"])
            continue
        if again != drawing.text and again != svg.rebuild(again):
            told.fail("rebuilding goes on changing it", ask["prompt"])
        elif drawing.usage.written > ask["max_tokens"]:
            told.fail("more tokens than allowed", ask["prompt"])
        elif len(drawing.text.encode()) > SVG_BYTES:
            told.fail("more bytes than allowed", ask["prompt"])
        else:
            good.append((ask["prompt"], drawing.text))
    for prompt, text in good if not _all_drawn([text for _, text in good]) else []:
        if not _all_drawn([text]):
            told.fail("does not render", prompt)


def _all_drawn(texts: Sequence[str]) -> bool:
    """Whether the guarded child draws them all."""
    try:
        return not texts or all(picture.size for picture in part("generation.svg").rasterise_many(texts, SIDE))
    except ValueError:
        return False


def cut_everywhere(prompt: str, raw: str, told: Told) -> None:
    """Every beginning of a drawing, token by token, must parse; those that show a shape must rebuild too."""
    svg, load = part("generation.svg"), part("generation.svg.tree").load_tree
    ids = svg.vocabulary().encode(raw)
    told.streams += 1
    for length in range(len(ids) + 1):
        told.prefixes += 1
        try:
            text = svg.partial(ids[:length])
            load(text)
            if any(f"<{kind}" in text for kind in SHOWN):
                svg.rebuild(text)
        except ValueError as error:
            told.fail(f"breaks when cut: {error}", prompt)
            return


def _icon(rng: random.Random) -> str:
    colour = rng.choice(("", "red ", "teal ", "two ", "three pink "))
    return f"{colour}{rng.choice(THINGS)} icon{rng.choice(('', ' in a circle', ' in a square'))}"


def _scene(rng: random.Random) -> str:
    first, second = rng.sample(SHAPE_NOUNS, 2)
    return f"a {first} {rng.choice((*RELATIONS, 'and'))} a {second}"


def _moving(rng: random.Random) -> str:
    return f"a {rng.choice(THINGS)} {rng.choice(MOTIONS)}"


def _loose(rng: random.Random) -> str:
    return " ".join(rng.choice((*THINGS, *RELATIONS, *MOTIONS, "not", "the", "of", "why")) for _ in range(6))


def _odd(rng: random.Random) -> str:
    return " ".join(rng.sample(ODD, rng.randint(1, 3)))


def _letters(rng: random.Random) -> str:
    drawn = [rng.choice((rng.randint(33, 126), rng.randint(0xA1, 0x2FFF))) for _ in range(rng.randint(1, 60))]
    return "x" + "".join(map(chr, drawn))


def _long(rng: random.Random) -> str:
    pieces: list[str] = []
    while sum(map(len, pieces)) + len(pieces) < LONG:
        pieces.append(rng.choice((_icon, _scene, _loose, _odd))(rng))
    return " ".join(pieces)[:LONG].strip() + "x" * rng.randint(0, 1)
