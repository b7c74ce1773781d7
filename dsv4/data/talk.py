"""Conversations: meanings asked for one after another, the hands called in the middle of talk, and wishes changed.

A conversation is a list of turns in words; a reply that calls the hands is the text of a `Call`. Every list
of phrasings keeps its last for judging. Source of the words: `Documents` and the tables behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from dsv4.data import wishes
from dsv4.data.captions import one_question, questions, random_clip, random_picture
from dsv4.data.facts import manners
from dsv4.data.icons import COLOURS, colourable
from dsv4.data.language import (
    GROUNDS,
    MOTIONS,
    RELATIONS,
    SHAPE_COLOURS,
    SHAPE_NOUNS,
    Caption,
    article,
    held_colour,
    held_composition,
    is_shape,
    noun_phrase,
    sentence,
)
from dsv4.data.wishes import COUNTS, FRAMES, IconWish, SceneWish, Wish
from dsv4.data.words import CATEGORIES

if TYPE_CHECKING:
    from dsv4.data.documents import Documents

MOST_TURNS = 5
ASK_FOR = {
    "svg": ("draw {}", "draw me {}", "make a drawing of {}", "can you draw {}?", "please draw {}",
            "let me see a drawing of {}", "show me a drawing of {}", "{} as a drawing please", "I need a drawing of {}",
            "could you draw {} for me?", "let's have a drawing of {}", "I want a drawing of {}"),
    "image": ("paint {}", "paint me {}", "make a picture of {}", "can you paint {}?", "a picture of {} please",
              "let me see a picture of {}", "show me a picture of {}", "{} as a picture please",
              "I need a picture of {}", "could you paint {} for me?", "let's have a picture of {}",
              "I would like a picture of {}"),
    "video": ("animate {}", "make a clip of {}", "make a video of {}", "can you animate {}?", "a clip of {} please",
              "let me see a clip of {}", "show me a clip of {}", "{} as a clip please", "I need a clip of {}",
              "could you animate {} for me?", "a video of {} please", "let's have a clip of {}", "film {}",
              "I would like a clip of {}"),
}  # fmt: skip
MAKE_IT = {
    "svg": ("draw it", "can you draw it?", "draw one", "show me a drawing of it", "now draw it", "draw it please",
            "let me see it drawn", "could you draw it for me?", "as a drawing", "please make a drawing of it"),
    "icon": ("draw it as an icon", "an icon of it please", "as an icon", "make it an icon", "turn it into an icon",
             "can you make an icon of it?", "show it as an icon", "let's see it as an icon", "now as an icon please",
             "I want it as an icon"),
    "image": ("paint it", "now paint it", "as a picture please", "can you paint it?", "paint it please", "paint one",
              "let me see a picture of it", "show me a picture of it", "could you paint it for me?",
              "make a picture of it"),
    "video": ("let it {}", "make it {}", "now let it {}", "it should {}", "can it {}?", "have it {}", "now {}",
              "let me see it {}", "could you let it {}?", "please make it {}", "I want it to {}"),
}  # fmt: skip
AND_THIS = (
    "And {}?", "and {}", "What about {}?", "what about {}", "and what is {}?", "then what about {}?",
    "and what about {}",
    "and now {}?", "what is {} then?", "How about {}?",
)  # fmt: skip
WHAT_IS_IT = (
    "What is it?", "what is that", "What does it mean?", "Tell me about it.", "what is that thing?", "say what it is",
    "tell me what it is", "what does that mean?", "what's it?", "what is it exactly?", "Explain it.",
)  # fmt: skip
CHANGES = {
    "colour": ("make it {}", "now make it {}", "now in {}", "can it be {}?", "{} please", "could it be {}?",
               "turn it {}", "and in {}?", "let's have it {}", "give it the colour {}", "I'd like it {}",
               "I want it {}"),
    "frame": ("put it {}", "now {}", "{} please", "can it be {}?", "could it stand {}?", "let's have it {}",
              "set it {}",
              "make it stand {}", "I'd like it {}", "I want it {}"),
    "count": ("draw {} of them", "now {} of them", "make it {}", "give me {} of them", "let's have {} of them",
              "there should be {} of them", "{} of them please", "could you draw {} of them?", "I'd like {} of them",
              "I want {} of them"),
    "beside": ("put it beside {}", "and {} beside it", "with {} next to it", "there should be {} beside it",
               "put {} beside it", "could there be {} beside it?", "next to {} please", "let {} stand beside it",
               "add {} beside it"),
    "ground": ("on a {} background", "make the background {}", "now on a {} background", "give it a {} background",
               "with a {} background please", "can the background be {}?", "the background should be {}",
               "turn the background {}", "I'd like a {} background", "I want a {} background"),
    "flat": ("in flat style", "make it flat", "now in flat style please", "can it be flat?", "flat please",
             "let's have it flat", "could it be in flat style?", "I'd like it flat", "I want it flat"),
    "shaded": ("not flat", "make it shaded", "now shaded please", "can it be shaded?", "shaded please",
               "let's have it shaded", "it should not be flat", "I'd like it shaded", "I want it shaded"),
    "place": ("put it {} {}", "now {} {}", "it should be {} {}", "can it be {} {}?", "could it stand {} {}?",
              "let's have it {} {}", "move it {} {}", "set it {} {}", "I'd like it {} {}", "I want it {} {}"),
    "swap": ("swap them", "the other way round", "now swap the two", "exchange the two", "can you swap them?",
             "let them change places", "swap the two please", "swap their places"),
    "instead": ("now {}", "{} instead", "make it {} instead", "can it be {} instead?", "let's have {} instead",
                "take {} instead", "{} instead please", "I'd like {} instead", "I want {} instead"),
    "plain": ("without all that", "just the icon", "the plain one again", "back to the plain icon", "only the one icon",
              "take all that away", "just the icon again please", "only the icon please"),
}  # fmt: skip
_SCENE_CHANGES = ("ground", "colour", "place", "beside", "swap", "instead", "video", "flat", "svg", "image")


class Turn(NamedTuple):
    """A question, the reply to it, and the description behind the reply where there is one."""

    question: str
    reply: str
    think: str | None = None


@dataclass(kw_only=True)
class _Talk:
    """What has been said so far, which noun it is about, and what was last wished for."""

    turns: list[Turn]
    held: bool
    noun: str = ""
    wish: Wish | None = None

    def say(self, question: str, reply: str, think: str | None = None) -> bool:
        self.turns.append(Turn(question, reply, think))
        return True


class Talks:
    """Makes conversations from the tables of some documents, with their generator."""

    def __init__(self, documents: Documents) -> None:
        self.documents, self.rng = documents, documents.rng

    def conversation(self, turns: int | None = None, *, held: bool = False) -> list[Turn]:
        """One turn after another; `held`: the last question stands in a phrasing kept from training."""
        wanted = turns or self.rng.choices(range(1, MOST_TURNS + 1), (0.3, 0.25, 0.2, 0.15, 0.1))[0]
        talk = _Talk(turns=[], held=False)
        while len(talk.turns) < wanted:
            talk.held = held and len(talk.turns) == wanted - 1
            if not self._next(talk) and not talk.turns:
                continue
        return talk.turns

    def _next(self, talk: _Talk) -> bool:
        steps: list[tuple[float, Callable[[_Talk], bool]]] = [(1.5, self._wish)]
        if not talk.held:  # what is asked out of the blue is judged by rows of its own
            steps += [(1.0 if not talk.turns else 0.5, self._define), (0.3, self._manner), (0.8, self._fact)]
            steps += [(0.4, self._refused)]
        if talk.noun:
            steps += [(2.0, self._make_it), (0.7, self._what_is_it), (0.6, self._is_it)]
        if talk.noun and talk.wish is None:
            steps.append((0.8, self._and_this))
        if talk.wish is not None:
            steps += [(5.0, self._change), (0.8, self._asked)]
        weights, makers = zip(*steps, strict=True)
        return self.rng.choices(makers, weights)[0](talk)

    # Steps: each says one turn, or finds nothing to say and returns False.
    def _define(self, talk: _Talk) -> bool:
        noun = self.rng.choice(self._explained)
        talk.noun, talk.wish = noun, None
        return talk.say(self.documents.define_question(self._word[noun], self.rng.randrange(2)), self._meaning(noun))

    def _and_this(self, talk: _Talk) -> bool:
        talk.noun = self.rng.choice(self._explained)
        asked = self.documents.words["asked"][self._word[talk.noun]]
        return talk.say(self._phrase(AND_THIS, talk).format(asked), self._meaning(talk.noun))

    def _what_is_it(self, talk: _Talk) -> bool:
        if talk.noun not in self._word or is_shape(talk.noun):
            return False
        return talk.say(self._phrase(WHAT_IS_IT, talk), self._meaning(talk.noun))

    def _is_it(self, talk: _Talk) -> bool:
        own = self.documents.words["categories"][self._word[talk.noun]].split("|") if talk.noun in self._word else [""]
        if not own[0] or talk.held:
            return False
        yes = self.rng.random() < 0.5
        category = self.rng.choice(own if yes else [name for name in CATEGORIES if name not in own])
        asked = self.rng.choice(("Is it {}?", "is it {}", "Is that {}?")).format(article(category) + category)
        return talk.say(asked, "Yes." if yes else "No.")

    def _fact(self, talk: _Talk) -> bool:
        """A question that has nothing to do with what was said before."""
        return talk.say(*self.documents.knowledge.fact())

    def _refused(self, talk: _Talk) -> bool:
        return talk.say(*self.documents.refused())

    def _manner(self, talk: _Talk) -> bool:
        fact = self.rng.choice(manners())
        if fact.answer.startswith("There is no picture"):
            return False
        return talk.say(self.documents.cased(self.rng.choice(fact.trained)), fact.answer)

    def _wish(self, talk: _Talk) -> bool:
        draw = self.rng.random()
        if draw < 0.35:
            wish: Wish = self._icon(self.rng.choice(self._icons))
        else:
            wish = self._scene(self.rng.choice(("svg", "image", "image", "video")))
        said = wish.call.prompt
        if isinstance(wish, IconWish):
            said = said if wish.form in COUNTS else ("an " if said[0] in "aeio" else "a ") + said
        self._remember(talk, wish)
        return talk.say(self._phrase(ASK_FOR[wish.call.kind], talk).format(said), wish.call.text)

    def _make_it(self, talk: _Talk) -> bool:
        kind = self.rng.choice(tuple(MAKE_IT))
        known = talk.noun in self._thing_names or (kind == "icon" and talk.noun in self._icon_names)
        same = IconWish if kind == "icon" else SceneWish  # a scene is kept as it is: `_changed_scene`
        if not known or isinstance(talk.wish, same):
            return False
        caption = Caption(nouns=(talk.noun,))
        scene: Wish | None = SceneWish(kind=kind, caption=caption) if kind in ("svg", "image") else None
        phrase = self._phrase(MAKE_IT[kind], talk)
        if kind == "svg" and talk.noun not in self.documents.drawing_of:
            return False
        if kind == "icon":
            scene = IconWish(name=talk.noun) if talk.noun in self._icon_names else None
        if kind == "video":
            motion = self.rng.choice(MOTIONS)
            scene = wishes.moving(SceneWish(kind="image", caption=caption), motion)
            phrase = phrase.format(wishes.VERBS[motion])
        if scene is None or scene == talk.wish:
            return False
        talk.wish = scene
        return talk.say(phrase, scene.call.text)

    def _change(self, talk: _Talk) -> bool:
        wish = self._as_icon(talk.wish)
        found = self._changed_icon(wish) if isinstance(wish, IconWish) else self._changed_scene(wish)  # type: ignore[arg-type]
        if found is None:
            return False
        kind, filled, changed = found
        self._remember(talk, changed)
        forms = MAKE_IT[kind.removeprefix("it ")] if kind.startswith("it ") else CHANGES[kind]
        return talk.say(self._phrase(forms, talk).format(*filled), changed.call.text)

    def _asked(self, talk: _Talk) -> bool:
        """A question about what was just painted or drawn, answered from its own words."""
        wish = talk.wish
        if not isinstance(wish, SceneWish) or wish.kind == "video":
            return False
        known = questions(wish.caption, self.rng, self.documents.scene_names, held=talk.held)
        drop = ("describe", "look") if wish.kind == "svg" else ("describe",)
        _, question, answer = one_question([found for found in known if found[0] not in drop], self.rng)
        seen = wish.caption.seen()
        return talk.say(question, answer, (replace(seen, flat=False) if wish.kind == "svg" else seen).sentence())

    def _as_icon(self, wish: Wish | None) -> Wish | None:
        """A drawing of one thing now and then as its icon, whose colour, frame and number can be changed."""
        if not isinstance(wish, SceneWish) or wish.kind != "svg" or self.rng.random() < 0.4:
            return wish
        named = len(wish.caption.nouns) == 1 and wish.caption.count == 1 and wish.caption.nouns[0] in self._icon_names
        return IconWish(name=wish.caption.nouns[0]) if named else wish

    def _changed_icon(self, wish: IconWish) -> tuple[str, tuple[str, ...], IconWish] | None:
        kind = self.rng.choice(("colour", "colour", "frame", "count", "beside", "plain"))
        if kind == "colour":
            colour = self.rng.choice(COLOURS)
            fits = colourable(self.documents.icon_names, wish.name, colour) and not held_colour(wish.name, colour)
            found = replace(wish, colour=colour) if fits and not wish.beside and colour != wish.colour else None
            return None if found is None else (kind, (colour,), found)
        if wish.name not in self._part_names:
            return None
        if kind == "plain":
            plain = replace(wish, form="", beside="")
            return None if plain == wish else (kind, (), plain)
        if kind == "beside":
            other = self.rng.choice(self._parts)
            bare = IconWish(name=wish.name)
            if wish != bare or other == wish.name or held_composition(wish.name, f"and {other}"):
                return None
            said = self.rng.choice(("{}", "{} icon")).format(noun_phrase(other))
            return kind, (said,), replace(wish, beside=other)
        form = self.rng.choice(FRAMES if kind == "frame" else COUNTS)
        if wish.beside or form == wish.form or held_composition(wish.name, form):
            return None
        return kind, (form,), replace(wish, form=form)

    def _changed_scene(self, wish: SceneWish) -> tuple[str, tuple[str, ...], SceneWish] | None:
        kind = self.rng.choice(_SCENE_CHANGES)
        changed, filled = None, ()
        if kind == "ground":
            filled = (self.rng.choice([name for name in GROUNDS if name != "orange"]),)
            changed = wishes.on_ground(wish, *filled)
        elif kind == "colour":
            filled = (self.rng.choice(tuple(SHAPE_COLOURS)),)
            changed = wishes.recoloured(wish, *filled)
        elif kind in ("place", "beside"):
            other = self._noun(wish.kind)
            relation = self.rng.choice(RELATIONS) if kind == "place" else None
            changed = wishes.with_other(wish, other, relation)
            filled = (*filter(None, (relation,)), noun_phrase(other))
        elif kind == "swap":
            changed = wishes.swapped(wish)
        elif kind == "instead":
            noun = self._noun(wish.kind)
            changed, filled = wishes.instead(wish, noun), (noun_phrase(noun),)
        elif kind == "video":
            motion = self.rng.choice(MOTIONS)
            changed, filled, kind = wishes.moving(wish, motion), (wishes.VERBS[motion],), "it video"
        elif kind == "flat" and wish.kind != "svg":
            kind = "shaded" if wish.caption.flat else "flat"
            changed = replace(wish, caption=replace(wish.caption, flat=not wish.caption.flat))
        elif kind in ("svg", "image") and (kind == "image" or self._drawn(wish.caption)):
            changed, kind = wishes.still(wish, kind), f"it {kind}"
        return None if changed is None else (kind, filled, changed)

    # Pieces.
    def _phrase(self, forms: tuple[str, ...], talk: _Talk) -> str:
        form = forms[-1] if talk.held else self.rng.choice(forms[:-1])
        return form if talk.held or self.rng.random() < 0.7 else sentence(form)

    def _remember(self, talk: _Talk, wish: Wish) -> None:
        talk.wish = wish
        talk.noun = wish.name if isinstance(wish, IconWish) else wish.caption.nouns[0] * (len(wish.caption.nouns) == 1)

    def _icon(self, name: str) -> IconWish:
        colour = self.rng.choice(COLOURS)
        fits = self.rng.random() < 0.4 and colourable(self.documents.icon_names, name, colour)
        return IconWish(name=name, colour=colour if fits and not held_colour(name, colour) else "")

    def _scene(self, kind: str) -> SceneWish:
        documents = self.documents
        if kind == "video":
            return SceneWish(kind=kind, caption=random_clip(self.rng, documents.scene_names))
        names = documents.scene_things if kind == "svg" else documents.scene_names
        weights = (0.7, 0.2, 0.05, 0.05)
        return SceneWish(kind=kind, caption=random_picture(self.rng, names, weights=weights))

    def _noun(self, kind: str) -> str:
        names = self.documents.scene_things if kind == "svg" else self.documents.scene_names
        return self.rng.choice(SHAPE_NOUNS) if self.rng.random() < 0.15 else self.rng.choice(names)

    def _drawn(self, caption: Caption) -> bool:
        return all(noun in self._short or noun in SHAPE_NOUNS for noun in caption.nouns)

    def _meaning(self, noun: str) -> str:
        return self.documents.knowledge.meaning(self._word[noun])

    @cached_property
    def _word(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.documents.words["word"])}

    @cached_property
    def _thing_names(self) -> frozenset[str]:
        return frozenset(self.documents.scene_names)

    @cached_property
    def _short(self) -> frozenset[str]:
        return frozenset(self.documents.scene_things)

    @cached_property
    def _explained(self) -> list[str]:
        """Words that are things of the pictures too, or have an icon."""
        return sorted((self._thing_names | set(self._icons)) & self._word.keys()) or sorted(self._word)

    @cached_property
    def _icons(self) -> list[str]:
        return [self.documents.icons["name"][index] for index in self.documents.named_icons]

    @cached_property
    def _icon_names(self) -> frozenset[str]:
        return frozenset(self._icons)

    @cached_property
    def _parts(self) -> list[str]:
        return [self.documents.icons["name"][index] for index in self.documents.part_icons]

    @cached_property
    def _part_names(self) -> frozenset[str]:
        return frozenset(self._parts)
