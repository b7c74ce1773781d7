"""Questions about words and the world beside their meanings: kinds, parts, opposites, examples, lists, sums, counting.

Every list of phrasings keeps its last for judging; a question has one answer.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dsv4.data.facts import Fact, counted, differences, joined, sums
from dsv4.data.language import article, held_pair, sentence
from dsv4.data.openings import BY_CHANCE, DIFFERENCE, EXAMPLE, IS_A, KIND, OPPOSITE, PART, asked_by_chance, reworded
from dsv4.data.words import CATEGORIES

if TYPE_CHECKING:
    from dsv4.data.documents import Documents

KIND_PHRASES = (
    "What kind of thing is {a}?", "what kind of thing is {}", "What sort of thing is {a}?", "{}: what kind?",
    "To what kind does {a} belong?",
)  # fmt: skip
OPPOSITE_PHRASES = (
    "What is the opposite of {}?", "opposite of {}", "What's the opposite of {}?", "Tell me the opposite of {}.",
    "Which word means the opposite of {}?",
)  # fmt: skip
IS_A_PHRASES = ("Is {} {}?", "is {} {}", "Tell me whether {} is {}.", "Would you call {} {}?")
PART_PHRASES = ("What are the parts of {a}?", "parts of {}", "Name parts of {a}.", "Which parts does {a} have?")
EXAMPLE_PHRASES = (
    "Use {} in a sentence.", "example of {}", "Give an example with {}.", "How is {} used?", "Show me how {} is used.",
)  # fmt: skip
DIFFERENCE_PHRASES = (
    "What is the difference between {a} and {b}?", "difference between {} and {other}",
    "What's the difference between {a} and {b}?", "How does {a} differ from {b}?", "In what are {a} and {b} unlike?",
)  # fmt: skip
# Kinds of questions and how often each is asked for: in training, where sentences to be known by heart need more turns,
# and where it is judged, which stays the same so that weights of different days can be compared.
SHARES = {"fact": 0.3, "kind": 0.15, "is a": 0.12, "opposite": 0.1, "part": 0.06, "example": 0.2, "number": 0.09,
          "difference": 0.06}  # fmt: skip
JUDGED = {"fact": 0.35, "kind": 0.17, "is a": 0.14, "opposite": 0.1, "part": 0.07, "example": 0.08, "number": 0.09}


class Knowledge:
    """Makes questions with their answers from the tables of some documents, with their generator."""

    def __init__(self, documents: Documents) -> None:
        self.documents, self.rng = documents, documents.rng
        self._filled: dict[str, list[int]] = {}

    def fact(self, kind: str | None = None, *, held: bool = False) -> tuple[str, str]:
        """(question, answer) of a kind, any without; `held` asks in the phrasing kept from training."""
        shares = JUDGED if held else SHARES
        while True:
            wanted = kind or self.rng.choices(tuple(shares), tuple(shares.values()))[0]
            if (found := self._made(wanted, held)) is not None:
                return found

    def _made(self, kind: str, held: bool) -> tuple[str, str] | None:
        words = self.documents.words
        if kind == "number":
            return self._of(self._number(), held)
        if kind == "fact":
            return self._of(self.facts[self.documents.deal("fact", len(self.facts))], held) if self.facts else None
        if kind == "difference":
            return self.difference(held=held)
        column = {"kind": "broader", "is a": "categories", "part": "parts"}.get(kind, kind)
        index = self._pick(column)
        if index is None:
            return None
        word, asked, value = words["word"][index], words["asked"][index], words[column][index]
        if kind == "is a":
            return self._is_a(asked, value.split("|"), held)
        forms, ways, answer = {
            "kind": (KIND_PHRASES, KIND, f"a kind of {value}"),
            "opposite": (OPPOSITE_PHRASES, OPPOSITE, value),
            "part": (PART_PHRASES, PART, joined(value.split("|"))),
            "example": (EXAMPLE_PHRASES, EXAMPLE, value),
        }[kind]
        if self._by_chance(held):
            kept = forms[-1].format(word, a=asked)
            return asked_by_chance(self.rng, ways, word, asked, held=kept), sentence(answer)
        return self._phrase(forms, held).format(word, a=asked), sentence(answer)

    def difference(self, *, held: bool = False) -> tuple[str, str] | None:
        """(question, answer): two words of one kind or category, the meaning of each; None when none share a kind.

        held: only pairs that are kept from training.
        """
        words, (narrow, wide) = self.documents.words, self._alike
        if not narrow:
            return None
        for _ in range(64):
            near = not wide or self.rng.random() < 0.6
            group = narrow[self.documents.deal("difference", len(narrow))] if near else self.rng.choice(wide)
            first, second = self.rng.sample(group, 2)
            if held_pair(words["word"][first], words["word"][second]) == held:
                break
        else:
            return None
        (word, other), (asked, b) = ([words[key][place] for place in (first, second)] for key in ("word", "asked"))
        answer = f"{self.meaning(first)} {self.meaning(second)}"
        if self._by_chance(held):
            kept = DIFFERENCE_PHRASES[-1].format(a=asked, b=b)
            return asked_by_chance(self.rng, DIFFERENCE, word, asked, held=kept, b=b, other=other), answer
        forms = DIFFERENCE_PHRASES[:1] if held else DIFFERENCE_PHRASES[:-1]  # the pair is new, the words are not
        return self.rng.choice(forms).format(word, a=asked, b=b, other=other), answer

    def meaning(self, index: int) -> str:
        """The stored meaning of a word."""
        return self.documents.tokenizer.decode([int(token) for token in self.documents.words["answer"][index]])

    @cached_property
    def _alike(self) -> tuple[list[list[int]], list[list[int]]]:
        """Words of which each is a kind of the same, and words that fall under the same category; two at least."""
        found: list[list[list[int]]] = []
        for column in ("broader", "categories"):
            groups: dict[str, list[int]] = {}
            for index, named in enumerate(self.documents.words[column]):
                for name in filter(None, named.split("|")):
                    groups.setdefault(name, []).append(index)
            found.append([group for group in groups.values() if len(group) > 1])
        return found[0], found[1]

    def _is_a(self, subject: str, own: list[str], held: bool) -> tuple[str, str]:
        yes = self.rng.random() < 0.5
        category = self.rng.choice(own if yes else [name for name in CATEGORIES if name not in own])
        kind, answer = article(category) + category, "Yes." if yes else "No."
        if self._by_chance(held):
            kept = IS_A_PHRASES[-1].format(subject, kind)
            return asked_by_chance(self.rng, IS_A, subject, subject, held=kept, kind=kind, bare=category), answer
        return self._phrase(IS_A_PHRASES, held).format(subject, kind), answer

    def _number(self) -> Fact:
        first, second = self.rng.randint(0, 50), self.rng.randint(0, 50)
        return self.rng.choice((sums, sums, differences, counted))(first, second)

    def _of(self, fact: Fact, held: bool) -> tuple[str, str]:
        if self._by_chance(held) and (asked := reworded(self.rng, fact.questions)) is not None:
            return asked, fact.answer
        return (fact.questions[-1] if held else self.rng.choice(fact.trained)), fact.answer

    def _by_chance(self, held: bool) -> bool:
        return not held and self.rng.random() < BY_CHANCE

    def _phrase(self, forms: tuple[str, ...], held: bool) -> str:
        return forms[-1] if held else self.rng.choice(forms[:-1])

    def _pick(self, column: str) -> int | None:
        """A word whose column is filled, None when there is none."""
        if column not in self._filled:
            self._filled[column] = [index for index, text in enumerate(self.documents.words[column]) if text]
        places = self._filled[column]
        return places[self.documents.deal(column, len(places))] if places else None

    @cached_property
    def facts(self) -> list[Fact]:
        """The stored facts."""
        table = self.documents.facts
        pairs = zip(table["questions"], table["answer"], strict=True)
        return [Fact(questions=tuple(asked.split("|")), answer=answer) for asked, answer in pairs]
