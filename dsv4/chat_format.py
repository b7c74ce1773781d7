"""How requests and answers are laid out as token ids; one function a task, the same for training and for use."""

from __future__ import annotations

from collections.abc import Sequence

from dsv4.tokenizer import Tokenizer


def chat_ids(
    tokenizer: Tokenizer,
    text: str,
    *,
    image_tokens: Sequence[int] = (),
    answer: str | None = None,
    think: str | None = None,
    history: Sequence[tuple[str, str]] = (),
    context: Sequence[int] = (),
) -> list[int]:
    """`bos user [image places] [context] text assistant [<think>think</think>] answer eos`.

    Open ended without an answer.

    image_tokens: how many places each picture takes. history: earlier (question, answer) pairs, oldest first.
    context: ids that stand before the question, for example a packed repository.
    """
    of = tokenizer.id_of
    ids = [of("<|bos|>")]
    for question, reply in history:
        ids += [of("<|user|>"), *tokenizer.encode(question), of("<|assistant|>"), *tokenizer.encode(reply)]
        ids.append(of("<|eos|>"))
    ids.append(of("<|user|>"))
    ids += [of("<|image|>")] * sum(image_tokens)
    ids += [*context, *tokenizer.encode(text), of("<|assistant|>")]
    return ids if answer is None else ids + answer_ids(tokenizer, answer, think=think)


def answer_ids(tokenizer: Tokenizer, answer: str, *, think: str | None = None) -> list[int]:
    """What follows `assistant`: the hidden description when there is one, the answer, and eos."""
    of = tokenizer.id_of
    hidden = [] if think is None else [of("<think>"), *tokenizer.encode(think), of("</think>")]
    return [*hidden, *tokenizer.encode(answer), of("<|eos|>")]


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
