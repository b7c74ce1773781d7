"""From what a person hands in (words, pictures, a conversation) to one checked ModelInput.

Shape letters: B batch (1), T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.chat_format import chat_ids, film_ids, paint_ids, svg_ids
from dsv4.errors import InputError
from dsv4.limits import check_mode, check_prompt
from dsv4.messages import Document, Image, Message, Repo, Text, Video
from dsv4.model_input import ModelInput
from dsv4.pictures_in import open_pictures
from dsv4.tokenizer import Tokenizer

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

PROMPT_TOKENS = 8192
# What a model that was taught conversations is told of one: so many turns at most, and so many tokens.
TURNS, TURN_TOKENS = 6, 600


class Processor:
    """Turns requests into token ids and picture views for one tokenizer; raises InputError for what it cannot take."""

    def __init__(self, tokenizer: Tokenizer, *, talks: bool = False) -> None:
        self.tokenizer, self.talks = tokenizer, talks

    def chat(
        self,
        prompt: str,
        shown: Sequence[Image | Document | Video | Repo],
        *,
        mode: str,
        history: Sequence[Message] = (),
    ) -> ModelInput:
        """A question with its pictures and repositories, ready for the answer.

        A question without either is asked of the last pictures that the conversation showed, or of the repository where
        it was shown later. A repository is packed into the room that is left, with what the question asks for first.
        A model that was taught to talk is told the last turns, with the pictures before the question they came with.
        """
        words = one_line(prompt)
        vision = part("vision")
        chosen = vision.get_mode(check_mode(mode))
        earlier = self._turns(history) if self.talks and not shown else []
        shown = list(shown) or last_shown(history, made=not self.talks)
        repos = [one for one in shown if isinstance(one, Repo)]
        pictures = open_pictures([one for one in shown if not isinstance(one, Repo)])
        views = tuple(_prepare(vision, picture, chosen) for picture in pictures)
        counts = tuple(view.tokens for view in views)
        context: list[int] = []
        if repos:
            earlier = []
            taken = len(chat_ids(self.tokenizer, words, image_tokens=counts))
            context = self._packed(repos, words, PROMPT_TOKENS - taken)
        at = 0 if counts and earlier else None
        ids = chat_ids(self.tokenizer, words, image_tokens=counts, context=context, history=earlier, shown_at=at)
        return self._input(ids, views, counts)

    def _turns(self, history: Sequence[Message]) -> list[tuple[str, str]]:
        """The last questions with their replies, from the one that showed pictures on where there was one."""
        turns: list[tuple[str, str]] = []
        asked = ""
        for message in history:
            words = " ".join(message.text.split())
            if message.role == "user":
                if any(not isinstance(one, Text) for one in message.parts):
                    turns = []
                asked = words
            elif message.role == "assistant" and asked and words:
                turns.append((asked, words))
                asked = ""
        turns = turns[-TURNS:]
        while turns and len(chat_ids(self.tokenizer, "", history=turns)) > TURN_TOKENS:
            turns = turns[1:]
        return turns

    def _packed(self, repos: Sequence[Repo], words: str, room: int) -> list[int]:
        from dsv4.repository.pack import SMALLEST, pack
        from dsv4.repository.vocabulary import of_tokenizer

        ids: list[int] = []
        for number, one in enumerate(repos):
            free = (room - len(ids)) // (len(repos) - number)
            if free < SMALLEST or (one.budget or 0) > free:
                raise InputError(f"a repository of {one.budget or SMALLEST:,} tokens does not fit: {free:,} are left")
            budget = one.budget or free
            counts = of_tokenizer(self.tokenizer)
            ids += pack(one.source, budget=budget, query=words, counts=counts, ignore=one.ignore).ids
        return ids

    def page(self, prompt: str, picture: Pixels, mode: Any) -> ModelInput:
        """A question about one opened page, in a row of the mode table."""
        view = _prepare(part("vision"), picture, mode)
        return self._input(chat_ids(self.tokenizer, prompt, image_tokens=(view.tokens,)), (view,), (view.tokens,))

    def svg(self, prompt: str) -> ModelInput:
        """A request for an SVG."""
        return self._input(svg_ids(self.tokenizer, one_line(prompt)))

    def image(self, prompt: str) -> ModelInput:
        """A request for a picture."""
        return self._input(paint_ids(self.tokenizer, one_line(prompt)))

    def video(self, prompt: str) -> ModelInput:
        """A request for a clip."""
        return self._input(film_ids(self.tokenizer, one_line(prompt)))

    def _input(self, ids: list[int], views: tuple[Any, ...] = (), counts: tuple[int, ...] = ()) -> ModelInput:
        import torch

        if len(ids) > PROMPT_TOKENS:
            raise InputError(
                f"the request takes {len(ids):,} tokens; at most {PROMPT_TOKENS:,} fit: "
                "show fewer pictures, a smaller mode, or fewer words"
            )
        place = self.tokenizer.id_of("<|image|>")
        spans: list[tuple[int, int]] = []
        start = 0
        for count in counts:
            start = ids.index(place, start)
            spans.append((start, start + count))
            start += count
        return ModelInput(token_ids_BT=torch.tensor([ids]), views=views, image_spans=tuple(spans))


def last_shown(history: Sequence[Message], *, made: bool = True) -> list[Image | Document | Video | Repo]:
    """What the latest message showed that showed anything; without `made`, of those that people sent."""
    for message in reversed(history):
        if message.role == "assistant" and not made:
            continue
        shown = [one for one in message.parts if isinstance(one, Image | Document | Video | Repo)]
        if shown:
            return shown
    return []


def one_line(prompt: str) -> str:
    """The checked prompt with every run of white space turned into one space: nano was taught single lines."""
    return re.sub(r"\s+", " ", check_prompt(prompt))


def _prepare(vision: Any, picture: Pixels, mode: Any) -> Any:
    try:
        return vision.prepare(picture, mode)
    except ValueError as error:
        raise InputError(str(error)) from error
