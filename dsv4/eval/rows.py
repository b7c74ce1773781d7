"""The rows of the score table: each runs the model on held-out cases and counts what its judge accepts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dsv4._parts import part
from dsv4.eval import clips, pictures, reading, seeing, shapescore, text
from dsv4.eval.run_model import answers, device_of, make_frames

if TYPE_CHECKING:
    from dsv4.data.atlas import Atlas
    from dsv4.model import Model
    from dsv4.studio import Studio

NONSENSE = (
    "colourless green ideas sleep",
    "zxqv blorf",
    "((((",
    "éàü ☃ 漢字",
    "<|eos|> <s:svg>",
    "0",
    "draw",
    "a a a a a a",
)
CLIP = {"size": 64, "frames": 16}
PICTURE = {"size": 128, "frames": 1}


@dataclass(frozen=True, kw_only=True)
class Score:
    """`hits` of `count` cases, or a rate that is no share of cases."""

    hits: int = 0
    count: int = 0
    rate: float | None = None


@dataclass(kw_only=True)
class Session:
    """What the rows run on; `limit` is set anew for each row."""

    studio: Studio
    data_dir: Path
    limit: int

    @property
    def model(self) -> Model:
        """The model behind the studio."""
        return self.studio.model

    @cached_property
    def atlas(self) -> Atlas:
        """All sprites, for the judges of pictures."""
        from dsv4.data.atlas import Atlas

        return Atlas.load(self.data_dir)

    @cached_property
    def nearest(self) -> pictures.Nearest:
        """One judge for all pictures, which keeps what it has drawn."""
        return pictures.Nearest(atlas=self.atlas)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: its key, its words, the figures it is held against, and how it is measured."""

    key: str
    title: str
    wanted: str
    run: Callable[[Session], Score]
    share: float = 1.0  # of the limit: slow rows take fewer cases


def text_row(kind: str) -> Callable[[Session], Score]:
    """Exact answers of a kind of `text.KINDS`."""

    def run(session: Session) -> Score:
        model = session.model
        hits, count = text.judge(
            model.core,
            model.tokenizer,
            session.data_dir,
            kind=kind,
            limit=session.limit,
            device=device_of(model),
        )
        return Score(hits=hits, count=count)

    return run


def _svg_valid(session: Session) -> Score:
    """Prompts of every kind and nonsense, drawn with chance switched on; each must rebuild and render."""
    svg, rng = part("generation.svg"), random.Random(0)
    asked = [
        case.prompt for kind in ("icon_by_name", "drawing") for case in text.cases(session.data_dir, kind, 40, seed=9)
    ]
    hits = 0
    for number in range(session.limit):
        prompt = NONSENSE[number % len(NONSENSE)] if number % 3 == 0 else rng.choice(asked)
        made = session.studio.svg(prompt, seed=number, temperature=1.0, max_tokens=rng.choice((40, 120, 400)))
        try:
            hits += bool(svg.rasterise_trusted(svg.rebuild(made.text), 32).size)
        except ValueError:
            continue
    return Score(hits=hits, count=session.limit)


def _pictures(kind: str) -> Callable[[Session], Score]:
    def run(session: Session) -> Score:
        found = pictures.cases(session.data_dir, kind, limit=session.limit)
        made = make_frames(session.model, [case.prompt for case in found], **PICTURE)
        hits = sum(pictures.judge(case, frames[0], session.nearest) for case, frames in zip(found, made, strict=True))
        return Score(hits=hits, count=len(found))

    return run


def _clips(kind: str) -> Callable[[Session], Score]:
    def run(session: Session) -> Score:
        found = clips.cases(session.data_dir, kind, limit=session.limit)
        made = make_frames(session.model, [case.prompt for case in found], rows=8, **CLIP)
        hits = sum(clips.judge(case, frames, session.nearest) for case, frames in zip(found, made, strict=True))
        return Score(hits=hits, count=len(found))

    return run


def _shapes(session: Session) -> Score:
    """Mean over the six categories of GenEval, each with the same number of cases."""
    each = max(1, session.limit // len(shapescore.CATEGORIES))
    results: dict[str, list[bool]] = {}
    for category in shapescore.CATEGORIES:
        found = shapescore.cases(session.data_dir, category, limit=each)
        made = make_frames(session.model, [case.prompt for case in found], **PICTURE)
        results[category] = [shapescore.judge(case, frames[0]) for case, frames in zip(found, made, strict=True)]
    return Score(hits=sum(map(sum, results.values())), count=sum(map(len, results.values())))


def seeing_row(*kinds: str) -> Callable[[Session], Score]:
    """Exact answers about pictures, of kinds of `seeing.KINDS` in equal shares."""

    def run(session: Session) -> Score:
        each = max(1, session.limit // len(kinds))
        hits = count = 0
        for kind in kinds:
            found = seeing.cases(session.data_dir, kind, limit=each)
            said = look(session, [case.prompt for case in found], seeing.pictures(found, session.atlas))
            hits += sum(seeing.judge(case, answer) for case, answer in zip(found, said, strict=True))
            count += len(found)
        return Score(hits=hits, count=count)

    return run


def _reading(kind: str) -> Callable[[Session], Score]:
    def run(session: Session) -> Score:
        from dsv4.data.glyphs import GlyphSheets

        found = reading.cases(session.data_dir, kind, limit=session.limit)
        pages = reading.pictures(found, GlyphSheets.load(session.data_dir))
        said = look(session, [reading.QUESTION] * len(found), pages)
        return Score(rate=reading.error_rate(found, said), count=len(found))

    return run


def look(session: Session, questions: list[str], pictures_B: object, *, max_tokens: int = 96) -> list[str]:
    """Greedy answers to one question a picture (uint8 [B, H, W, 3])."""
    import torch

    pixels_BHW3 = torch.as_tensor(pictures_B)
    pixels_B3HW = pixels_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1
    return answers(session.model, questions, list(pixels_B3HW), max_tokens=max_tokens)


ROWS: tuple[Row, ...] = (
    Row(key="svg_valid", title="SVG valid, nonsense included", wanted="100 %", run=_svg_valid, share=0.5),
    Row(key="icon", title="icon by seen name, exact", wanted="≥ 95 %", run=text_row("icon_by_name")),
    Row(key="colour", title="held-out colour × name, exact", wanted="≥ 92 %", run=text_row("held_out_colour")),
    Row(key="drawing", title="colour drawing of a thing, exact", wanted="≥ 95 %", run=text_row("drawing")),
    Row(key="composition", title="held-out composition, exact", wanted="≥ 80 %", run=text_row("composition")),
    Row(key="scene_svg", title="scene → SVG, all atoms", wanted="≥ 95 %", run=text_row("scene_svg")),
    Row(key="shapes", title="ShapeGenEval picture, six categories", wanted="≥ 85 %", run=_shapes),
    Row(key="one", title="pictures of things: one", wanted="≥ 95 %", run=_pictures("one"), share=0.5),
    Row(key="pair", title="pictures of things: held-out pair", wanted="≥ 88 %", run=_pictures("pair"), share=0.5),
    Row(key="three", title="pictures of things: three", wanted="≥ 50 %", run=_pictures("three"), share=0.5),
    Row(key="clip_name", title="clips: name", wanted="≥ 80 %", run=_clips("name"), share=0.25),
    Row(key="clip_motion", title="clips: held-out motion", wanted="≥ 95 %", run=_clips("motion"), share=0.25),
    Row(key="clip_two", title="clips: two actors", wanted="≥ 75 %", run=_clips("two"), share=0.25),
    Row(
        key="describe",
        title="scene described exactly",
        wanted="≥ 97 %",
        run=seeing_row("one", "two", "pair", "three"),
    ),
    Row(key="questions", title="questions about a scene", wanted="≥ 90 %", run=seeing_row(*seeing.ASKED)),
    Row(key="read", title="printed words, character error", wanted="≤ 4 %", run=_reading("seen fonts"), share=0.25),
    Row(
        key="read_held",
        title="printed words, held-out fonts, character error",
        wanted="≤ 8 %",
        run=_reading("held-out fonts"),
        share=0.25,
    ),
    Row(key="definition", title="definition recalled exactly", wanted="≥ 95 %", run=text_row("definition")),
)
