"""Conversations: they call for what training draws and paints, change only what was said, hold out what is judged."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from dsv4.chat_format import TASKS, Call, chat_ids
from dsv4.data import wishes
from dsv4.data.documents import Documents
from dsv4.data.language import Caption, held_colour, held_motion, held_pair, held_scene, parse
from dsv4.data.openings import participle
from dsv4.data.refusals import ANSWERS, refusal
from dsv4.data.talk import ASK_FOR, CHANGES, Talks
from dsv4.data.typing_errors import mistyped
from dsv4.data.wishes import IconWish, SceneWish


@pytest.fixture(scope="module")
def documents(text_world) -> Documents:
    return Documents(text_world, seed=3)


def test_calls_are_requests_that_training_knows(documents):
    names = set(documents.scene_names)
    icon = re.compile(r"(?:(?:two|three|four) )?(.+?) icons?(?: in a (?:circle|square)| and (.+) icon)?")
    kinds = set()
    for _ in range(400):
        for turn in Talks(documents).conversation():
            call = Call.parse(turn.reply)
            if call is None:
                continue
            kinds.add(call.kind)
            if call.kind == "svg" and (found := icon.fullmatch(call.prompt)):
                asked = found[1].split(" ")
                assert found[1] in documents.icon_names or " ".join(asked[1:]) in documents.icon_names
                assert len(asked) == 1 or not held_colour(" ".join(asked[1:]), asked[0])
                continue
            caption = parse(call.prompt, names)
            assert caption.text() == call.prompt and not held_scene(caption.nouns)
            assert not any(held_motion(*pair) for pair in zip(caption.nouns, caption.motions, strict=False))
            assert call.kind == "video" if caption.motions else call.kind != "video"
    assert kinds == set(TASKS)


def test_the_last_phrasing_of_each_list_is_never_trained(documents):
    def beginnings(forms) -> set[str]:
        return {forms[-1].split("{")[0].strip().lower()}

    kept = set().union(*map(beginnings, [*ASK_FOR.values(), *(forms for forms in CHANGES.values())])) - {""}
    talks = Talks(documents)
    trained = [turn.question.lower() for _ in range(300) for turn in talks.conversation()]
    assert not [text for text in trained for start in kept if text.startswith(start)]
    judged = [talks.conversation(held=True)[-1].question.lower() for _ in range(100)]
    assert sum(text.startswith(tuple(kept)) for text in judged) > 20


def test_facts_refusals_and_greetings_are_asked_in_the_middle_of_wishes(documents):
    talks, told = Talks(documents), set(ANSWERS)
    found = {"fact": 0, "refused": 0}
    for _ in range(200):
        _, *later = talks.conversation(4)
        found["refused"] += sum(turn.reply in told for turn in later)
        found["fact"] += sum(turn.reply in ("Yes.", "No.") or turn.reply[:-1].isdigit() for turn in later)
    assert min(found.values()) > 10


def test_a_drawing_with_an_icon_of_its_name_takes_colours_as_one(documents):
    talks = Talks(documents)
    icons = [talks._as_icon(SceneWish(kind="svg", caption=Caption(nouns=(talks._icons[0],)))) for _ in range(40)]
    assert any(isinstance(wish, IconWish) for wish in icons) and not all(isinstance(wish, IconWish) for wish in icons)
    two = SceneWish(kind="svg", caption=Caption(nouns=("red circle", "blue square")))
    assert all(talks._as_icon(two) == two for _ in range(20))


def test_a_seed_talks_alike(text_world):
    one, two = (Talks(Documents(text_world, seed=9)).conversation(4) for _ in range(2))
    assert one == two


def test_icons_are_changed_by_one_word():
    heart = IconWish(name="heart")
    assert heart.call.text == "svg: heart icon"
    assert replace(heart, colour="red").call.prompt == "red heart icon"
    assert replace(heart, colour="red", form="in a circle").call.prompt == "red heart icon in a circle"
    assert replace(heart, form="three").call.prompt == "three heart icons"
    assert replace(heart, beside="star").call.prompt == "heart icon and star icon"


def test_scenes_are_changed_in_what_was_said_alone():
    tiger = SceneWish(kind="image", caption=Caption(nouns=("tiger",), flat=True))
    assert wishes.on_ground(tiger, "mint").call.prompt == "a tiger on a mint background, flat style"
    assert wishes.on_ground(tiger, "white") is None
    other = next(name for name in ("ant", "bee", "cat", "dog") if not held_scene(("tiger", name)))
    beside = wishes.with_other(tiger, other, "above")
    assert beside.call.prompt.startswith("a tiger above a")
    assert wishes.swapped(beside).caption.nouns == (other, "tiger") and wishes.swapped(tiger) is None
    motion = next(motion for motion in wishes.VERBS if not held_motion("tiger", motion))
    clip = wishes.moving(tiger, motion)
    assert clip.call.text == f"video: a tiger {motion}, flat style" and wishes.moving(beside, motion) is None
    assert wishes.still(clip, "svg").call.text == "svg: a tiger" and wishes.still(tiger, "image") is None
    circle = SceneWish(kind="svg", caption=Caption(nouns=("red circle",)))
    assert (
        wishes.recoloured(circle, "blue").call.text == "svg: a blue circle" and wishes.recoloured(tiger, "blue") is None
    )
    assert wishes.instead(tiger, "ant").caption.nouns == ("ant",) and wishes.instead(beside, "bee") is None


def test_one_slip_is_near_the_word_and_is_no_other_word():
    rng, known = random.Random(0), {"tiger", "trees", "heron", "desert"}
    seen = set()
    for _ in range(300):
        wrong = mistyped(rng, "a tiger and a heron", known)
        parts = wrong.split()
        assert sum(a != b for a, b in zip(parts, "a tiger and a heron".split(), strict=True)) == 1
        seen.add(wrong)
        slipped = next(word for word in parts if word not in ("a", "and", "tiger", "heron"))
        assert slipped not in known and slipped[0] in "th" and abs(len(slipped) - 5) <= 1
    held = {mistyped(rng, "a tiger and a heron", known, held=True) for _ in range(100)} - {"a tiger and a heron"}
    assert held and not held & seen
    assert mistyped(rng, "an ant", known) == "an ant"


def test_refusals_answer_kindly_and_keep_some_requests_for_judging():
    rng, nouns = random.Random(0), [("heron", "a heron"), ("boat", "a boat")]
    trained = dict(refusal(rng, nouns, "blorf") for _ in range(800))
    judged = dict(refusal(rng, nouns, "blorf", held=True) for _ in range(200))
    assert set(trained.values()) == set(ANSWERS) and not trained.keys() & judged.keys()
    assert not [asked for asked in trained if "{" in asked]


def test_calls_stand_as_tokens_in_what_was_said(documents):
    tokenizer = documents.tokenizer
    ids = chat_ids(tokenizer, "now make it red", history=[("draw a heart icon", "svg: heart icon")])
    of = tokenizer.id_of
    place = ids.index(of("<|svg|>"))
    assert ids[place - 1] == of("<|assistant|>") and ids[place + 1 : ids.index(of("<|eos|>"))] == tokenizer.encode(
        "heart icon"
    )
    assert Call.parse("svg: heart icon") == Call(kind="svg", prompt="heart icon")
    assert Call.parse("Svg: a kind of file.") is None and Call.parse("svg: ") is None
    shown = chat_ids(tokenizer, "where?", image_tokens=(2,), history=[("what?", "A cat.")], shown_at=0)
    assert shown[2:4] == [of("<|image|>")] * 2 and shown.count(of("<|image|>")) == 2


def test_two_words_are_told_apart_by_the_meaning_of_each(documents):
    words, meaning = documents.words["word"], documents.knowledge.meaning
    pairs = {f"{meaning(a)} {meaning(b)}": (words[a], words[b]) for a in range(len(words)) for b in range(len(words))}
    found = [documents.knowledge.difference() for _ in range(60)]
    assert all(made is not None and not held_pair(*pairs[made[1]]) for made in found)
    asked = {made[0] for made in found if made is not None}
    assert len(asked) > 10 and not [one for one in asked if one.startswith("In what are")]
    kept = [documents.knowledge.difference(held=True) for _ in range(20)]
    assert {frozenset(pairs[made[1]]) for made in kept if made is not None} == {frozenset(("heron", "wren"))}


def test_any_verb_but_the_kept_one_asks_for_a_meaning(documents):
    asked = [documents.tokenizer.decode([int(token) for token in documents.worded()[0]]) for _ in range(200)]
    assert not [text for text in asked if "meant" in text or "meaned" in text]
    assert len({text.split(" by ")[0] for text in asked}) > 20
    assert participle("gild") == "gilded" and participle("bake") == "baked" and participle("carry") == "carried"
    assert participle("play") == "played"
