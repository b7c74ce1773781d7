"""Drawings as SVG: tokens and their exact mask, canonical form, safe rebuilding, rendering, composition."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .animation import animated as animated
    from .animation import duration as duration
    from .compose import beside as beside
    from .compose import in_circle as in_circle
    from .compose import in_row as in_row
    from .compose import in_square as in_square
    from .compose import recolour as recolour
    from .compose import repeated as repeated
    from .editing import edit as edit
    from .film import at_time as at_time
    from .film import frames as frames
    from .fit import fitted as fitted
    from .motion import moving as moving
    from .normalise import canonical as canonical
    from .palette import COLOURS as COLOURS
    from .palette import SHAPE_COLOURS as SHAPE_COLOURS
    from .palette import nearest_paint as nearest_paint
    from .preview import partial as partial
    from .rank import ranked as ranked
    from .render import rasterise as rasterise
    from .render import rasterise_many as rasterise_many
    from .render import rasterise_trusted as rasterise_trusted
    from .safe import rebuild as rebuild
    from .shapes import SHAPES as SHAPES
    from .shapes import scene as scene
    from .shapes import shape as shape
    from .simplify import shortened as shortened
    from .state import SvgState as SvgState
    from .tokens import Vocabulary as Vocabulary
    from .tokens import vocabulary as vocabulary
    from .trace import is_flat as is_flat
    from .trace import traced as traced
    from .wild import Tokenised as Tokenised
    from .wild import likeness as likeness
    from .wild import tokenise as tokenise

_HOME = {
    "vocabulary": "tokens",
    "Vocabulary": "tokens",
    "canonical": "normalise",
    "SvgState": "state",
    "partial": "preview",
    "rebuild": "safe",
    "rasterise": "render",
    "rasterise_many": "render",
    "animated": "animation",
    "Tokenised": "wild",
    "likeness": "wild",
    "tokenise": "wild",
    "ranked": "rank",
    "duration": "animation",
    "edit": "editing",
    "at_time": "film",
    "frames": "film",
    "fitted": "fit",
    "moving": "motion",
    "rasterise_trusted": "render",
    "in_circle": "compose",
    "in_square": "compose",
    "in_row": "compose",
    "beside": "compose",
    "repeated": "compose",
    "recolour": "compose",
    "shortened": "simplify",
    "is_flat": "trace",
    "traced": "trace",
    "shape": "shapes",
    "scene": "shapes",
    "SHAPES": "shapes",
    "SHAPE_COLOURS": "palette",
    "COLOURS": "palette",
    "nearest_paint": "palette",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"generation.svg has no {name!r}; it has {', '.join(sorted(_HOME))}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
