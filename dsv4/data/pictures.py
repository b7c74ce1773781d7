"""The endless streams of picture tasks: what to draw, as arrays for the device, and the words that go with it.

Shape letters: B rows, T tokens. In a batch, `targets[t]` is the token to be predicted AFTER position t (already
shifted), IGNORE where nothing is learnt. Every batch of a kind has the same shapes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsv4.chat_format import Call, answer_ids, chat_ids, film_ids, paint_ids
from dsv4.data.atlas import Names
from dsv4.data.captions import (
    FILM_PHRASES,
    PAINT_PHRASES,
    QUESTIONS,
    one_question,
    questions,
    random_clip,
    random_picture,
    vary,
)
from dsv4.data.glyphs import Faces
from dsv4.data.glyphs_layout import Page, print_lines, printable_words, random_lines, random_page
from dsv4.data.language import Caption
from dsv4.data.scenes import LOOKED_ACTORS, LOOKED_AT, PAINTED, drawable, only_shapes, place_scenes
from dsv4.data.store import load_table
from dsv4.data.things import scene_names
from dsv4.errors import unknown
from dsv4.tokenizer import Tokenizer

IGNORE = -100
KINDS = ("paint", "film", "see", "read")
# Tokens of a row; what is longer is drawn anew. Scenes and pages share a pass, so they are of one length.
LENGTH = {"paint": 40, "film": 40, "see": 272, "read": 272}
PLACES = 73  # of a picture in Tiny mode
SEEN = (0.14, 0.24, 0.18, 0.06, 0.17, 0.21)  # shares of scenes to look at, as `random_picture` takes them
PAGES = 0.5  # of what is to be read: whole pages
SECOND = 0.2  # of the questions about a picture that come after another one
# "Draw it" of a picture: the hands are given what the eyes saw.
DRAW_SEEN = {
    "svg": ("Draw it.", "Draw this as an SVG.", "draw this", "Make an SVG of it."),
    "image": ("Paint it.", "Paint this picture.", "paint this", "Make a picture of it."),
}
READ_QUESTIONS = ("What does it say?", "What is written here?", "Read this.", "What text is in the picture?")

Batch = dict[str, np.ndarray]


class PictureStream:
    """Iterates for ever over batches of one kind; the same batches for the same seed.

    All kinds: ids int32 [B, T]. paint, film: mask bool [B, T]. see, read: targets int32 [B, T].
    paint, film, see: the arrays of `scenes.Scenes`. read: the arrays of `glyphs_layout.Page`.
    """

    def __init__(
        self,
        data_dir: Path,
        kind: str,
        *,
        seed: int,
        rows: int,
        tokenizer: Tokenizer | None = None,
        places: int = PLACES,
    ) -> None:
        if kind not in KINDS:
            raise unknown("kind of picture task", kind, KINDS)
        data_dir = Path(data_dir)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the streams run in forked workers
        self.kind, self.rows, self.places = kind, rows, places
        self.tokenizer = tokenizer or Tokenizer.from_file(data_dir / "tokenizer.json")
        self.rng = random.Random(f"{kind} {seed}")
        self.pad = self.tokenizer.id_of("<|pad|>")
        self.length = LENGTH[kind] + (places - PLACES if kind in ("see", "read") else 0)
        if kind == "read":
            self.faces = Faces.load(data_dir)
            self.words = printable_words(load_table(data_dir / "words.npz")["word"])
        else:
            self.names = Names.load(data_dir)
            self.things = scene_names(self.names.things)
            self.meanings = load_table(data_dir / "words.npz") if kind == "see" else {}
        self._batch: Callable[[], Batch] = {
            "paint": self._paint, "film": self._film, "see": self._see, "read": self._read,
        }[kind]  # fmt: skip

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self._batch()

    def batch(self) -> Batch:
        """The next batch."""
        return self._batch()

    def _paint(self) -> Batch:
        captions, prompts = [], []
        for _ in range(self.rows):
            caption = drawable(random_picture(self.rng, self.things), self.names)
            if caption.relation == "to the left of" and self.rng.random() < 0.4:
                caption = replace(caption, relation=None)  # "A and B" stand as "A to the left of B"
            captions.append(caption)
            prompts.append(vary(self.rng, caption.text(), PAINT_PHRASES))
        return self._prompted(captions, prompts, paint_ids)

    def _film(self) -> Batch:
        captions = [drawable(random_clip(self.rng, self.things), self.names) for _ in range(self.rows)]
        prompts = [vary(self.rng, caption.text(), FILM_PHRASES) for caption in captions]
        return self._prompted(captions, prompts, film_ids)

    def _prompted(
        self, captions: list[Caption], prompts: Sequence[str], form: Callable[[Tokenizer, str], list[int]]
    ) -> Batch:
        ids_BT = np.full((self.rows, self.length), self.pad, np.int32)
        mask_BT = np.zeros((self.rows, self.length), np.bool_)
        for row, prompt in enumerate(prompts):
            ids = form(self.tokenizer, prompt)
            if len(ids) > self.length:  # the bare caption of one thing always fits
                captions[row] = Caption(nouns=captions[row].nouns[:1], motions=captions[row].motions[:1])
                ids = form(self.tokenizer, captions[row].text())
            ids_BT[row, : len(ids)] = ids
            mask_BT[row, : len(ids)] = True
        scenes = place_scenes(captions, self.names, jitter=PAINTED, rng=self.rng)
        return {"ids": ids_BT, "mask": mask_BT, **scenes.arrays()}

    def _see(self) -> Batch:
        captions, asked = [], []
        while len(captions) < self.rows:
            caption = visible(random_picture(self.rng, self.things, weights=SEEN), self.names)
            history = []
            if self.rng.random() < SECOND:
                _, *earlier = pick_question(caption, self.rng, self.things)
                history.append(tuple(earlier))
            kind, question, answer = self._asked_of(caption)
            think = None if kind in ("describe", "word") else caption.seen().sentence()
            request = chat_ids(self.tokenizer, question, image_tokens=(self.places,), history=history, shown_at=0)
            reply = answer_ids(self.tokenizer, answer, think=think)
            if len(request) + len(reply) <= self.length:
                captions.append(caption)
                asked.append((request, reply))
        scenes = place_scenes(captions, self.names, jitter=LOOKED_AT, rng=self.rng, actors=LOOKED_ACTORS)
        return {**self._answered(asked), **scenes.arrays()}

    def _asked_of(self, caption: Caption) -> tuple[str, str, str]:
        """A kind, a question and its answer; now and then the wish to have it drawn or painted anew."""
        if self.rng.random() < 0.04:
            kind = self.rng.choice(tuple(DRAW_SEEN))
            seen = caption.seen()
            prompt = replace(seen, flat=False).text() if kind == "svg" else seen.text()
            return "call", self.rng.choice(DRAW_SEEN[kind]), Call(kind=kind, prompt=prompt).text
        if self.rng.random() < 0.04:  # a picture that was shown does not end all other talk
            index = self.rng.randrange(len(self.meanings["word"]))
            answer = self.tokenizer.decode([int(token) for token in self.meanings["answer"][index]])
            return "word", f"What is {self.meanings['asked'][index]}?", answer
        return pick_question(caption, self.rng, self.things)

    def _read(self) -> Batch:
        page, asked = Page.empty(self.rows), []
        choices = self.faces.choices()
        while len(asked) < self.rows:
            page_of = random_page if self.rng.random() < PAGES else random_lines
            lines = page_of(self.rng, self.words)
            question = READ_QUESTIONS[0] if self.rng.random() < 0.7 else self.rng.choice(READ_QUESTIONS[1:])
            request = chat_ids(self.tokenizer, question, image_tokens=(self.places,))
            reply = answer_ids(self.tokenizer, "\n".join(lines))
            if len(request) + len(reply) <= self.length:
                print_lines(page, len(asked), lines, self.faces, self.rng.choice(choices), self.rng)
                asked.append((request, reply))
        return {**self._answered(asked), **page.arrays()}

    def _answered(self, asked: Sequence[tuple[list[int], list[int]]]) -> Batch:
        ids_BT = np.full((self.rows, self.length), self.pad, np.int32)
        targets_BT = np.full((self.rows, self.length), IGNORE, np.int32)
        for row, (request, reply) in enumerate(asked):
            first, stop = len(request), len(request) + len(reply)
            ids_BT[row, :first] = request
            ids_BT[row, first:stop] = reply
            targets_BT[row, first - 1 : stop - 1] = reply
        return {"ids": ids_BT, "targets": targets_BT}


def visible(caption: Caption, names: Names) -> Caption:
    """The caption with nothing in it that the picture cannot show: coloured shapes have one look only."""
    caption = drawable(caption, names)
    return replace(caption, flat=False) if caption.flat and only_shapes(caption) else caption


def pick_question(
    caption: Caption, rng: random.Random, things: Sequence[str], *, kind: str | None = None, held: bool = False
) -> tuple[str, str, str]:
    """A (kind, question, answer) that the picture settles: in two of five its description, else another kind.

    kind: take this kind; raises ValueError when the caption settles no question of it.
    """
    # The look of bare shapes cannot be seen, so it is not asked for.
    found = [
        asked for asked in questions(caption, rng, things, held=held) if asked[0] != "look" or not only_shapes(caption)
    ]
    if kind is not None:
        found = [asked for asked in found if asked[0] == kind]
        if not found:
            raise ValueError(
                f"'{caption.text()}' settles no question of the kind '{kind}'; kinds: {', '.join(QUESTIONS)}"
            )
        return rng.choice(found)
    if rng.random() < 0.4:
        return found[0]
    return one_question([asked for asked in found if asked[0] != "describe"], rng)
