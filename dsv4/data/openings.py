"""Questions put together by chance from an opening, a way of asking, and an ending, so that no part of them is fixed.

Whole sentences teach a model with hashed n-grams the sentences: what stands behind "What is" is the word. Where what
stands around a word changes all the time, only the word itself is left to go by (docs/log.md, 2026-11-29).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How one thing is asked for: `telling` stands behind a wish, `asking` is a question of its own.

    `{}` is the bare word, `{a}` has its article, other names are the question's own.
    """

    telling: tuple[str, ...]
    asking: tuple[str, ...]


CONTRACTED = 0.2  # of the questions with "what is", which people shorten, often without an apostrophe
BY_CHANCE = 0.5  # of the questions for which there are ways
OPENINGS = (
    "", "please ", "hey, ", "can you ", "could you ", "would you ", "can you please ", "I would like you to ", "now ",
    "do me a favour and ", "quickly ", "go on, ", "so, ", "would you kindly ", "will you ", "I need you to ", "just ",
)  # fmt: skip
WONDERING = ("", "", "", "so ", "and ", "well, ", "hello, ", "hi, ", "one question: ", "say, ", "I ask myself, ")
ENDINGS = ("", "", "", "?", "?", ".", " please", " please?", ", thanks", " for me", " in short", " to me")
DEFINITION = Ways(
    telling=(
        "explain {}", "explain {a}", "explain the word {}", "explain what {a} is", "explain what {} means", "define {}",
        "define the word {}", "tell me about {a}", "tell me what {a} is", "tell me what {} means", "say what {} means",
        "say what {a} is", "give the meaning of {}", "give me the meaning of {}", "give a definition of {}",
        "look up {}", "put {} into other words", "help me understand {}", "teach me what {} means", "describe {a}",
        "remind me what {a} is",
    ),
    asking=(
        "what is understood by {}", "what do people mean by {}", "what does one understand by {}",
        "what is the meaning of {}", "what is the sense of {}", "what exactly is {a}", "what on earth is {a}",
        "what would be {a}", "what might {} mean", "what can {} mean", "what does {} stand for",
        "what is this thing, {a}", "how would you define {}", "how do you explain {}", "which meaning has {}",
        "what is {a} supposed to be", "what is it that {} means", "what is {how}{seen} by {}",
        "what is {how}{seen} by {}",
        "what is {how}{seen} by {}", "what is {how}{seen} by the word {}", "what is {how}to be {seen} by {}",
        "what is {seen} with {}", "what is {how}{seen} as {}", "what {how}is {a}", "what was {seen} by {}",
        "do you know what {a} is", "do you know the word {}",
        "I wonder what {} means", "I want to know what {a} is",
    ),
)  # fmt: skip
# A meaning asked for by a verb that says nothing: see `participle`.
WORDED = Ways(
    telling=("tell me what is {seen} by {}", "say what is {how}{seen} by {}"),
    asking=(
        "what is {how}{seen} by {}", "what is {seen} by {}", "what is {seen} by {}", "what is {seen} by {}",
        "what is {how}{seen} by the word {}", "what is {seen} with {}", "what is {how}{seen} as {}",
        "what was {seen} by {}", "what gets {seen} by {}", "what has been {seen} by {}", "what is {seen} when {}",
        "what is {seen} under {}", "what is {seen} in {}",
    ),
)  # fmt: skip
# Words that stand in a frame by chance: whichever word stands there is not the one that is asked for.
_SLOTS = {
    "seen": (  # "what is understood by"
        "understood", "intended", "signified", "denoted", "expressed", "described", "implied", "referred to", "said",
        "named", "called", "conveyed", "suggested", "designated", "indicated", "covered", "labelled", "characterised",
        "thought of", "included", "known", "identified", "represented", "told", "pictured",
    ),
    "how": ("", "", "", "really ", "usually ", "commonly ", "generally ", "properly ", "actually ", "mostly ",
            "exactly ", "in fact ", "then ", "here "),
    "show": ("show", "show us", "tell me", "tell us", "let me see", "let us see", "let me know", "demonstrate",
             "explain to me", "teach me", "write down", "remind me", "help me see", "illustrate", "describe", "say"),
    "gets": ("is", "is", "gets", "can be", "may be", "might be", "should be", "would be", "is often", "is best",
             "is really", "is properly", "is usually"),
    "used": ("used", "used", "used in speech", "used in a sentence", "employed", "applied", "put to use", "said",
             "written", "spoken", "handled", "worked into a sentence", "placed", "used by people"),
    "use": ("use", "employ", "say", "write", "apply", "handle", "speak of"),
    "uses": ("uses", "employs", "says", "writes", "applies", "handles", "speaks of"),
    "whose": ("whose", "whose", "what element's", "which element's", "what substance's", "which one's"),
    "mark": ("symbol", "sign", "abbreviation", "short form", "mark", "short name", "letters", "chemical sign",
             "element symbol", "code"),
    "would": ("would", "could", "can", "might", "should", "may", "will"),
    "suits": ("suits", "goes with", "is used for", "describes", "fits", "is made from", "comes from", "is right for",
              "speaks of", "is formed of", "matches", "is said of"),
    "count": ("belong", "count", "go", "fall", "amount", "lead", "get sorted"),
    "name": ("call", "name", "consider", "think", "label", "count", "believe", "take", "term", "describe"),
    "which": ("which", "what", "which other", "what other", "which single", "what one"),
    "says": ("is", "says", "has", "expresses", "stands for",
             "conveys", "names", "gives", "denotes", "states", "is for"),
    "join": ("add", "add up", "sum", "put", "total", "join", "combine", "add together", "count", "sum up"),
    "with": ("and", "and", "to", "with", "plus"),
    "drop": ("take away", "subtract", "remove", "deduct", "drop", "cut", "strike", "count", "get", "lose", "lift"),
}  # fmt: skip
KIND = Ways(
    telling=(
        "tell me what kind of thing {a} is", "say what sort of thing {a} is", "name the kind of {}",
        "say to which kind {a} belongs", "tell me the kind of {}", "tell me what {a} is a kind of", "sort {}",
        "give me a broader word for {}", "name something broader than {}",
    ),
    asking=(
        "what kind is {a}", "which kind of thing is {a}", "what sort is {a}", "what group does {a} belong to",
        "to which group does {a} belong", "to what group {would} {a} belong", "to what class does {a} {count}",
        "to which sort of thing does {a} {count}", "to what does {a} {count}",
        "what is {a} a kind of", "{a} is a kind of what", "which class does {a} fall into", "what type of thing is {a}",
        "under which kind does {a} fall", "what broader word is there for {}", "of what kind is {a}",
    ),
)  # fmt: skip
OPPOSITE = Ways(
    telling=(
        "tell me the opposite of {}", "give me the opposite of {}", "name the opposite of {}",
        "say the contrary of {}", "find the antonym of {}", "turn {} into its opposite", "give the antonym of {}",
        "tell me what is opposite to {}", "say what the opposite of {} is",
    ),
    asking=(
        "what is the antonym of {}", "what is the contrary of {}", "{which} word {says} the opposite of {}",
        "{which} word {says} the contrary of {}", "{which} word {says} what {} does not",
        "which word is the opposite of {}",
        "what word is opposite to {}", "what would be the opposite of {}", "what is the word opposite to {}",
        "do you know the opposite of {}", "{} is the opposite of what", "what is meant if not {}",
    ),
)  # fmt: skip
PART = Ways(
    telling=(
        "name the parts of {a}", "list the parts of {a}", "tell me the parts of {a}", "say what parts {a} has",
        "tell me what parts make up {a}", "give me some parts of {a}", "take {a} apart",
    ),
    asking=(
        "what parts has {a}", "what does {a} consist of", "what are some parts of {a}", "which pieces has {a}",
        "which parts make up {a}", "what parts does {a} have", "what is part of {a}", "{a} has which parts",
    ),
)  # fmt: skip
EXAMPLE = Ways(
    telling=(
        "give me a sentence with {}", "make a sentence with {}", "use the word {} in a sentence",
        "give an example of how {} is used", "write a sentence with {}", "tell me how to use {}",
        "show me {} in a sentence", "put {} into a sentence", "give me an example of {}",
        "{show} how {} {gets} {used}", "{show} how {} {gets} {used}", "{show} how {} {gets} {used}",
        "{show} how the word {} {gets} {used}", "{show} how one {uses} {}", "{show} how people {use} {}",
        "{show} {} as it {gets} {used}", "{show} the way {} {gets} {used}",
    ),
    asking=(
        "how do you use {}", "how would you use {} in a sentence", "what is an example of {}",
        "what is a sentence with {}", "how do people use the word {}", "where would one use {}",
        "which sentence has {} in it", "how {gets} {} {used}", "where {gets} {} {used}", "when {gets} {} {used}",
        "how do people {use} {}", "I wish to see how {} {gets} {used}", "do you know how {} {gets} {used}",
    ),
)  # fmt: skip
DIFFERENCE = Ways(
    telling=(
        "{show} the difference between {a} and {b}", "{show} how {a} differs from {b}", "compare {a} and {b}",
        "compare {a} with {b}", "tell {a} from {b}", "tell {a} and {b} apart", "contrast {a} and {b}",
        "explain {a} and {b}", "define {} and {other}", "{show} what {a} and {b} are",
    ),
    asking=(
        "what is the difference between {a} and {b}", "how does {a} differ from {b}", "how is {a} not {b}",
        "what tells {a} from {b}", "what sets {a} apart from {b}", "{a} and {b}, what is the difference",
        "is {a} the same as {b}", "what are {a} and {b}", "how {would} I tell {a} from {b}", "{} or {other}",
        "what makes {a} different from {b}", "how do {} and {other} differ",
    ),
)  # fmt: skip
IS_A = Ways(
    telling=(
        "tell me whether {a} is {kind}", "tell me if {a} is {kind}", "say whether {a} is {kind}",
        "decide whether {a} is {kind}", "tell me: is {a} {kind}", "say if {a} counts as {kind}",
    ),
    asking=(
        "is {a} {kind}", "could {a} be {kind}", "{would} you {name} {a} {kind}", "{would} people {name} {a} {kind}",
        "{would} one {name} {a} {kind}", "does one {name} {a} {kind}", "should I {name} {a} {kind}",
        "does {a} count as {kind}", "would you say that {a} is {kind}",
        "can {a} be called {kind}", "do people call {a} {kind}", "is it true that {a} is {kind}",
        "am I right that {a} is {kind}", "is {a} some kind of {bare}", "{a} is {kind}, right",
    ),
)  # fmt: skip
_CLAUSE = Ways(
    telling=(
        "tell me {}", "give me {}", "say {}", "look up {}", "find {}", "find out {}", "remind me of {}",
        "say what {} is", "tell me what {} is", "let me know {}",
    ),
    asking=(
        "what is {}", "what's {}", "what would be {}", "do you know {}", "do you remember {}", "what was {} again",
        "I need {}", "I wish to know {}", "{}", "{} is what", "I forgot {}",
    ),
)  # fmt: skip
# Facts that are stored as sentences: what the first one asks, and further ways to ask it.
_STORED = (
    (r"What is the capital of (.+)\?", Ways(
        telling=("name the capital of {}", "name the capital city of {}", "tell me which town is the capital of {}"),
        asking=("what city is the capital of {}", "which town is the capital of {}", "what is {}'s capital",
                "{} has which capital", "which capital has {}", "what is the capital city of {}"),
    )),
    (r"What is the symbol of (.+)\?", Ways(
        telling=("name the symbol of {}", "say how {} is abbreviated"),
        asking=("what symbol does {} have", "which symbol stands for {}", "what symbol has {}",
                "how is {} written in short", "what stands for {} in chemistry"),
    )),
    (r"What is the atomic number of (.+)\?", Ways(
        telling=("name the atomic number of {}", "tell me which number {} has"),
        asking=("what atomic number does {} have", "what number has {}", "which number does {} have among the elements",
                "how many protons has {}"),
    )),
    (r"Which element has the symbol (.+)\?", Ways(
        telling=("tell me which element has the symbol {}", "name the element with the symbol {}",
                 "say which element {} is"),
        asking=("what element has the symbol {}", "which element is {}", "{} is the symbol of which element",
                "what does the symbol {} stand for", "to which element belongs the symbol {}",
                "{whose} {mark} is {}", "{whose} {mark} is {}", "{whose} {mark} {would} be {}",
                "{whose} {mark} does {} stand for", "{} is {whose} {mark}", "of what is {} the {mark}",
                "of which element is {} the {mark}", "what has {} as its {mark}",
                "what goes by the {mark} {}", "what is written {}"),
    )),
    (r"What is the hex code of (.+)\?", Ways(
        telling=("name the hex code of {}", "write {} as a hex code"),
        asking=("what hex code does {} have", "what code has {} in hex", "how is {} written in hex",
                "what is {} in hex"),
    )),
    (r"What is the adjective for (.+)\?", Ways(
        telling=("name the adjective for {}", "turn {} into an adjective"),
        asking=("what adjective goes with {}", "which adjective is there for {}", "what adjective does {} have",
                "what adjective means like {}", "which adjective {suits} {}", "what adjective {suits} {}",
                "what word {suits} {} as an adjective"),
    )),
    (r"Name three (.+)\.", Ways(
        telling=("name three {}", "name me three {}", "list three {}", "give me three {}", "tell me three {}",
                 "give three examples of {}", "think of three {}"),
        asking=("what are three {}", "which three {} do you know", "do you know three {}", "three {}",
                "what three {} come to mind"),
    )),
    (r"What is (\d+) plus (\d+)\?", Ways(
        telling=("add {} to {second}", "add up {} and {second}", "sum {} and {second}", "work out {} + {second}",
                 "put {} and {second} together", "{join} {} {with} {second}", "{join} {} {with} {second}",
                 "tell me the sum of {} and {second}", "calculate {} plus {second}"),
        asking=("what is the sum of {} and {second}", "how much is {} plus {second}", "how much is {} and {second}",
                "what do {} and {second} make", "what is {} + {second}", "how many are {} and {second}"),
    )),
    (r"What is (\d+) minus (\d+)\?", Ways(
        telling=("subtract {second} from {}", "take away {second} from {}", "work out {} - {second}",
                 "tell me {} less {second}", "calculate {} minus {second}", "remove {second} from {}",
                 "{drop} {second} from {}", "{drop} {second} from {}"),
        asking=("how much is {} minus {second}", "what is {} less {second}", "what is {} - {second}",
                "what is left of {} without {second}", "how much more than {second} is {}"),
    )),
    (r"Count from (\d+) to (\d+)\.", Ways(
        telling=("count from {} to {second}", "list the numbers from {} to {second}",
                 "count the numbers {} to {second}", "say the numbers from {} to {second}",
                 "count on from {} till {second}"),
        asking=("which numbers go from {} to {second}", "what numbers are there from {} to {second}",
                "how does one count from {} to {second}"),
    )),
)  # fmt: skip


def asked_by_chance(
    rng: random.Random, ways: Ways, word: str, with_article: str = "", *, held: str = "", **named: str
) -> str:
    """A question of parts chosen by chance; `held`, a question kept for judging, is never part of what is asked."""
    kept = _bare(held)
    while True:
        wish = rng.random() < len(ways.telling) / (len(ways.telling) + len(ways.asking))
        begun, said = rng.choice(OPENINGS if wish else WONDERING), rng.choice(ways.telling if wish else ways.asking)
        filled = {"a": with_article, **{slot: rng.choice(words) for slot, words in _SLOTS.items()}, **named}
        asked = begun + said.format(word, **filled) + rng.choice(ENDINGS)
        if rng.random() < CONTRACTED:
            asked = asked.replace("what is ", rng.choice(("what's ", "whats ")), 1)
        if not kept or kept not in _bare(asked):
            return asked


def participle(verb: str) -> str:
    """The past participle of a verb by the rule; what an irregular one gets is no word, and says as little."""
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2:-1] not in "aeiou" else verb + "ed"


def reworded(rng: random.Random, questions: tuple[str, ...]) -> str | None:
    """The question behind `questions` put in parts chosen by chance; None when its kind is not known.

    The first of the questions says which kind it is; the last is kept for judging.
    """
    for pattern, ways in _STORED:
        if found := re.fullmatch(pattern, questions[0]):
            named = {"second": found[2]} if found.re.groups > 1 else {}
            clause = questions[0].startswith("What is the ")
            if clause and rng.random() < 0.5:
                return asked_by_chance(rng, _CLAUSE, questions[0][8:-1], held=questions[-1])
            return asked_by_chance(rng, ways, found[1], held=questions[-1], **named)
    return None


def _bare(text: str) -> str:
    return text.lower().rstrip("?. ")
