"""Captions read back as they were written, articles fit, and held-out rules split steadily."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4.data import facts as facts_of
from dsv4.data import openings
from dsv4.data.captions import FILM_PHRASES, questions, random_clip, random_picture, vary
from dsv4.data.documents import DEFINE_PHRASES
from dsv4.data.language import (
    GROUNDS,
    SHAPE_COLOURS,
    SHAPE_NOUNS,
    Caption,
    article,
    clashes,
    held_motion,
    held_pair,
    held_scene,
    is_shape,
    noun_phrase,
    parse,
)
from dsv4.errors import InputError
from generation.svg import SHAPE_COLOURS as SVG_COLOURS
from generation.svg.palette import rgb_of

THINGS = [
    "tiger", "ant", "grapes", "bow and arrow", "umbrella on ground", "eye in speech bubble", "hourglass", "unicorn",
    "fork and knife with plate", "face with open eyes and hand over mouth", "on! arrow", "a button (blood type)",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiger", "a tiger"), ("ant", "an ant"), ("hourglass done", "an hourglass done"), ("unicorn", "a unicorn"),
        ("euro banknote", "a euro banknote"), ("x-ray", "an x-ray"), ("one o’clock", "a one o’clock"),
        ("eight o’clock", "an eight o’clock"), ("ewe", "a ewe"), ("sos button", "an sos button"),
        ("e-mail", "an e-mail"),
        ("grapes", "grapes"), ("scissors", "scissors"), ("bacon", "bacon"), ("zzz", "zzz"), ("cactus", "a cactus"),
        ("house with garden", "a house with garden"), ("face with rolling eyes", "a face with rolling eyes"),
        ("people with bunny ears", "people with bunny ears"), ("bow and arrow", "a bow and arrow"),
        ("fork and knife", "fork and knife"), ("umbrella", "an umbrella"), ("dress", "a dress"),
        ("orange star", "an orange star"),
        ("person lifting weights", "a person lifting weights"), ("skis", "skis"), ("santa claus", "santa claus"),
    ],
)  # fmt: skip
def test_articles(name, said):
    assert noun_phrase(name) == said == article(name) + name


def captions() -> st.SearchStrategy[Caption]:
    def make(seed: int) -> Caption:
        rng = random.Random(seed)
        return random_picture(rng, THINGS) if rng.random() < 0.5 else random_clip(rng, THINGS)

    return st.integers(min_value=0, max_value=2**60).map(make)


@given(captions())
def test_a_caption_reads_back(caption):
    assert parse(caption.text(), THINGS) == caption
    assert parse(caption.sentence(), THINGS) == caption


@given(captions())
def test_no_random_scene_holds_what_is_held_out_or_cannot_be_seen(caption):
    assert not held_scene(caption.nouns)
    for noun, motion in zip(caption.nouns, caption.motions, strict=False):
        assert not held_motion(noun, motion)
    for noun in caption.nouns:
        assert not (is_shape(noun) and clashes(noun.split()[0], caption.ground))


def test_held_scenes_on_demand():
    rng = random.Random(3)
    for _ in range(40):
        assert held_scene(random_picture(rng, THINGS, held=True).nouns)
        clip = random_clip(rng, THINGS, held=True)
        if len(clip.nouns) == 1:
            assert held_motion(clip.nouns[0], clip.motions[0])
        else:
            assert held_scene(clip.nouns)


@given(captions(), st.integers())
def test_questions_are_answered_by_the_caption(caption, seed):
    rng = random.Random(seed)
    asked = questions(caption, rng, THINGS)
    assert asked[0][0] == "describe" and parse(asked[0][2], THINGS) == caption.seen()
    answers: dict[str, str] = {}
    for _, question, answer in asked:
        assert answers.setdefault(question, answer) == answer and answer.endswith(".")
    unseen = {question for _, question, _ in questions(caption, rng, THINGS, held=True)}
    assert not unseen & set(answers)


def test_what_an_onlooker_says():
    caption = Caption(nouns=("tiger", "ant"), relation="below", ground="orange", flat=True)
    assert caption.text() == "a tiger below an ant on an orange background, flat style"
    assert caption.seen().text() == "an ant above a tiger on an orange background, flat style"
    assert Caption(nouns=("blue circle",), count=3).text() == "three blue circles"
    assert (
        Caption(nouns=("tiger", "ant"), motions=("spinning", "bouncing")).text()
        == "a tiger spinning and an ant bouncing"
    )
    assert Caption(nouns=("tiger", "ant", "grapes")).text() == "a tiger, an ant and grapes"


def test_a_wrong_caption_is_refused_with_the_nearest_thing():
    with pytest.raises(InputError, match="'tiger'"):
        parse("a tigger", THINGS)
    with pytest.raises(InputError):
        parse("an tiger", THINGS)
    with pytest.raises(ValueError, match="relation"):
        Caption(nouns=("tiger",), relation="above")


def test_one_ground_stands_out_from_every_shape():
    for colour in SHAPE_COLOURS:
        assert not clashes(colour, "white")
    assert clashes("red", "red") and len(GROUNDS) == 16 and len(SHAPE_NOUNS) == 54


def test_shape_colours_are_those_of_the_svg_side():
    assert SHAPE_COLOURS == {name: rgb_of(paint) for name, paint in SVG_COLOURS.items()}


def test_held_out_is_steady_symmetric_and_about_a_tenth():
    shares = [held_pair(f"thing {n}", f"other {n}") for n in range(4000)]
    assert 0.08 < sum(shares) / len(shares) < 0.12
    assert all(held_pair(a, b) == held_pair(b, a) for a in THINGS for b in THINGS)


def test_variants_keep_the_caption():
    rng = random.Random(0)
    said = {vary(rng, "a tiger spinning", FILM_PHRASES) for _ in range(300)}
    assert "a tiger spinning" in said and "animate a tiger spinning" in said and "A tiger spinning." in said
    assert all("a tiger spinning" in text.lower() for text in said)


def test_questions_put_together_by_chance_keep_what_is_held_out():
    rng = random.Random(0)
    held = DEFINE_PHRASES[-1].format("heron")
    asked = {openings.asked_by_chance(rng, openings.DEFINITION, "heron", "a heron", held=held) for _ in range(4000)}
    assert len(asked) > 800
    assert all("heron" in question for question in asked)
    assert not [question for question in asked if held.rstrip("?").lower() in question.lower()]


def test_stored_facts_are_asked_in_many_ways_and_never_as_they_are_judged():
    rng = random.Random(0)
    lists = {
        "countries with capitals": {"countries": [{"name": "Peru", "capital": "Lima"}]},
        "us state capitals": {"capitals": [{"state": "Oregon", "capital": "Salem"}]},
        "elements": {"elements": [{"name": "Iron", "atomic_number": 26, "symbol": "Fe"}]},
        "web colors": {"colors": [{"color": "Ivory", "hex": "#FFFFF0"}]},
        "collateral adjectives": {"animals": [{"name": "dove", "collateral_adjectives": ["columbine"]}]},
        "fruits": {"fruits": ["apple", "fig", "plum"]},
    }
    facts = facts_of.read_facts({"list": name, "data": data} for name, data in lists.items())
    assert len(facts) == 8
    facts += [facts_of.sums(3, 4), facts_of.differences(9, 4), facts_of.counted(2, 3)]
    for fact in facts:
        asked = {openings.reworded(rng, fact.questions) for _ in range(2000)}
        assert len(asked) > 300
        held = fact.questions[-1].rstrip("?.").lower()
        assert not [question for question in asked if held in question.lower()]
    assert openings.reworded(rng, ("Who are you?",)) is None
