"""The language core: configuration, presets and model. Importing this package loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsv4.core.config import CoreConfig

if TYPE_CHECKING:
    from dsv4.core.cache import Cache
    from dsv4.core.model import CoreOutput, LanguageCore

__all__ = ["Cache", "CoreConfig", "CoreOutput", "LanguageCore"]

_WHERE = {"Cache": "cache", "CoreOutput": "model", "LanguageCore": "model"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
