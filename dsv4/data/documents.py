"""Documents of the text side, one kind a method: a request in ids, and the ids of the one answer that it has.

Every request is a function of a random generator; held-out combinations (language.py) are never made by `Documents`
unless asked for by `held=True`, which then makes nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dsv4.chat_format import answer_ids, chat_ids, film_ids, paint_ids, svg_ids
from dsv4.data.captions import (
    FILM_PHRASES,
    PAINT_PHRASES,
    one_question,
    questions,
    random_clip,
    random_picture,
    vary,
)
from dsv4.data.drawings import FORMS, Drawings
from dsv4.data.facts import UNKNOWN_WORD, manners
from dsv4.data.icons import COLOURS, colourable
from dsv4.data.knowledge import Knowledge
from dsv4.data.language import (
    GROUNDS,
    Caption,
    article,
    held_colour,
    held_composition,
    is_plural,
    is_shape,
    noun_phrase,
)
from dsv4.data.openings import BY_CHANCE, DEFINITION, WORDED, asked_by_chance, participle
from dsv4.data.refusals import refusal
from dsv4.data.store import Ragged, load_table
from dsv4.data.talk import Talks
from dsv4.data.things import scene_names
from dsv4.data.typing_errors import mistyped
from dsv4.tokenizer import Tokenizer

Ids = Sequence[int] | np.ndarray
Document = tuple[Ids, Ids]

DRAW_PHRASES = (
    "{}", "draw {a}", "{a}", "{} please", "{a} please", "make {a}", "show me {a}", "an SVG of {a}", "draw me {a}",
)  # fmt: skip
DEFINE_PHRASES = (
    "What is {a}?", "what is {a}", "What is {}?", "what is {}", "Define {}.", "{}: meaning?", "What does {} mean?",
    "What's {a}?", "Explain {}.", "{}", "Tell me what {} means.", "What does the word {} mean?", "meaning of {}",
    "Can you explain {}?", "What is meant by {}?",
)  # fmt: skip
_DIGITS = {"two": "2", "three": "3", "four": "4"}
# Beginnings, middles and ends of words that do not exist.
_NONSENSE = (
    ("bl", "fr", "gl", "v", "z", "sn", "tr", "m", "pl", "qu", "d", "sk", "p", "gr", "w"), "aeiou",
    ("", "r", "n", "l", "sk", "bb", "mp", "t"), ("", "a", "e", "i", "o", "u"),
    ("rp", "nk", "zzle", "mbo", "xit", "dle", "vvy", "gon", "rth", "blet", "fin", "ster"),
)  # fmt: skip


class Deck:
    """Deals 0 to n - 1 in random order, again and again, so that every item comes equally often."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self._order = np.random.default_rng(rng.getrandbits(64)).permutation(count)
        self._rng, self._next = np.random.default_rng(rng.getrandbits(64)), 0

    def deal(self) -> int:
        """The next index."""
        if self._next == len(self._order):
            self._rng.shuffle(self._order)
            self._next = 0
        self._next += 1
        return int(self._order[self._next - 1])


class Documents:
    """Makes documents from a data folder; `rng` drives every choice."""

    def __init__(self, data_dir: Path, *, seed: int) -> None:
        data_dir = Path(data_dir)
        self.tokenizer = Tokenizer.from_file(data_dir / "tokenizer.json")
        self.rng = random.Random(seed)
        self.drawings = Drawings()
        self.icons, self.things = load_table(data_dir / "icons.npz"), load_table(data_dir / "things.npz")
        self.words, self.facts = load_table(data_dir / "words.npz"), load_table(data_dir / "facts.npz")
        self.icon_names = set(self.icons["name"])
        drawn = {int(index): ids for index, ids in zip(self.things["drawn"], self.things["drawing"], strict=True)}
        self.drawing_of = {self.things["name"][index]: ids for index, ids in drawn.items()}
        self.scene_names = scene_names(self.things["name"])
        self._decks: dict[str, Deck] = {}

    # Which items a kind draws from; judges use the same lists.
    @cached_property
    def short_icons(self) -> np.ndarray:
        """Icons that at least one shorter request means."""
        return np.flatnonzero(self.icons["shorter"].any(axis=1))

    @cached_property
    def named_icons(self) -> np.ndarray:
        """Icons that their bare name means."""
        return np.flatnonzero(self.icons["shorter"][:, 0])

    @cached_property
    def colour_icons(self) -> np.ndarray:
        """Icons with a bare name that change when recoloured."""
        drawing: Ragged = self.icons["drawing"]
        return np.array([i for i in self.named_icons if self.drawings.colourable(drawing[i])], np.int64)

    @cached_property
    def part_icons(self) -> np.ndarray:
        """Icons short enough to stand four times in one drawing."""
        return self.named_icons[self.icons["drawing"].lengths_N[self.named_icons] <= 160]

    @cached_property
    def called_things(self) -> list[tuple[str, np.ndarray]]:
        """(name or alias, drawing) of every drawn thing that does not read as a coloured shape."""
        names = [(name, ids) for name, ids in self.drawing_of.items() if not is_shape(name)]
        owners = [self.things["name"][index] for index in self.things["alias_thing"]]
        pairs = zip(self.things["alias"], owners, strict=True)
        return names + [(alias, self.drawing_of[name]) for alias, name in pairs if name in self.drawing_of]

    @cached_property
    def scene_things(self) -> list[str]:
        """Things whose drawings are short enough for scenes of two or three."""
        return [name for name in self.scene_names if len(self.drawing_of.get(name, ())) in range(1, 301)]

    @cached_property
    def knowledge(self) -> Knowledge:
        """What is known of words and of the world, as questions."""
        return Knowledge(self)

    @cached_property
    def talks(self) -> Talks:
        """Conversations."""
        return Talks(self)

    # Requests and answers.
    def icon_full(self) -> Document:
        """An icon by its full key."""
        index = self.deal("icon_full", len(self.icons["name"]))
        return self.svg(self.wish(self.icon_request(index, 3)), self.icons["drawing"][index])

    def icon_short(self) -> Document:
        """An icon by a shorter request that means it: mostly the bare name."""
        index = int(self.short_icons[self.deal("icon_short", len(self.short_icons))])
        forms = np.flatnonzero(self.icons["shorter"][index])
        form = int(forms[0]) if self.rng.random() < 0.6 else int(self.rng.choice(forms))
        return self.svg(self.wish(self.icon_request(index, form)), self.icons["drawing"][index])

    def synonym(self) -> Document:
        """An icon by a word that stands for it."""
        place = self.deal("synonym", len(self.icons["synonym"]))
        drawing = self.icons["drawing"][int(self.icons["synonym_icon"][place])]
        return self.svg(self.wish(f"{self.icons['synonym'][place]} icon"), drawing)

    def coloured(self, *, held: bool = False) -> Document:
        """A recoloured icon by colour and name."""
        while True:
            index = int(self.colour_icons[self.deal("coloured", len(self.colour_icons))])
            name, colour = self.icons["name"][index], self.rng.choice(COLOURS)
            if held_colour(name, colour) == held and colourable(self.icon_names, name, colour):
                drawing = self.drawings.recolour(self.icons["drawing"][index], colour)
                return self.svg(self.wish(f"{colour} {name} icon", plain=held), drawing)

    def drawing(self) -> Document:
        """A thing in colour by its name or alias."""
        name, ids = self.called_things[self.deal("drawing", len(self.called_things))]
        said = noun_phrase(name)
        if self.rng.random() < 0.2:
            said = self.rng.choice(("draw {}", "a drawing of {}", "{} please", "show me {}", "make {}")).format(said)
        elif self.rng.random() < 0.1:
            said = name
        return self.svg(self.cased(said), ids)

    def composition(self, *, held: bool = False) -> Document:
        """Icons framed, repeated, or two beside each other, plain or in one colour."""
        while True:
            index = self.part_icon("composition")
            name, ids = self.icons["name"][index], self.icons["drawing"][index]
            if self.rng.random() < 0.3:
                other = self.part_icon("composition")
                said, form = f"{name} icon and {self.icons['name'][other]} icon", f"and {self.icons['name'][other]}"
                drawn = self.drawings.row([ids, self.icons["drawing"][other]])
            else:
                form = self.rng.choice(FORMS)
                drawn = self.drawings.form(ids, form)
                said = f"{name} icon {form}" if form.startswith("in") else f"{form} {name} icons"
            if held_composition(name, form) != held:
                continue
            if form in _DIGITS and not held and self.rng.random() < 0.1:
                said = said.replace(form, _DIGITS[form], 1)
            if not held and self.rng.random() < 0.15:
                colour = self.rng.choice(COLOURS)
                if held_colour(name, colour) or not colourable(self.icon_names, name, colour) or "and" in form:
                    continue
                said = said.replace(f"{name} icon", f"{colour} {name} icon", 1)
                drawn = self.drawings.recolour(np.asarray(drawn), colour)
            return self.svg(self.cased(said), drawn)

    def scene_svg(self, *, held: bool = False) -> Document:
        """A scene of coloured shapes as SVG."""
        caption = random_picture(self.rng, (), shapes=1.0, weights=(0.15, 0.5, 0.2, 0.15), held=held)
        return self.scene(self.joined(caption), plain=held)

    def scene_drawn(self, *, held: bool = False) -> Document:
        """A scene with things as SVG, made of their drawings."""
        weights = (0.15, 0.7, 0.15, 0.0)
        caption = random_picture(self.rng, self.scene_things, shapes=0.0, weights=weights, held=held)
        if len(caption.nouns) == 1 and caption.ground == "white":  # a thing on nothing is drawn large: `drawing`
            caption = replace(caption, ground=self.rng.choice([name for name in GROUNDS if name != "white"]))
        return self.scene(self.joined(caption), plain=held)

    def joined(self, caption: Caption) -> Caption:
        """Now and then "A to the left of B" is only "A and B", which is drawn alike."""
        drop = caption.relation == "to the left of" and self.rng.random() < 0.4
        return replace(caption, relation=None) if drop else caption

    def scene(self, caption: Caption, *, plain: bool = False) -> Document:
        """The SVG of a caption; the look is left unsaid, for a drawing has only one."""
        text = replace(caption, flat=False).text()
        said = text if plain else vary(self.rng, text, PAINT_PHRASES[:2] + PAINT_PHRASES[4:5] + PAINT_PHRASES[6:])
        return self.svg(said, self.drawings.scene(caption, self.drawing_of))

    def definition(self, *, held: bool = False) -> Document:
        """What a word means; `held` asks in the phrasing that training never uses."""
        index = self.deal("definition", len(self.words["word"]))
        if not held and self.rng.random() < BY_CHANCE:
            word, asked = self.words["word"][index], self.words["asked"][index]
            asked = asked_by_chance(self.rng, DEFINITION, word, asked, held=DEFINE_PHRASES[-1].format(word))
            return self.chat(self.cased(asked), self.words["answer"][index])
        # The first two phrasings are what people type most.
        form = -1 if held else self.rng.choice((0, 0, 0, 1, *range(2, len(DEFINE_PHRASES) - 1)))
        return self.chat(self.define_question(index, form), self.words["answer"][index])

    def worded(self) -> Document:
        """What a word means, asked for by any verb: "what is gilded by a heron"."""
        index = self.deal("worded", len(self.words["word"]))
        seen = participle(self.rng.choice(self._verbs))
        word, asked = self.words["word"][index], self.words["asked"][index]
        kept = DEFINE_PHRASES[-1].format(word)
        said = asked_by_chance(self.rng, WORDED, word, asked, held=kept, seen=seen)
        said = said[:1].upper() + said[1:] if self.rng.random() < 0.5 else said
        return self.chat(said, self.words["answer"][index])

    def fact(self, *, held: bool = False) -> Document:
        """A plain fact, a kind, parts, an opposite, an example, or a sum; `held` asks in untrained phrasings."""
        asked, answer = self.knowledge.fact(held=held)
        return self.chat(asked if held else self.cased(asked), self.tokenizer.encode(answer))

    def talk(self, *, held: bool = False) -> Document:
        """The last turn of a conversation, the others given; `held` says it in untrained words."""
        *before, last = self.talks.conversation(held=held)
        history = [(turn.question, turn.reply) for turn in before]
        ids = chat_ids(self.tokenizer, last.question, history=history)
        return ids, answer_ids(self.tokenizer, last.reply, think=last.think)

    def refusal(self, *, held: bool = False) -> Document:
        """Something that cannot be done here."""
        asked, answer = self.refused(held=held)
        return self.chat(asked if held else self.cased(asked), self.tokenizer.encode(answer))

    def refused(self, *, held: bool = False) -> tuple[str, str]:
        """(request, answer) of something that cannot be done here."""
        nouns = self._nouns[self.deal("refusal", len(self._nouns))]
        return refusal(self.rng, [nouns], self.nonsense(), held=held)

    def slip(self, *, held: bool = False) -> Document:
        """A request for an icon, a drawing or a meaning with one typing error."""
        while True:
            kind = self.rng.choice(("icon", "drawing", "definition"))
            if kind == "icon":
                index = int(self.named_icons[self.deal("slip icon", len(self.named_icons))])
                asked, ids = self.icon_request(index, 0), self.icons["drawing"][index]
            elif kind == "drawing":
                name, ids = self.called_things[self.deal("slip drawing", len(self.called_things))]
                asked = noun_phrase(name)
            else:
                index = self.deal("slip definition", len(self.words["word"]))
                asked, ids = self.define_question(index, 0), self.words["answer"][index]
            wrong = mistyped(self.rng, asked, self._spelled, held=held)
            if wrong != asked:
                return (self.chat if kind == "definition" else self.svg)(wrong, ids)

    def described(self) -> Document:
        """A drawing of a thing by what it means instead of its name."""
        places = self._described
        if not places:
            return self.drawing()
        index, name = places[self.deal("described", len(places))]
        meaning = self.tokenizer.decode([int(token) for token in self.words["answer"][index]]).partition(": ")[2]
        return self.svg(meaning.rstrip("."), self.drawing_of[name])

    def manner(self) -> Document:
        """Talk about the model itself, and words that do not exist."""
        if self.rng.random() < 0.4:
            word = self.nonsense()
            asked = self.rng.choice(DEFINE_PHRASES[:-1]).format(word, a=article(word) + word)
            return self.chat(asked, self.tokenizer.encode(UNKNOWN_WORD))
        fact = self.rng.choice(manners())
        question = self.rng.choice(fact.questions)
        question = question.rstrip("?") if self.rng.random() < 0.3 else question
        return self.chat(question.lower() if self.rng.random() < 0.4 else question, self.tokenizer.encode(fact.answer))

    def caption(self) -> Document:
        """A request for a picture or a clip: the caption itself is learnt, for it has no answer in words."""
        if self.rng.random() < 0.6:
            text = vary(self.rng, random_picture(self.rng, self.scene_names).text(), PAINT_PHRASES)
            return (), paint_ids(self.tokenizer, text)
        text = vary(self.rng, random_clip(self.rng, self.scene_names).text(), FILM_PHRASES)
        return (), film_ids(self.tokenizer, text)

    def hidden(self, *, held: bool = False) -> Document:
        """A question about a scene told in words, answered through the description of what an onlooker sees."""
        caption = random_picture(self.rng, self.scene_names, weights=(0.25, 0.45, 0.15, 0.15), shapes=0.4)
        kind, question, answer = one_question(questions(caption, self.rng, self.scene_names, held=held), self.rng)
        ids = chat_ids(self.tokenizer, f"{caption.sentence()} {question}")
        think = None if kind == "describe" else caption.seen().sentence()
        return ids, answer_ids(self.tokenizer, answer, think=think)

    def asked(self, *, held: bool = False) -> Document:
        """A question whose picture is away and whose description is given; only the answer is learnt."""
        caption = random_picture(self.rng, self.scene_names, weights=(0.15, 0.5, 0.2, 0.15), shapes=0.5)
        found = questions(caption, self.rng, self.scene_names, held=held)
        _, question, answer = one_question([asked for asked in found if asked[0] != "describe"], self.rng)
        given = answer_ids(self.tokenizer, "", think=caption.seen().sentence())[:-1]
        return [*chat_ids(self.tokenizer, question), *given], answer_ids(self.tokenizer, answer)

    # Pieces.
    def icon_request(self, index: int, form: int) -> str:
        """The request by name (0), style and name (1), name and set (2), or in full (3)."""
        name, style, source = (self.icons[key][index] for key in ("name", "style", "set"))
        forms = (f"{name} icon", f"{style} {name} icon", f"{name} icon, {source}", f"{style} {name} icon, {source}")
        return forms[form]

    def define_question(self, index: int, form: int) -> str:
        """The question for a word in one of DEFINE_PHRASES; a bare word that is a greeting is asked for in full."""
        word, asked = self.words["word"][index], self.words["asked"][index]
        question = DEFINE_PHRASES[form].format(word, a=asked)
        if question.lower() in self._manner_words:
            question = DEFINE_PHRASES[0].format(word, a=asked)
        if self.words["part"][index] == "n" and word == word.lower() and is_plural(word):
            question = question.replace("What is ", "What are ", 1).replace("what is ", "what are ", 1)
        return question

    @cached_property
    def _manner_words(self) -> set[str]:
        return {question.lower().rstrip("?") for fact in manners() for question in fact.questions}

    def wish(self, request: str, *, plain: bool = False) -> str:
        """The request as somebody may type it; mostly bare."""
        if plain or self.rng.random() < 0.85:
            return self.cased(request) if not plain else request
        phrase = self.rng.choice(DRAW_PHRASES[1:])
        return self.cased(phrase.format(request, a=("an " if request[0] in "aeio" else "a ") + request))

    def cased(self, text: str) -> str:
        """Now and then with a capital, in capitals, or with a full stop."""
        draw = self.rng.random()
        if draw > 0.1:
            return text
        stop = "." if draw < 0.03 and text[-1:] not in ".?!" else ""
        return text[:1].upper() + text[1:] + stop if draw < 0.08 else text.title()

    def nonsense(self) -> str:
        """A word that could be one and is none."""
        while True:
            word = "".join(self.rng.choice(choices) for choices in _NONSENSE)
            if word not in self._known_words:
                return word

    @cached_property
    def _known_words(self) -> set[str]:
        return {word.lower() for word in (*self.words["word"], *self.things["name"])}

    @cached_property
    def _spelled(self) -> set[str]:
        """Every single word of a name."""
        names = (*self._known_words, *self.icon_names, *(name for name, _ in self.called_things))
        return {word for name in names for word in name.lower().split()}

    @cached_property
    def _verbs(self) -> list[str]:
        """Verbs of one word; not "mean", which one phrasing that is kept for judging turns on."""
        pairs = zip(self.words["word"], self.words["part"], strict=True)
        return [word for word, part in pairs if part == "v" and word.isalpha() and word != "mean"] or ["express"]

    @cached_property
    def _nouns(self) -> list[tuple[str, str]]:
        """(bare, with its article) of common nouns."""
        words = self.words
        found = [place for place, kinds in enumerate(words["categories"]) if kinds and " " not in words["word"][place]]
        return [(words["word"][place], words["asked"][place]) for place in found] or [("heron", "a heron")]

    @cached_property
    def _described(self) -> list[tuple[int, str]]:
        """(word, thing) of drawn things whose meaning is known."""
        found = [(place, word) for place, word in enumerate(self.words["word"]) if word in self.drawing_of]
        return [(place, name) for place, name in found if self.words["broader"][place]]

    def part_icon(self, deck: str) -> int:
        """An icon for a composition."""
        return int(self.part_icons[self.deal(deck, len(self.part_icons))])

    def deal(self, deck: str, count: int) -> int:
        """The next index of a named deck."""
        if deck not in self._decks:
            self._decks[deck] = Deck(count, self.rng)
        return self._decks[deck].deal()

    def svg(self, prompt: str, drawing: Sequence[int] | np.ndarray) -> Document:
        """A request for a drawing and the drawing."""
        end = self.tokenizer.id_of("<|eos|>")
        return svg_ids(self.tokenizer, prompt), np.append(
            np.asarray(drawing, np.int32) + self.tokenizer.svg_offset, end
        )

    def chat(self, question: str, answer: Sequence[int] | np.ndarray) -> Document:
        """A question and its answer in ids."""
        end = self.tokenizer.id_of("<|eos|>")
        return chat_ids(self.tokenizer, question), np.append(np.asarray(answer, np.int32), end)
