"""Judges of the correction of typing errors: requests with one slip as they are read, and what must stay as it is.

Only the first needs a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsv4.chat_format import chat_ids, svg_ids
from dsv4.data.documents import Documents
from dsv4.eval import text
from dsv4.eval.rows import Score, Session
from dsv4.eval.run_model import device_of
from dsv4.spelling import Speller
from dsv4.tokenizer import Tokenizer

# Kinds of held-out requests without a typing error, and all that the first score table asks for.
GOOD = (
    "definition_rephrased", "fact_rephrased", "difference", "talk", "talk_rephrased", "refused", "described", "synonym",
    "icon_by_name", "icon_full", "held_out_colour", "drawing", "composition", "scene_svg", "scene_drawn", "question",
)  # fmt: skip
# How a word that does not exist is asked for, and whether a drawing is.
UNKNOWN = (("draw a {}", True), ("What is a {}?", False))


def mistyped(session: Session) -> Score:
    """Exact answers to requests with one typing error, each read as the studio reads it."""
    model, speller = session.model, session.studio.speller
    found = [
        (as_read(case, model.tokenizer, speller), list(case.answer_ids))
        for case in text.cases(session.data_dir, "mistyped", session.limit)
    ]
    pad = model.tokenizer.id_of("<|pad|>")
    return Score(hits=sum(text.exact(model.core, found, pad=pad, device=device_of(model))), count=len(found))


def as_read(case: text.Case, tokenizer: Tokenizer, speller: Speller) -> list[int]:
    """The ids of a single request as the studio would make them of its words."""
    drawing = case.prompt_ids[-1] == tokenizer.id_of("<|svg|>")
    read = speller.correct(case.prompt, drawing=drawing)
    if not read.changes:
        return list(case.prompt_ids)
    return (svg_ids if drawing else chat_ids)(tokenizer, read.text)


def left_alone(session: Session) -> Score:
    """Good held-out requests, of conversations the newest question, that are read as they were typed."""
    tokenizer, speller, hits, count = session.model.tokenizer, session.studio.speller, 0, 0
    for kind in GOOD:
        for case in text.cases(session.data_dir, kind, session.limit):
            hits += not changes_in(case.prompt_ids, tokenizer, speller)
            count += 1
    return Score(hits=hits, count=count)


def changes_in(prompt_ids: Sequence[int], tokenizer: Tokenizer, speller: Speller) -> tuple[tuple[str, str], ...]:
    """What is changed in the newest question of a request."""
    user = tokenizer.id_of("<|user|>")
    last = len(prompt_ids) - 1 - list(reversed(prompt_ids)).index(user)
    drawing = prompt_ids[-1] == tokenizer.id_of("<|svg|>")
    return speller.correct(tokenizer.decode(list(prompt_ids[last:])), drawing=drawing).changes


def words_left_alone(session: Session) -> Score:
    """Words that do not exist (`Documents.nonsense`), asked to be drawn and to be explained, that stay as they are."""
    documents = Documents(Path(session.data_dir), seed=0)
    speller, hits = session.studio.speller, 0
    for number in range(session.limit):
        form, drawing = UNKNOWN[number % len(UNKNOWN)]
        hits += not speller.correct(form.format(documents.nonsense()), drawing=drawing).changes
    return Score(hits=hits, count=session.limit)
