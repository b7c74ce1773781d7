"""Drawings as SVG: tokens and their exact mask, canonical form, safe rebuilding, rendering, composition."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "vocabulary": "tokens",
    "Vocabulary": "tokens",
    "canonical": "normalise",
    "SvgState": "state",
    "partial": "preview",
    "rebuild": "safe",
    "rasterise": "render",
    "rasterise_trusted": "render",
    "in_circle": "compose",
    "in_square": "compose",
    "beside": "compose",
    "repeated": "compose",
    "recolour": "compose",
    "shape": "shapes",
    "scene": "shapes",
    "SHAPES": "shapes",
    "SHAPE_COLOURS": "palette",
    "COLOURS": "palette",
    "nearest_paint": "palette",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"generation.svg has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
