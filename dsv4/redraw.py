"""A picture redrawn as SVG: the eyes describe it, the hands draw what was said, the parts are fitted to the picture.

It shows what the model knows by name; what the description leaves out, the drawing lacks.
Shape letters: H, W pixels. Source: analysis by synthesis, ranked by renderings as in `generation.svg.rank`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.results import Svg

if TYPE_CHECKING:
    import numpy as np

QUESTION = "What is in this picture?"
SIDE = 64  # pixels at which candidates are compared with the picture
LIKE_ENOUGH = 0.97  # likeness from which the parts are not drawn one by one as well; ground alone is worth much
_BETWEEN = re.compile(r" (?:to the left of|to the right of|above|below|and) |, ")
_GROUND = re.compile(r" on an? ([a-z ]+?) background$")
_LOOK = re.compile(r",? (?:in )?(?:flat|shaded) style\b", re.I)


def as_request(description: str) -> str:
    """What was seen as what is to be drawn: one line without its look, which a drawing has only one of.

    Raises InputError where nothing was said.
    """
    words = _LOOK.sub("", re.sub(r"\s+", " ", description)).strip().rstrip(".").strip()
    if not words:
        raise InputError("the eyes said nothing about this picture, so there is nothing to draw")
    return words[0].lower() + words[1:]


def nouns_of(request: str) -> list[str]:
    """The single things of a request without its ground: "a cat above a red apple on ..." has two."""
    return [noun for noun in _BETWEEN.split(_GROUND.sub("", request)) if noun]


def redrawn(
    studio: Any,
    picture: Any,
    prompt: str = "",
    *,
    seed: int = 0,
    temperature: float = 0.0,
    max_tokens: int = 1200,
    candidates: int = 1,
    on_progress: Any = None,
    cancelled: Callable[[], bool] | None = None,
) -> Svg:
    """The picture as SVG: what the eyes say of it (or `prompt`), drawn, taken apart, and fitted.

    The whole is drawn `candidates` times; where that is not like the picture, its things are also drawn one by one. The
    provenance tells what was seen and how like (SSIM at 64 pixels) the drawing is. InputError for a picture that cannot
    be read.
    """
    shown_HW3 = square(picture)
    said = prompt.strip() or studio.chat(QUESTION, picture, seed=seed, cancelled=cancelled).reply.text
    request = as_request(said)
    nouns = nouns_of(request)
    asked = request if len(nouns) > 1 else nouns[0]  # the ground of one thing is taken from the picture
    told = {"temperature": temperature, "max_tokens": max_tokens, "on_progress": on_progress, "cancelled": cancelled}
    made = [studio.svg(asked, seed=seed + turn, **told) for turn in range(candidates)]
    best, alike = fitted_best([one.text for one in made], shown_HW3)
    stopped = cancelled is not None and cancelled()
    if alike < LIKE_ENOUGH and 2 <= len(nouns) <= 3 and not stopped:
        parts = [studio.svg(noun, seed=seed, **told).text for noun in nouns]
        other, nearer = fitted_best([part("generation.svg").in_row(parts)], shown_HW3)
        if nearer > alike:
            best, alike = other, nearer
    settings = {"temperature": temperature, "max_tokens": max_tokens, "candidates": candidates}
    settings |= {"seen": said, "likeness": round(alike, 3)}
    made_by = {**made[0].provenance, "prompt": request, "settings": settings}
    text = part("generation.svg").rebuild(best, title=request)
    return Svg(text=text, raw=made[0].raw, provenance=made_by, usage=made[0].usage)


def square(source: Any) -> np.ndarray:
    """A picture padded to a square by the colour of its corner, uint8 [SIDE, SIDE, 3]; InputError when unreadable."""
    import numpy as np
    from PIL import Image

    from dsv4.pictures_in import open_pictures

    (opened,) = open_pictures([source])
    side = max(opened.size)
    padded = Image.new("RGB", (side, side), opened.getpixel((0, 0)))
    padded.paste(opened, ((side - opened.width) // 2, (side - opened.height) // 2))
    return np.asarray(padded.resize((SIDE, SIDE), Image.Resampling.BOX))


def fitted_best(texts: Sequence[str], picture_HW3: np.ndarray) -> tuple[str, float]:
    """Of drawings of one picture, each fitted to it, the one that is most like it, and its likeness (SSIM).

    A drawing that cannot be taken apart stays as it is; InputError when there is none.
    """
    if not texts:
        raise InputError("there is no drawing to fit")
    svg = part("generation.svg")
    made = [one for text in texts for one in (text, svg.fitted(text, picture_HW3))]
    best = made[svg.ranked(made, picture_HW3)[0]]
    return best, svg.likeness(svg.rasterise(best, SIDE) / 255, picture_HW3 / 255)
