"""Rows of the second score table: talk, slips of the fingers, new phrasings, refusals, five things, whole pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dsv4.data.facts import UNKNOWN_WORD
from dsv4.data.refusals import ANSWERS
from dsv4.eval import reading, spelled, text
from dsv4.eval.rows import Row, Score, Session, look, seeing_row, text_row

# Characters a vision token: Tiny mode has 64 of them.
DENSITIES = (1, 2, 4, 8)
TOKENS = 64


def page_errors(session: Session, density: int) -> Score:
    """Characters of whole pages that are read right, as a rate; `density` characters a vision token."""
    from dsv4.data.glyphs import GlyphSheets

    found = reading.page_cases(session.data_dir, characters=density * TOKENS, limit=session.limit)
    pages = reading.pictures(found, GlyphSheets.load(session.data_dir))
    said = look(session, [reading.QUESTION] * len(found), pages, max_tokens=96 * density)
    return Score(rate=max(0.0, 1 - reading.error_rate(found, said)), count=len(found))


def _refused_in_error(session: Session) -> Score:
    """Good questions that are answered as if they could not be."""
    asked = [case.prompt for case in text.cases(session.data_dir, "definition_rephrased", session.limit // 2)]
    asked += [case.prompt for case in text.cases(session.data_dir, "fact", session.limit - len(asked))]
    kind = (*ANSWERS, UNKNOWN_WORD)
    said = [session.studio.chat(question, max_tokens=40).reply.text for question in asked]
    return Score(rate=sum(answer in kind for answer in said) / max(1, len(said)), count=len(said))


def _text(key: str, title: str, wanted: str, share: float = 1.0) -> Row:
    return Row(key=key, title=title, wanted=wanted, run=text_row(key), share=share)


def _page(density: int) -> Callable[[Session], Score]:
    return partial(page_errors, density=density)


GROWTH: tuple[Row, ...] = (
    _text("synonym", "icon by a synonym", "≥ 85 %"),
    Row(
        key="mistyped",
        title="icon, drawing or meaning with one typing error",
        wanted="≥ 85 %",
        run=spelled.mistyped,
    ),
    Row(key="mistyped_alone", title="one typing error, without the correction", wanted="–", run=text_row("mistyped")),
    Row(key="left_alone", title="good requests that are not corrected", wanted="≥ 99.9 %", run=spelled.left_alone),
    Row(key="made_up", title="made-up words that stay as they are", wanted="≥ 97 %", run=spelled.words_left_alone),
    _text("described", "drawing by what it means", "≥ 85 %"),
    _text("scene_drawn", "held-out scene of things as SVG, exact", "≥ 97 %", 0.5),
    _text("definition_rephrased", "definition in a phrasing never seen", "≥ 95 %"),
    _text("fact_rephrased", "kinds, parts, opposites, facts, sums, in phrasings never seen", "≥ 95 %"),
    _text("difference", "two words told apart, held-out pair", "–"),
    _text("talk", "a turn of a conversation", "≥ 97 %"),
    _text("talk_rephrased", "a turn of a conversation, in words never seen", "≥ 85 %"),
    _text("refused", "what it cannot do, said kindly", "≥ 97 %"),
    Row(key="wrongly_refused", title="good questions refused", wanted="≤ 1 %", run=_refused_in_error, share=0.5),
    Row(key="four", title="four things described exactly", wanted="≥ 99.5 %", run=seeing_row("four"), share=0.5),
    Row(key="five", title="five things described exactly", wanted="≥ 99.5 %", run=seeing_row("five"), share=0.5),
    *(
        Row(
            key=f"page_{density}",
            title=f"page, {density} character{'s' * (density > 1)} a vision token, read right",
            wanted={1: "–", 2: "≥ 97 %", 4: "≥ 90 %", 8: "–"}[density],
            run=_page(density),
            share=0.2,
        )
        for density in DENSITIES
    ),
)
