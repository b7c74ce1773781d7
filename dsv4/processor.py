"""From what a person hands in (words, pictures, a conversation) to one checked ModelInput.

Shape letters: B batch (1), T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.chat_format import chat_ids, film_ids, paint_ids, svg_ids
from dsv4.errors import InputError
from dsv4.limits import LIMITS
from dsv4.messages import Image
from dsv4.model_input import ModelInput
from dsv4.tokenizer import Tokenizer

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels


class Processor:
    """Turns checked requests into token ids and picture views for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def chat(self, prompt: str, pictures: Sequence[Any], *, mode: str) -> ModelInput:
        """A question with its pictures, ready for the answer. Raises InputError for what cannot be read."""
        prompt = clean_prompt(prompt)
        vision = part("vision")
        try:
            chosen = vision.get_mode(mode)
            views = tuple(vision.prepare(self.open(picture), chosen) for picture in pictures)
        except ValueError as error:
            raise InputError(str(error)) from error
        counts = tuple(view.num_tokens for view in views)
        ids = chat_ids(self.tokenizer, prompt, image_tokens=counts)
        return self._input(ids, views, counts)

    def svg(self, prompt: str) -> ModelInput:
        """A request for an SVG."""
        return self._input(svg_ids(self.tokenizer, clean_prompt(prompt)))

    def image(self, prompt: str) -> ModelInput:
        """A request for a picture."""
        return self._input(paint_ids(self.tokenizer, clean_prompt(prompt)))

    def video(self, prompt: str) -> ModelInput:
        """A request for a clip."""
        return self._input(film_ids(self.tokenizer, clean_prompt(prompt)))

    def open(self, picture: Any) -> Pixels:
        """A picture from a path, bytes, a PIL image, an array or an Image part; InputError when it is none."""
        source = picture.source if isinstance(picture, Image) else picture
        if isinstance(source, str):
            source = Path(source)
        if isinstance(source, Path) and not source.is_file():
            raise InputError(f"there is no picture at '{source}'")
        try:
            return part("vision").open_picture(source)
        except (ValueError, OSError) as error:
            raise InputError(str(error)) from error

    def _input(self, ids: list[int], views: tuple[Any, ...] = (), counts: tuple[int, ...] = ()) -> ModelInput:
        import torch

        if len(ids) > LIMITS.prompt_tokens:
            raise InputError(
                f"the request is {len(ids)} tokens long; at most {LIMITS.prompt_tokens} fit: "
                "fewer or smaller pictures, or fewer words"
            )
        place = self.tokenizer.id_of("<|image|>")
        token_ids_BT = torch.tensor([ids], dtype=torch.int64)
        memory_ids_BT = token_ids_BT.masked_fill(token_ids_BT == place, -1)
        spans, start = [], 0
        for count in counts:
            start = ids.index(place, start)
            spans.append((start, start + count))
            start += count
        return ModelInput(
            token_ids_BT=token_ids_BT, views=views, image_spans=tuple(spans), memory_ids_BT=memory_ids_BT
        )


def clean_prompt(prompt: str) -> str:
    """One line without outer space; InputError when nothing is left or it is no text."""
    if not isinstance(prompt, str):
        raise InputError(f"a prompt is text, got {type(prompt).__name__}")
    line = re.sub(r"\s+", " ", prompt).strip()
    if not line:
        raise InputError("the prompt is empty: say what you would like")
    if len(line) > LIMITS.prompt_characters:
        raise InputError(f"the prompt has {len(line)} characters; at most {LIMITS.prompt_characters} are read")
    return line
