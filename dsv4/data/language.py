"""The caption language of the closed world: articles, scenes as sentences and back, and the held-out rules.

A caption names one to five nouns (things or coloured shapes), how two of them lie or move, the ground and the look:
"a tiger to the left of an ant on a mint background, flat style". Own grammar; design: nano, "Language".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dsv4.errors import InputError, nearest

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
SHAPE_COLOURS = {
    "red": (220, 38, 38),
    "orange": (245, 130, 32),
    "yellow": (245, 215, 40),
    "green": (34, 160, 74),
    "blue": (37, 99, 235),
    "purple": (128, 60, 190),
    "pink": (244, 114, 182),
    "brown": (120, 72, 35),
    "cyan": (40, 200, 220),
}
GROUNDS = {
    "white": (255, 255, 255),
    "black": (20, 20, 24),
    "sky blue": (135, 206, 235),
    "blue": (60, 90, 220),
    "navy": (20, 30, 90),
    "red": (220, 60, 60),
    "pink": (255, 182, 203),
    "orange": (255, 165, 70),
    "yellow": (255, 230, 110),
    "green": (90, 180, 90),
    "mint": (180, 240, 210),
    "purple": (140, 90, 200),
    "lavender": (215, 200, 250),
    "brown": (140, 100, 70),
    "grey": (150, 150, 155),
    "beige": (245, 232, 205),
}
RELATIONS = ("to the left of", "to the right of", "above", "below")
MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "spinning",
    "bouncing",
    "growing",
    "shrinking",
    "shaking",
    "swinging",
)
MOST_NOUNS = 5
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
SHAPE_NOUNS = tuple(f"{colour} {shape}" for colour in SHAPE_COLOURS for shape in SHAPES)

# Names whose first sound is not what the first letter says, and letters that are spelled out.
_AN = re.compile(r"(?!uni|euro|one\b|ewe\b|u\b|uku)[aeiou]|hour|heir|honest|x\b|x-|[fhlmnrs]\b|(?:sos|ng|mri|xml|fm)\b")
_NAMES = frozenset(
    "aquarius aries cancer capricorn gemini leo libra ophiuchus pisces sagittarius scorpio taurus virgo kaaba zzz dna "
    "restroom".split()
) | frozenset({
    "mount fuji", "santa claus", "mrs. claus", "statue of liberty", "tokyo tower", "milky way", "new moon",
})  # fmt: skip
_MASS = frozenset(
    "bacon bald badminton bowling breast-feeding broccoli camping construction cooking coral customs fire fog foggy "
    "garlic ice lacrosse oden popcorn salt soap spaghetti sake sushi tennis thread wood yarn".split()
) | frozenset(
    {
        "american football", "baggage claim", "bubble tea", "canned food", "cooked rice", "curly hair",
        "currency exchange", "curry rice", "field hockey", "ginger root", "green salad", "horse racing", "ice hockey",
        "left luggage", "no littering", "no smoking", "non-potable water", "performing arts", "ping pong",
        "potable water", "pouring liquid", "red hair", "shaved ice", "white hair",
    }
)  # fmt: skip
_SINGULAR_S = frozenset("americas atlas canvas chess christmas gas hippopotamus lens rhinoceros".split())
_AFTER_HEAD = (
    "with in on of behind over at from not without wearing showing holding lifting playing getting blowing as under and"
)
_HEAD_END = re.compile(rf" (?:{_AFTER_HEAD.replace(' ', '|')})\b| \(")


def is_plural(name: str) -> bool:
    """Whether the name stands for several, as far as its spelling tells ("grapes", "eyes", "rolls of paper")."""
    joined = " and " in name and not _HEAD_END.search(name.split(" and ")[0])
    head = _HEAD_END.split(name)[0].split()
    if not head:
        return False
    if joined and name not in _SINGULAR_PAIRS:
        return True
    last = head[-1]
    return last in _PLURALS or (
        last.endswith("s") and not last.endswith(("ss", "us", "is", "’s", "'s")) and last not in _SINGULAR_S
    )


_PLURALS = frozenset("people men women children dice mice feet teeth geese skis".split())
_SINGULAR_PAIRS = frozenset({"bow and arrow", "star and crescent", "woman and man holding hands"})


def article(name: str) -> str:
    """The article that a noun takes: "a ", "an ", or "" for plurals, materials and proper names."""
    if name in _NAMES or name in _MASS or (is_plural(name) and not name.endswith("button")):
        return ""
    return "an " if _AN.match(name) or name.startswith(("a button", "ab button")) else "a "


def noun_phrase(name: str) -> str:
    """The noun with its article: "a tiger", "an ant", "grapes"."""
    return article(name) + name


def the(name: str) -> str:
    """The noun as something known: "the tiger"; names of persons and signs stay bare."""
    return name if name in _NAMES else f"the {name}"


def is_shape(noun: str) -> bool:
    """Whether the noun is a coloured shape; things with such a name ("blue circle") are drawn as the shape."""
    return noun in SHAPE_NOUNS


def clashes(colour: str, ground: str) -> bool:
    """Whether a shape of this colour would be hard to see on the ground."""
    return sum((a - b) ** 2 for a, b in zip(SHAPE_COLOURS[colour], GROUNDS[ground], strict=True)) < 70**2


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One scene or clip in words.

    nouns: one to five bare names; relation: for two nouns, None means "and"; motions: none, or one a noun, for at
    most three; count: how many of a single coloured shape; ground: a key of GROUNDS; flat: the flat look.
    """

    nouns: tuple[str, ...]
    relation: str | None = None
    motions: tuple[str, ...] = ()
    count: int = 1
    ground: str = "white"
    flat: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.nouns) <= MOST_NOUNS:
            raise ValueError(f"a caption has one to five nouns, got {len(self.nouns)}")
        if self.relation is not None and (self.relation not in RELATIONS or len(self.nouns) != 2):
            raise ValueError(f"relation {self.relation!r} needs two nouns and one of {RELATIONS}")
        if self.motions and (len(self.motions) != len(self.nouns) or self.relation or len(self.nouns) > 3):
            raise ValueError("motions come one a noun, for at most three nouns and without a relation")
        if self.count != 1 and not (self.count in range(2, 5) and len(self.nouns) == 1 and is_shape(self.nouns[0])):
            raise ValueError("counts of 2 to 4 go with one coloured shape")
        if self.ground not in GROUNDS:
            raise ValueError(f"unknown ground {self.ground!r}; one of {', '.join(GROUNDS)}")

    def text(self) -> str:
        """The caption as people read it."""
        return (
            self.body()
            + (f" on a {self.ground} background").replace("a orange", "an orange") * (self.ground != "white")
            + (", flat style" if self.flat else "")
        )

    def body(self) -> str:
        """The caption without ground and look."""
        if self.count > 1:
            return f"{NUMBERS[self.count]} {plural(self.nouns[0])}"
        phrases = [noun_phrase(noun) for noun in self.nouns]
        if self.motions:
            phrases = [f"{phrase} {motion}" for phrase, motion in zip(phrases, self.motions, strict=True)]
        if self.relation:
            return f"{phrases[0]} {self.relation} {phrases[1]}"
        return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + f" and {phrases[-1]}"

    def seen(self) -> Caption:
        """The same scene as an onlooker tells it: left before right, upper before lower."""
        if self.relation not in ("to the right of", "below"):
            return self
        return Caption(nouns=self.nouns[::-1], relation=OPPOSITE[self.relation], ground=self.ground, flat=self.flat)

    def sentence(self) -> str:
        """The caption as a sentence: capital and full stop."""
        return sentence(self.text())


def plural(shape_noun: str) -> str:
    """The plural of a coloured shape: "blue circles", "red crosses"."""
    return shape_noun + ("es" if shape_noun.endswith("s") else "s")


def sentence(text: str) -> str:
    """First letter large, full stop at the end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def parse(text: str, things: Collection[str]) -> Caption:
    """Read a caption or its sentence back; inverse of `Caption.text` and `Caption.sentence`.

    things: the names that may occur beside the coloured shapes. Raises InputError naming what it stumbled over.
    """
    given, rest = text, text.strip()
    if rest.endswith("."):
        rest = rest[:-1]
    rest = rest[:1].lower() + rest[1:]
    flat = rest.endswith(", flat style")
    rest = rest.removesuffix(", flat style")
    ground = "white"
    if found := re.search(r" on an? (" + "|".join(GROUNDS) + r") background$", rest):
        ground, rest = found[1], rest[: found.start()]
    for number in (2, 3, 4):
        for noun in SHAPE_NOUNS:
            if rest == f"{NUMBERS[number]} {plural(noun)}":
                return Caption(nouns=(noun,), count=number, ground=ground, flat=flat)
    found_nouns = next(_read_nouns(rest, things), None)
    if found_nouns is None:
        near = nearest(re.sub(r"^(an?|the) ", "", rest), [*things, *SHAPE_NOUNS])
        hint = f"; the nearest thing I know is '{near}'" if near else ""
        raise InputError(f"cannot read the caption '{given}'{hint}")
    nouns, relation, motions = found_nouns
    return Caption(nouns=nouns, relation=relation, motions=motions, ground=ground, flat=flat)


def _read_nouns(text: str, things: Collection[str]) -> Iterator[tuple[tuple[str, ...], str | None, tuple[str, ...]]]:
    """Every way to read nouns joined by a relation, "and", or a comma; names may hold "and" themselves."""
    for noun, after in _read_noun(text, things):
        motion = next((m for m in MOTIONS if after == f" {m}" or after.startswith((f" {m} and ", f" {m}, "))), None)
        own = (motion,) if motion else ()
        after = after[len(motion) + 1 :] if motion else after
        if not after:
            yield (noun,), None, own
        for relation in RELATIONS:
            if not motion and after.startswith(f" {relation} "):
                for other, end in _read_noun(after[len(relation) + 2 :], things):
                    if not end:
                        yield (noun, other), relation, ()
        for join in (", ", " and "):
            if after.startswith(join):
                for nouns, relation, motions in _read_nouns(after[len(join) :], things):
                    fits = (2 <= len(nouns) < MOST_NOUNS if join == ", " else len(nouns) == 1) and relation is None
                    fits = fits and not (own and len(nouns) > 2)
                    if fits and bool(motions) == bool(own):
                        yield (noun, *nouns), None, own + motions


def _read_noun(text: str, things: Collection[str]) -> Iterator[tuple[str, str]]:
    """(noun, what follows) for every noun phrase that the text may begin with, longest first."""
    ends = [found.start() for found in re.finditer(r"(?=[ ,])|$", text)]
    for end in reversed(ends):
        phrase = text[:end]
        for name in (phrase, re.sub(r"^an? ", "", phrase)):
            if (name in things or name in _SHAPE_SET) and noun_phrase(name) == phrase:
                yield name, text[end:]


_SHAPE_SET = frozenset(SHAPE_NOUNS)


def held_out(*parts: str, share: float = 0.1) -> bool:
    """Whether a combination is kept from training, the same on every machine (`share` of all, by hash)."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


def held_pair(first: str, second: str) -> bool:
    """Whether two nouns never meet in a training scene, in either order (pictures, clips, SVG scenes, captions)."""
    return held_out("pair", *sorted((first, second)))


def held_scene(nouns: tuple[str, ...]) -> bool:
    """Whether any two of these nouns are a held-out pair."""
    return any(held_pair(a, b) for i, a in enumerate(nouns) for b in nouns[i + 1 :])


def held_motion(noun: str, motion: str) -> bool:
    """Whether this noun never moves so in training."""
    return held_out("motion", noun, motion)


def held_colour(icon: str, colour: str) -> bool:
    """Whether this icon name never has this colour in training."""
    return held_out("colour", icon, colour)


def held_composition(icon: str, form: str) -> bool:
    """Whether this icon name never stands in this form ("in a circle", "three", "and star") in training."""
    return held_out("form", icon, form)
