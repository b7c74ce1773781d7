"""Plain facts as questions and answers: capitals, elements, planets, lists, sums, and how the model speaks of itself.

Several questions may share an answer; a question has exactly one. The last phrasing of a fact is kept for judging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsv4.data.language import sentence


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One answer and the questions that lead to it, the last of which is held out when there are several."""

    questions: tuple[str, ...]
    answer: str

    @property
    def trained(self) -> tuple[str, ...]:
        """The phrasings that training may use."""
        return self.questions[:-1] if len(self.questions) > 1 else self.questions


MANNERS = (
    (
        "I am a small model that reads, draws, paints, animates and explains a closed world of things and words.",
        "who are you|what are you|what is your name|tell me about yourself|introduce yourself|are you human"
        "|are you a robot|who is this",
    ),
    (
        "I can draw icons and things as SVG, paint pictures, make short clips, describe pictures of my world "
        "and explain words. Try: a red heart icon, a tiger, or: What is a heron?",
        "what can you do|help|how can you help me|what do you know|what should I ask|what are you good at"
        "|what can I ask you|give me an example",
    ),
    ("Hello! Ask me for a drawing, a picture, a clip or the meaning of a word.", "hello|hi|hey|good morning|hi there"),
    ("You are welcome.", "thanks|thank you|thank you very much|thanks a lot|many thanks"),
    ("Goodbye!", "bye|goodbye|see you|good night|see you later"),
    ("I am well, thank you. What shall I draw or explain?", "how are you|how do you do|are you well|how is it going"),
    (
        "I learned 1,406 things, 17,000 icons and the meanings of 77,000 words, all from open sources.",
        "what did you learn|how much do you know|what were you trained on|where is your knowledge from"
        "|how many words do you know",
    ),
    (
        "I cannot do that: my world is drawings, pictures, clips and the meanings of words.",
        "write an essay|write me a poem|tell me a joke|tell me a story|write some code|translate this|sing a song"
        "|book a flight|play some music|write a letter|solve this equation|summarise this article|call my mother"
        "|what should I wear|give me some advice|write a python program",
    ),
    (
        "I do not know what happens in the world now. Ask me about a word or for a drawing.",
        "what is the weather today|what time is it|what day is it|who is the president|what is the news"
        "|how old am I|what is the stock price|who won the game|where am I|what year is it",
    ),
    (
        "There is no picture here. Add one and ask again.",
        "what is in this picture|what do you see|describe this picture|what does the picture show"
        "|what is in the image|what does it say|read the text",
    ),
    (
        "I do not know you. I keep nothing of what is said.",
        "do you know me|who am I|what is my name|do you remember me",
    ),
)
# Said beside these since the tokenizer was made, whose texts must stay as they are: the weights know no other.
LATER = {
    "You are welcome.": "ok thanks|great, thank you|thanks, that was nice|that was lovely, thank you|nice work"
    "|that is all, thanks|well done|thanks for the picture|you helped me, thanks|thank you for that|good, thanks"
    "|that was great",
}
UNKNOWN_WORD = "I do not know that word."
_LISTS = (
    ("fruits", "fruits", "fruits"), ("vegetables", "vegetables", "vegetables"), ("instruments", "instruments",
     "musical instruments"), ("oceans", "oceans", "oceans"), ("planets", "planets", "planets"),
    ("gemstones", "gemstones", "gemstones"), ("metals", "metals", "metals"), ("flowers", "flowers", "flowers"),
    ("dinosaurs", "dinosaurs", "dinosaurs"), ("dogs", "dogs", "dog breeds"), ("greek gods", "greek_gods", "Greek gods"),
    ("clothing", "clothes", "pieces of clothing"), ("containers", "containers", "containers"),
    ("rooms", "rooms", "rooms"), ("sports", "sports", "sports"), ("common", "animals", "animals"),
    ("breads and pastries", "breads", "breads"), ("winds", "winds", "winds"), ("fabrics", "fabrics", "fabrics"),
    ("appliances", "appliances", "appliances"), ("knots", "knots", "knots"), ("tea", "teas", "teas"),
    ("bodyParts", "bodyParts", "parts of the body"), ("occupations", "occupations", "occupations"),
)  # fmt: skip


def read_facts(rows: Iterable[Mapping[str, Any]]) -> list[Fact]:
    """Facts from the lists; lists that are missing are passed over."""
    data = {row["list"]: row["data"] for row in rows}
    facts = [*_capitals(data), *_elements(data), *_colours(data), *_name_three(data), *_adjectives(data)]
    seen: set[str] = set()
    return [fact for fact in facts if not (fact.questions[0] in seen or seen.add(fact.questions[0]))]


def manners(*, later: bool = True) -> list[Fact]:
    """Greetings, what the model is, and what it will not do; `later` False: those of its tokenizer."""
    found = []
    for answer, asked in MANNERS:
        *first, last = asked.split("|")
        more = LATER[answer].split("|") if later and answer in LATER else ()
        found.append(Fact(questions=tuple(map(sentence_of, (*first, *more, last))), answer=answer))
    return found


def sentence_of(question: str) -> str:
    """A capital, and a question mark when it asks."""
    first = question.split()[0]
    asks = first in ("who", "what", "how", "are", "where", "do", "is")
    return question[:1].upper() + question[1:] + ("?" if asks else "")


def sums(first: int, second: int) -> Fact:
    """The sum of two numbers."""
    asked = (
        f"What is {first} plus {second}?",
        f"{first} + {second}",
        f"{first} plus {second}?",
        f"Add {first} and {second}.",
    )
    return Fact(questions=asked, answer=f"{first + second}.")


def differences(first: int, second: int) -> Fact:
    """The larger of two numbers less the smaller."""
    high, low = max(first, second), min(first, second)
    asked = (f"What is {high} minus {low}?", f"{high} - {low}", f"{high} minus {low}?", f"Take {low} from {high}.")
    return Fact(questions=asked, answer=f"{high - low}.")


def counted(first: int, second: int) -> Fact:
    """Counting from one number on, at most ten steps."""
    last = first + second % 9 + 1
    asked = (f"Count from {first} to {last}.", f"count {first} to {last}", f"Count up from {first} to {last}.")
    return Fact(questions=asked, answer=f"{joined([str(number) for number in range(first, last + 1)])}.")


def _capitals(data: Mapping[str, Any]) -> Iterator[Fact]:
    pairs = [(row["name"], row["capital"]) for row in data.get("countries with capitals", {}).get("countries", ())]
    pairs += [(row["state"], row["capital"]) for row in data.get("us state capitals", {}).get("capitals", ())]
    for place, capital in pairs:
        if capital:
            asked = (
                f"What is the capital of {place}?", f"capital of {place}", f"What's the capital of {place}?",
                f"Tell me the capital of {place}.", f"Which city is the capital of {place}?",
            )  # fmt: skip
            yield Fact(questions=asked, answer=f"{capital}.")


def _elements(data: Mapping[str, Any]) -> Iterator[Fact]:
    for row in data.get("elements", {}).get("elements", ()):
        name, number, symbol = row["name"].lower(), row["atomic_number"], row["symbol"]
        yield Fact(
            questions=(
                f"What is the symbol of {name}?", f"What is the chemical symbol for {name}?", f"symbol of {name}",
                f"Which symbol does {name} have?",
            ),
            answer=f"{symbol}.",
        )  # fmt: skip
        yield Fact(
            questions=(
                f"What is the atomic number of {name}?", f"atomic number of {name}", f"Which atomic number has {name}?",
            ),
            answer=f"{number}.",
        )  # fmt: skip
        yield Fact(
            questions=(
                f"Which element has the symbol {symbol}?",
                f"What element is {symbol}?",
                f"Whose symbol is {symbol}?",
            ),
            answer=sentence(name),
        )


def _colours(data: Mapping[str, Any]) -> Iterator[Fact]:
    for row in data.get("web colors", {}).get("colors", ()):
        name = row["color"]
        asked = (f"What is the hex code of {name}?", f"hex code of {name}", f"Which hex code has {name}?")
        yield Fact(questions=asked, answer=f"{row['hex']}.")


def _adjectives(data: Mapping[str, Any]) -> Iterator[Fact]:
    for row in data.get("collateral adjectives", {}).get("animals", ()):
        words = row["collateral_adjectives"]
        if words:
            name = row["name"]
            asked = (f"What is the adjective for {name}?", f"Which adjective belongs to {name}?")
            yield Fact(questions=asked, answer=sentence(words[0]))


def _name_three(data: Mapping[str, Any]) -> Iterator[Fact]:
    for name, key, said in _LISTS:
        items = [row["name"] if isinstance(row, Mapping) else row for row in data.get(name, {}).get(key, ())]
        if len(items) >= 3:
            asked = (f"Name three {said}.", f"name 3 {said}", f"Tell me three {said}.", f"Can you name three {said}?")
            yield Fact(questions=asked, answer=sentence(joined(items[:3])))


def joined(items: Sequence[str]) -> str:
    """Items with commas and a last "and"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}"
