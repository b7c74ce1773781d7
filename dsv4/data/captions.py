"""Random captions of the closed world, and the questions that a caption answers.

Both the text stream and the picture stream draw from here, so that words and pictures share one distribution.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from dsv4.data.language import (
    GROUNDS,
    MOTIONS,
    NUMBERS,
    OPPOSITE,
    RELATIONS,
    SHAPE_COLOURS,
    SHAPE_NOUNS,
    SHAPES,
    Caption,
    clashes,
    held_motion,
    held_scene,
    is_plural,
    is_shape,
    noun_phrase,
    plural,
    sentence,
    the,
)

# How a request for a picture or a clip is worded; "{}" alone is the usual form.
PAINT_PHRASES = ("{}", "draw {}", "paint {}", "a picture of {}", "show me {}", "make a picture of {}", "{} please")
FILM_PHRASES = ("{}", "animate {}", "a clip of {}", "a video of {}", "show me {}", "make a clip of {}", "{} please")

# Question forms by kind; the last of each is kept from training so that a new phrasing can be judged.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "describe": (
        "What is in this picture?",
        "Describe this picture.",
        "What do you see?",
        "What does the picture show?",
        "Tell me what is in the picture.",
    ),
    "color": ("What color is the {}?", "What colour is the {}?", "Which color does the {} have?"),
    "ground": ("What color is the background?", "What colour is the background?", "Which color is behind it?"),
    "shape": ("What shape is the {} thing?", "Which shape is {}?", "What is the shape of the {} thing?"),
    "relation": ("What is {}?", "What do you see {}?", "Which thing is {}?"),
    "where": ("Where is {}?", "Where do you see {}?", "In which place is {}?"),
    "count": ("How many things are there?", "How many objects do you see?", "What is the number of things?"),
    "count of": ("How many {} are there?", "How many {} do you see?", "What is the number of {}?"),
    "is there": ("Is there {}?", "Do you see {}?", "Can you find {}?"),
    "look": ("Is the style flat or shaded?", "Which style is it, flat or shaded?", "Flat or shaded?"),
}
# How much oftener than others a kind is asked for in training: those that are more than copying the description.
HARDER = {"where": 3, "color": 3, "shape": 3, "count of": 2, "is there": 2}


def random_ground(rng: random.Random, nouns: Sequence[str]) -> str:
    """A ground that every coloured shape among the nouns stands out from; white in three of ten."""
    if rng.random() < 0.3:
        return "white"
    colours = [noun.split()[0] for noun in nouns if is_shape(noun)]
    return rng.choice([g for g in GROUNDS if not any(clashes(colour, g) for colour in colours)])


def random_nouns(
    rng: random.Random, things: Sequence[str], count: int, *, shapes: float, held: bool
) -> tuple[str, ...]:
    """Different nouns, each scene either all shapes (share `shapes`) or things with now and then a shape among them."""
    while True:
        if rng.random() < shapes:
            nouns = tuple(rng.sample(SHAPE_NOUNS, count))
        else:
            mixed = (rng.choice(SHAPE_NOUNS) if rng.random() < 0.05 else rng.choice(things) for _ in range(count))
            nouns = tuple(mixed)
        if len(set(nouns)) == count and (count == 1 or held_scene(nouns) == held):
            return nouns


def random_picture(
    rng: random.Random,
    things: Sequence[str],
    *,
    shapes: float = 0.25,
    weights: Sequence[float] = (0.42, 0.38, 0.14, 0.06),
    held: bool = False,
) -> Caption:
    """A caption of a still scene: one noun, two in a relation, three, a count of one shape, four, or five (weights).

    things: names to draw from; held: only scenes with a held-out pair of nouns (and then at least two nouns).
    """
    kind = rng.choices((1, 2, 3, "count", 4, 5)[: len(weights)], weights)[0]
    if held and kind in (1, "count"):
        kind = 2
    flat = rng.random() < 0.5
    if isinstance(kind, str):
        noun = rng.choice(SHAPE_NOUNS)
        return Caption(nouns=(noun,), count=rng.randint(2, 4), ground=random_ground(rng, [noun]), flat=flat)
    nouns = random_nouns(rng, things, kind, shapes=shapes, held=held)
    relation = rng.choice(RELATIONS) if kind == 2 else None
    return Caption(nouns=nouns, relation=relation, ground=random_ground(rng, nouns), flat=flat)


def random_clip(
    rng: random.Random, things: Sequence[str], *, shapes: float = 0.2, two: float = 0.4, held: bool = False
) -> Caption:
    """A caption of a clip: one or two nouns, each with its motion.

    held: one noun in a motion that it never has in training, or two nouns of a held-out pair.
    """
    count = 2 if rng.random() < two else 1
    flat = rng.random() < 0.5
    while True:
        nouns = random_nouns(rng, things, count, shapes=shapes, held=held and count == 2)
        motions = tuple(rng.choice(MOTIONS) for _ in nouns)
        unseen = [held_motion(noun, motion) for noun, motion in zip(nouns, motions, strict=True)]
        if unseen == [True] if held and count == 1 else not any(unseen):
            return Caption(nouns=nouns, motions=motions, ground=random_ground(rng, nouns), flat=flat)


def vary(rng: random.Random, text: str, phrases: Sequence[str] = PAINT_PHRASES, *, plain: float = 0.8) -> str:
    """The request as somebody may type it: mostly the bare caption, else in another phrase, sometimes capitalised."""
    if rng.random() >= plain:
        text = rng.choice(phrases[1:]).format(text)
    return sentence(text) if rng.random() < 0.06 else text[:1].upper() + text[1:] if rng.random() < 0.06 else text


def wordings(text: str, phrases: Sequence[str] = PAINT_PHRASES) -> set[str]:
    """All that `vary` can make of a request."""
    said = [phrase.format(text) for phrase in phrases]
    return {made for one in said for made in (one, one[:1].upper() + one[1:], sentence(one))}


def ask(kind: str, rng: random.Random, subject: str = "", *, held: bool = False) -> str:
    """A question of a kind about a subject, in a trained phrasing, or in the held-out one."""
    forms = QUESTIONS[kind]
    question = (forms[-1] if held else rng.choice(forms[:-1])).format(subject)
    if kind == "where" and is_plural(subject.removeprefix("the ")):
        question = question.replace(" is ", " are ", 1)
    return question


def questions(
    caption: Caption, rng: random.Random, things: Sequence[str] = (), *, held: bool = False
) -> list[tuple[str, str, str]]:
    """Every (kind, question, answer) that the caption settles, "describe" first; answers are short sentences.

    things: names from which a "no" for "is there" is drawn (shapes when empty); held: held-out phrasings.
    """
    seen = caption.seen()
    found = [("describe", "", seen.sentence()), ("ground", "", sentence(caption.ground))]
    found.append(("look", "", "Flat." if caption.flat else "Shaded."))
    total = caption.count if caption.count > 1 else len(caption.nouns)
    found.append(("count", "", sentence(NUMBERS[total])))
    found += _shape_questions(caption)
    if caption.relation:
        first, second = caption.nouns
        pairs = ((first, caption.relation, second), (second, OPPOSITE[caption.relation], first))
        for noun, relation, other in pairs:
            found.append(("relation", f"{relation} {the(other)}", sentence(noun_phrase(noun))))
            found.append(("where", the(noun), sentence(f"{relation} {the(other)}")))
    present = rng.choice(caption.nouns)
    absent = rng.choice(things or SHAPE_NOUNS)
    if caption.count == 1:
        found.append(("is there", noun_phrase(present), "Yes."))
    if absent not in caption.nouns:
        found.append(("is there", noun_phrase(absent), "No."))
    return [(kind, ask(kind, rng, subject, held=held), answer) for kind, subject, answer in found]


def one_question(found: Sequence[tuple[str, str, str]], rng: random.Random) -> tuple[str, str, str]:
    """One of the (kind, question, answer) found: first a kind, harder ones oftener, then one of that kind."""
    kinds = sorted({kind for kind, _, _ in found})
    wanted = rng.choices(kinds, [HARDER.get(kind, 1) for kind in kinds])[0]
    return rng.choice([asked for asked in found if asked[0] == wanted])


def _shape_questions(caption: Caption) -> list[tuple[str, str, str]]:
    shapes = [tuple(noun.split()) for noun in caption.nouns if is_shape(noun)]
    if len(shapes) != len(caption.nouns):
        return []  # a thing may have the asked colour too, so these questions need shapes alone
    found = []
    for shape in SHAPES:
        count = sum(kind == shape for _, kind in shapes) * caption.count
        if count:
            found.append(("count of", plural(shape), sentence(NUMBERS[count])))
    for colour, shape in shapes:
        if sum(kind == shape for _, kind in shapes) == 1 and caption.count == 1:
            found.append(("color", shape, sentence(colour)))
        if sum(other == colour for other, _ in shapes) == 1 and caption.count == 1 and colour in SHAPE_COLOURS:
            found.append(("shape", colour, sentence(noun_phrase(shape))))
    return found
