"""Mistyped words read as those that were meant: each slip, what is never touched, and the names around a word."""

import re
import time

import pytest

from dsv4._parts import asset
from dsv4.messages import Message, Repo
from dsv4.spelling import FILE, Corrected, Speller, packed_list, told

NAMES = (
    "4heron", "5tiger", "5shrimp", "4sewing machine", "4sewing", "4machine", "3heart icon", "4Paris", "4paris green",
    "2circle check", "2check", "2circle", "3heart", "cdraw", "8what", "8defin", "0whose", "1raised fist", "4fist",
    "4elephant", "4giraffe", "-lorry", "4lory", "4black", "4block", "4happen", "4stop", "8please", "4butterfly",
)  # fmt: skip


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller.of(packed_list(NAMES))


@pytest.fixture(scope="module")
def shipped() -> Speller:
    return Speller.of((asset("nano") / FILE).read_bytes())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("a tigre", "a tiger"),  # swapped
        ("a tger", "a tiger"),  # left out
        ("a tigger", "a tiger"),  # doubled
        ("a tifer", "a tiger"),  # the key beside
        ("a srimp", "a shrimp"),
        ("what is a herno?", "what is a heron?"),
        ("a hern", "a heron"),  # the last letter left out
        ("a sewign machine", "a sewing machine"),
        ("an elefant", "an elephant"),  # as it sounds
        ("a girrafe", "a girrafe"),  # two slips are not one
        ("Waht is a heron?", "What is a heron?"),  # the first word of a sentence may be a word of requests
        ("hwat is a heron", "what is a heron"),
        ("the herno's wing", "the heron's wing"),
        ("the colour of pariis", "the colour of paris"),  # known without a capital too
        ("draw a tigre. what is a herno?", "draw a tiger. what is a heron?"),
        ("draw a herno", "draw a herno"),  # no drawing shows one
    ],
)
def test_one_slip_is_read_as_what_was_meant(speller, typed, meant):
    assert speller.correct(typed).text == meant


@pytest.mark.parametrize(
    "text",
    [
        "a tiger and a heron", "herons stopped happening", "the lorry",  # known, forms of known, known to others
        "a big Tigre", "Tigre", "TIGRE", "tiGre",  # capitals
        'draw a "tigre"', "draw a “tigre”", "say 'tigre' twice", "`tigre`", "```\ntigre herno\n```", "<tigre>",
        "tigre2", "h3rno", "tig_re", "tigre=1", "https://example.org/tigre", "a@tigre.org", "src/tigre.py", "tigre.svg",
        "tge", "an zzyzx", "they tigre't", "café tigré", "", "?", "x" * 3000, "x" * 1900, "tigr" + "e" * 1900,
        "tigre " * 500,
    ],
)  # fmt: skip
def test_what_is_good_or_marked_or_long_is_never_touched(speller, text):
    assert speller.correct(text) == Corrected(text) == speller.correct(text, drawing=True)


def test_names_around_a_word_decide(speller):
    assert speller.correct("a blck").text == "a black"  # both are as likely, and the same one is always taken
    assert speller.correct("a circle chevk icon", drawing=True).text == "a circle check icon"
    assert speller.correct("a rased fist", drawing=True).text == "a raised fist"
    assert speller.correct("a hapen", drawing=True) == Corrected("a hapen")  # no drawing has that word
    assert speller.correct("what is hapen").text == "what is happen"


def test_a_good_word_gives_way_to_a_longer_name_of_a_drawing_only():
    speller = Speller.of(
        packed_list(["1cooked rice", "4rice", "0coked", "4pieces of eight", "0piece", "1piece of cake"])
    )
    assert speller.correct("coked rice", drawing=True).changes == (("coked", "cooked"),)
    assert (
        not speller.correct("what is coked rice?").changes and not speller.correct("a coked dish", drawing=True).changes
    )
    assert not speller.correct("pieces of cake", drawing=True).changes  # a form of the word is no slip


def test_what_was_changed_is_told():
    changes = Speller.of(packed_list(NAMES)).correct("a tigre and a herno").changes
    assert changes == (("tigre", "tiger"), ("herno", "heron"))
    assert told(dict(changes)).startswith("I read “tigre” as “tiger” and “herno” as “heron”.") and told({}) == ""


def test_a_conversation_is_read_every_time_as_it_was_when_it_was_new(speller):
    turns = ["draw a tigre", "what is a herno", "now a srimp"]
    history: list[Message] = []
    before: list[str] = []
    for turn in turns:
        read, seen = speller.conversation(turn, (), history)
        said = [one.text for one in seen if one.role == "user"]
        assert said == before, "what the model was told of earlier turns has changed"
        assert dict(read.changes).keys() == {turn.split()[-1]}  # only the newest is told
        before.append(read.text)
        history += [Message.said("user", turn), Message.said("assistant", "a tigre")]
    assert seen[1].text == "a tigre", "what the model said is not for us to change"


def test_names_in_a_repository_are_not_corrected(speller, tmp_path):
    shown = Repo(source=tmp_path)
    assert speller.conversation("where is tigre", (shown,), ()) == (Corrected("where is tigre"), ())
    history = (Message.said("user", "where is herno", shown),)
    assert speller.conversation("and tigre", (), history) == (Corrected("and tigre"), history)


def test_no_list_changes_nothing():
    assert Speller.of(b"").correct("a tigre") == Corrected("a tigre")


def test_the_list_has_the_same_bytes_for_the_same_names():
    assert packed_list(NAMES) == packed_list(reversed([*NAMES, NAMES[0]]))


def test_the_shipped_list_knows_its_world_and_is_quick(shipped):
    begun = time.perf_counter()
    assert shipped.correct("What is a herno?").text == "What is a heron?"
    loaded = time.perf_counter()
    typed = [f"draw a{' very' * number} tigre and a strawbery to the left of a srimp" for number in range(20)]
    for text in typed:
        assert len(shipped.correct(text).changes) == 3
    assert (
        loaded - begun < 3 and (time.perf_counter() - loaded) / len(typed) < 0.05
    )  # a tenth of it where nobody else is
    long = " ".join(f"qzx{chr(97 + number % 26)}v" for number in range(330))
    begun = time.perf_counter()
    shipped.correct(long)
    assert time.perf_counter() - begun < 3


@pytest.mark.parametrize(
    "text",
    [
        "What is the plot of hamlet?", "write a python program", "whats the weather like today", "i dont know you",
        "outline heart icon, lucide", "Show me how tapered is used.", "draw pikachu with spiderman",
        "an otter swims gracefully beneath the frozen lake while dreamers overlook its beauty",
    ],
)  # fmt: skip
def test_the_shipped_list_leaves_good_requests_alone(shipped, text):
    assert not shipped.correct(text).changes and not shipped.correct(text, drawing=True).changes


def test_every_word_of_the_phrasings_is_known_to_the_shipped_list(shipped):
    """Where a phrasing is added whose words the list does not have: see `python -m dsv4.data.spelling_list --help`."""
    from dsv4.data.spelling_list import asked_words

    assert not [word for word in asked_words() if not shipped.knows(word)]
    assert not [word for word in asked_words() if re.search("[^a-z]", word)]


@pytest.mark.parametrize(
    ("asked", "untaught"),
    [
        ("What is a lighthouse?", ("lighthouse",)),  # an icon, and in no dictionary of nano's
        ("whats the difference between a frog and a toad", ("toad",)),
        ("What does blorf mean?", ("blorf",)),
        ("define toad", ("toad",)),
        ("What is a heron?", ()),
        ("What are geese?", ()),
        ("What is the capital of France?", ()),
        ("what are you", ()),
        ("draw a lighthouse", ()),  # no question for a meaning
        ("", ()),
    ],
)
def test_a_meaning_that_was_never_taught_is_known_as_such(shipped, asked, untaught):
    assert shipped.untaught(asked) == untaught


def test_what_was_never_taught_is_said_beside_what_was_read(speller):
    read, _ = speller.conversation("What is a herno?", (), ())
    assert (read.changes, read.untaught) == ((("herno", "heron"),), ())
    read, _ = speller.conversation("What is a zebra?", (), ())
    assert read.untaught == ("zebra",) and Speller.of(b"").untaught("What is a zebra?") == ()
    said = told({"srimp": "shrimp"}, ["zebra", "gnu"])
    assert said.startswith("I read “srimp” as “shrimp”.")
    assert said.endswith(
        "“zebra” and “gnu” are not in the dictionary that I learnt: what I say of them may be made up."
    )
