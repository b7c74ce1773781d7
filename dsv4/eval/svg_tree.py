"""Judges a drawing of coloured shapes by its tree: which shapes are written down, in which colours, and where.

A second witness beside the pixels (`shapescore`): shapes that overlap or touch stay apart in the tree.
"""

from __future__ import annotations

import collections
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.data.captions import random_ground
from dsv4.data.language import NUMBERS, OPPOSITE, SHAPE_COLOURS, SHAPE_NOUNS
from dsv4.data.scenes import layout
from dsv4.eval import shapescore
from dsv4.eval.shapescore import COLOUR_FAR, FIT, Found, ShapeCase, relations, templates, to_lab

SIDE = 96  # grid units of a drawing, and pixels that a shape is looked at in
WHOLE = 0.98  # share of the canvas from which on a shape is the ground


def cases(data_dir: Path | None, kind: str, *, limit: int, seed: int = 0) -> list[ShapeCase]:
    """Requests of a category of `shapescore`, on white: a drawing is transparent. InputError for an unknown kind."""
    found = shapescore.cases(data_dir, kind, limit=limit, seed=seed)
    return [replace(case, caption=replace(case.caption, ground="white")) for case in found]


def objects(svg: str) -> list[Found]:
    """Every painted shape of a drawing in the order of painting, the ground left out. ValueError for no drawing."""
    drawing = part("generation.svg.flatten").flatten(svg)
    found = []
    for shape in drawing.items:
        fill = shape.style.fill or drawing.style.fill
        cover_YX = _cover(shape)
        if fill == "none" or not cover_YX.any() or cover_YX.mean() >= WHOLE:
            continue
        ys, xs = np.nonzero(cover_YX)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        left, top, right, bottom = box
        outline = _outline_of(cover_YX[top:bottom, left:right])
        found.append(Found(shape=outline, colour=_colour_of(fill), box=box, area=float(cover_YX.mean())))
    return found


def atoms(case: ShapeCase, svg: str) -> dict[str, bool]:
    """Every claim of the request and whether the tree keeps it; a claim that names no colour lets any pass."""
    seen, caption = objects(svg), case.caption
    coloured = case.kind != "single"
    tally = collections.Counter((one.shape, one.colour if coloured else None) for one in seen)
    kept = {}
    for noun in caption.nouns:
        colour, shape = noun.split()
        kept[f"{NUMBERS[caption.count]} {noun}"] = tally[(shape, colour if coloured else None)] == caption.count
    if caption.relation:
        first, second = ([one for one in seen if [one.colour, one.shape] == noun.split()] for noun in caption.nouns)
        pairs = [(a, b) for a in first for b in second]
        kept[caption.relation] = bool(pairs) and all(caption.relation in relations(a, b) for a, b in pairs)
    return {**kept, "nothing more": len(seen) == caption.count * len(caption.nouns)}


def judge(case: ShapeCase, svg: str) -> bool:
    """Whether the tree keeps every claim; a text that is no drawing keeps none."""
    try:
        return all(atoms(case, svg).values())
    except ValueError:
        return False


def truth(case: ShapeCase) -> str:
    """The drawing that the case asks for."""
    svg, caption = part("generation.svg"), case.caption
    places = layout(caption)
    nouns = caption.nouns if caption.count == 1 else caption.nouns * caption.count
    return svg.scene(
        svg.shape(noun.split()[1], noun.split()[0], SIDE * x, SIDE * y, SIDE * size * shapescore.SHAPE_FILL)
        for noun, (x, y, size) in zip(nouns, places, strict=True)
    )


def other_case(case: ShapeCase, rng: random.Random) -> ShapeCase:
    """The same request with one thing changed that a right answer must then fail: colour, shape, count or place."""
    caption = case.caption
    if case.kind == "counting":
        return replace(case, caption=replace(caption, count=rng.choice([n for n in (2, 3, 4) if n != caption.count])))
    if caption.relation:
        return replace(case, caption=replace(caption, relation=OPPOSITE[caption.relation]))
    place = rng.randrange(len(caption.nouns))
    colour, shape = caption.nouns[place].split()
    swap_colour = case.kind in ("colours", "attribution")
    near = [
        noun for noun in SHAPE_NOUNS
        if (noun.endswith(shape) and not noun.startswith(colour) if swap_colour else not noun.endswith(shape))
        and noun not in caption.nouns
    ]  # fmt: skip
    nouns = (*caption.nouns[:place], rng.choice(near), *caption.nouns[place + 1 :])
    ground = caption.ground if caption.ground == "white" else random_ground(rng, nouns)
    return replace(case, caption=replace(caption, nouns=nouns, ground=ground))


def _cover(shape: Any) -> np.ndarray:
    """Which units of the canvas a shape covers, boolean [SIDE, SIDE]."""
    svg = part("generation.svg.drawing")
    style = svg.RootStyle(fill="black", evenodd=shape.style.rule == "evenodd")
    alone = svg.Drawing(style=style, items=(svg.Shape(shape.kind, shape.data),))
    return part("generation.svg").rasterise_trusted(svg.write(alone), SIDE, None)[..., 3] > 127


def _outline_of(cover_YX: np.ndarray) -> str | None:
    from PIL import Image

    scaled = Image.fromarray(cover_YX.astype(np.uint8) * 255).resize((32, 32), Image.Resampling.BILINEAR)
    seen = np.asarray(scaled) > 127
    fits = {name: float((seen & cover).sum() / (seen | cover).sum()) for name, cover in templates().items()}
    best = max(fits, key=lambda name: fits[name])
    return best if fits[best] >= FIT else None


def _colour_of(paint: str) -> str | None:
    rgb = np.array(part("generation.svg.palette").rgb_of(paint))
    far = np.linalg.norm(to_lab(np.array(list(SHAPE_COLOURS.values()))) - to_lab(rgb), axis=-1)
    return list(SHAPE_COLOURS)[int(far.argmin())] if far.min() < COLOUR_FAR else None
