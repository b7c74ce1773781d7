"""A picture redrawn as SVG: the eyes describe it, the hands draw what was said, the parts are fitted to the picture.

That shows what the model knows by name; what the description leaves out, the drawing lacks. Where it is not like the
picture and the picture is flat, as logos and icons are, the picture's outlines are traced instead.
Shape letters: H, W pixels. Source: analysis by synthesis, ranked by renderings as in `generation.svg.rank`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.results import Svg, Usage

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PilImage

QUESTION = "What is in this picture?"
SIDE = 64  # pixels at which candidates are compared with the picture
LARGEST = 2048  # pixels of a picture's longer side, beyond which it is reduced first
LIKE_ENOUGH = 0.97  # likeness from which the parts are not drawn one by one as well; ground alone is worth much
# Likeness below which a flat picture is traced. Of 120 drawings (docs/hands.md) none lies between 0.93 and 0.967: above
# are the right things in their flat look, below are wrong things, and right ones whose look is another.
TRACED_BELOW = 0.95
TRACED = "a traced picture"  # what a drawing is called that nobody has named
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
    trace: str = "auto",
    seed: int = 0,
    temperature: float = 0.0,
    max_tokens: int = 1200,
    candidates: int = 1,
    on_progress: Any = None,
    cancelled: Callable[[], bool] | None = None,
) -> Svg:
    """The picture as SVG: what the eyes say of it (or `prompt`), drawn, taken apart, and fitted; or its outlines.

    The whole is drawn `candidates` times; where that is not like the picture, its things are also drawn one by one.
    With `trace` "auto" a flat picture that this is still not like is traced, and the likelier of both is taken; "never"
    leaves that out, "always" traces any picture at once, without eyes and hands. The provenance tells which it was
    (`made_by`: words or traced), what was seen and how like (SSIM at 64 pixels) the drawing is. InputError for a
    picture that cannot be read.
    """
    whole = padded(picture)
    if limits.check_trace(trace) == "always":
        return outlined(whole, prompt, _by(studio, seed))
    shown_HW3 = _small(whole)
    said = prompt.strip() or studio.chat(QUESTION, picture, seed=seed, cancelled=cancelled).reply.text
    if trace == "auto" and not said.strip(" .") and part("generation.svg").is_flat(whole):
        return outlined(whole, prompt, _by(studio, seed))
    request = as_request(said)
    nouns = nouns_of(request)
    asked = request if len(nouns) > 1 else nouns[0]  # the ground of one thing is taken from the picture
    told = {"temperature": temperature, "max_tokens": max_tokens, "on_progress": on_progress, "cancelled": cancelled}
    told |= {"correct": False}  # what the eyes say has no typing errors, and a prompt was read before
    made = [studio.svg(asked, seed=seed + turn, **told) for turn in range(candidates)]
    best, alike = fitted_best([one.text for one in made], shown_HW3)
    stopped = cancelled is not None and cancelled()
    if alike < LIKE_ENOUGH and 2 <= len(nouns) <= 3 and not stopped:
        parts = [studio.svg(noun, seed=seed, **told).text for noun in nouns]
        other, nearer = fitted_best([part("generation.svg").in_row(parts)], shown_HW3)
        if nearer > alike:
            best, alike = other, nearer
    settings = {"temperature": temperature, "max_tokens": max_tokens, "candidates": candidates}
    made_by = {**made[0].provenance, "settings": settings}
    if trace == "auto" and alike < TRACED_BELOW and not stopped and part("generation.svg").is_flat(whole):
        followed = outlined(whole, prompt, made_by, seen=said, usage=made[0].usage)
        if followed.provenance["settings"]["likeness"] > alike:
            return followed
    settings |= {"made_by": "words", "seen": said, "likeness": round(alike, 3)}
    text = part("generation.svg").rebuild(best, title=request)
    return Svg(text=text, raw=made[0].raw, provenance={**made_by, "prompt": request}, usage=made[0].usage)


def outlined(
    whole: PilImage, prompt: str, made_by: Mapping[str, Any], *, seen: str = "", usage: Usage | None = None
) -> Svg:
    """The outlines of a square picture as SVG; `made_by` is completed by how like it is and what was `seen`.

    It is called by the prompt's words, and not by what was seen, which it is not like.
    """
    svg, name = part("generation.svg"), prompt.strip() or TRACED
    text = svg.traced(whole, title=name)
    alike = svg.likeness(svg.rasterise(text, SIDE) / 255, _small(whole) / 255)
    settings = {**made_by.get("settings", {}), "made_by": "traced", "seen": seen, "likeness": round(alike, 3)}
    told = {**made_by, "prompt": name, "settings": settings}
    return Svg(text=text, raw=text, provenance=told, usage=usage or Usage())


def redrawn_as(settings: Mapping[str, Any]) -> str:
    """How a picture was redrawn, for people, from the settings in its provenance."""
    seen = f"seen: {settings['seen']} " if settings.get("seen") else ""
    how = "traced, not drawn from words; " if settings.get("made_by") == "traced" else ""
    return f"{how}{seen}likeness {settings.get('likeness')}"


def _by(studio: Any, seed: int) -> dict[str, Any]:
    return {"task": "svg", "seed": seed, "model": f"{studio.name} ({studio.fingerprint})"}


def padded(source: Any) -> PilImage:
    """A picture padded to a square by the colour of its corner, RGB of at most LARGEST; InputError when unreadable."""
    from PIL import Image

    from dsv4.pictures_in import open_pictures

    (opened,) = open_pictures([source])
    if max(opened.size) > LARGEST:  # before it is padded: a long picture makes a vast square
        scale = LARGEST / max(opened.size)
        width, height = (max(1, round(side * scale)) for side in opened.size)
        opened = opened.resize((width, height), Image.Resampling.BOX)
    side = max(opened.size)
    square = Image.new("RGB", (side, side), opened.getpixel((0, 0)))
    square.paste(opened, ((side - opened.width) // 2, (side - opened.height) // 2))
    return square


def _small(whole: PilImage) -> np.ndarray:
    """A square picture at the size of comparison, uint8 [SIDE, SIDE, 3]."""
    import numpy as np
    from PIL import Image

    return np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BOX))


def square(source: Any) -> np.ndarray:
    """A picture padded as in `padded`, uint8 [SIDE, SIDE, 3]; InputError when unreadable."""
    return _small(padded(source))


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
