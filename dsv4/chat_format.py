"""How requests and answers are laid out as token ids; one function a task, the same for training and for use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dsv4.errors import unknown
from dsv4.tokenizer import Tokenizer

TASKS = {"svg": "<|svg|>", "image": "<|paint|>", "video": "<|film|>"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a conversation asks the hands for: `kind` is svg, image or video, `prompt` what the verb is given.

    In text it stands as "svg: red heart icon"; in ids as the kind's token and the words. InputError for another kind.
    """

    kind: str
    prompt: str

    def __post_init__(self) -> None:
        if self.kind not in TASKS:
            raise unknown("kind of call", self.kind, TASKS)

    @property
    def text(self) -> str:
        """How it is told and remembered."""
        return f"{self.kind}: {self.prompt}"

    @classmethod
    def parse(cls, text: str) -> Call | None:
        """The call that a reply is, None when it is words."""
        found = re.fullmatch(rf"({'|'.join(TASKS)}): (\S[^\n]*)", text)
        return None if found is None else cls(kind=found[1], prompt=found[2])


def call_ids(tokenizer: Tokenizer, call: Call) -> list[int]:
    """`<|svg|> words`: a reply that asks the hands, without its end."""
    return [tokenizer.id_of(TASKS[call.kind]), *tokenizer.encode(call.prompt)]


def said_ids(tokenizer: Tokenizer, reply: str) -> list[int]:
    """A reply in ids, without its end: words, or a call where the text is one."""
    call = Call.parse(reply)
    return tokenizer.encode(reply) if call is None else call_ids(tokenizer, call)


def chat_ids(
    tokenizer: Tokenizer,
    text: str,
    *,
    image_tokens: Sequence[int] = (),
    answer: str | None = None,
    think: str | None = None,
    history: Sequence[tuple[str, str]] = (),
    context: Sequence[int] = (),
    shown_at: int | None = None,
) -> list[int]:
    """`bos (user text assistant text eos)* user [image] [context] text assistant [<think>think</think>] answer eos`.

    Open ended without an answer.

    image_tokens: how many places each picture takes. history: earlier (question, answer) pairs, oldest first.
    context: ids that stand before the question, for example a packed repository.
    shown_at: the question, counted from 0, before which pictures and context stand; the last one unless told.
    """
    of = tokenizer.id_of
    shown = [*[of("<|image|>")] * sum(image_tokens), *context]
    at = len(history) if shown_at is None else shown_at
    ids = [of("<|bos|>")]
    for place, (question, reply) in enumerate(history):
        ids += [of("<|user|>"), *(shown if place == at else ()), *tokenizer.encode(question)]
        ids += [of("<|assistant|>"), *said_ids(tokenizer, reply), of("<|eos|>")]
    ids += [of("<|user|>"), *(shown if at == len(history) else ()), *tokenizer.encode(text), of("<|assistant|>")]
    return ids if answer is None else ids + answer_ids(tokenizer, answer, think=think)


def answer_ids(tokenizer: Tokenizer, answer: str, *, think: str | None = None) -> list[int]:
    """What follows `assistant`: the hidden description when there is one, the answer (words or a call), and eos."""
    of = tokenizer.id_of
    hidden = [] if think is None else [of("<think>"), *tokenizer.encode(think), of("</think>")]
    return [*hidden, *said_ids(tokenizer, answer), of("<|eos|>")]


def svg_ids(tokenizer: Tokenizer, prompt: str, drawing: Sequence[int] | None = None) -> list[int]:
    """`bos user prompt <|svg|>`, then the drawing and eos when given; `drawing` counts from the first SVG token."""
    ids = _request(tokenizer, prompt, "<|svg|>")
    if drawing is None:
        return ids
    return [*ids, *(tokenizer.svg_offset + token for token in drawing), tokenizer.id_of("<|eos|>")]


def paint_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """`bos user prompt <|paint|>`; the head reads the core's states at all these places."""
    return _request(tokenizer, prompt, "<|paint|>")


def film_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """`bos user prompt <|film|>`; the head reads the core's states at all these places."""
    return _request(tokenizer, prompt, "<|film|>")


def _request(tokenizer: Tokenizer, prompt: str, task: str) -> list[int]:
    of = tokenizer.id_of
    return [of("<|bos|>"), of("<|user|>"), *tokenizer.encode(prompt), of(task)]
