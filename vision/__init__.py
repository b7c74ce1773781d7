"""The eyes: pictures from files, modes with exact token counts, and the DeepEncoder. Importing this loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .advice import EDIT_DISTANCE as EDIT_DISTANCE
    from .advice import Advice as Advice
    from .advice import advise as advise
    from .config import DeepEncoderConfig as DeepEncoderConfig
    from .deepencoder import DeepEncoder as DeepEncoder
    from .deepseek_vit import DeepSeekViT as DeepSeekViT
    from .deepseek_vit import DeepSeekViTConfig as DeepSeekViTConfig
    from .frames import open_frames as open_frames
    from .modes import MODES as MODES
    from .modes import Mode as Mode
    from .modes import TokenCount as TokenCount
    from .modes import get_mode as get_mode
    from .overlay import draw_boxes as draw_boxes
    from .overlay import draw_tiles as draw_tiles
    from .pdf import PdfFile as PdfFile
    from .pictures import open_picture as open_picture
    from .views import Views as Views
    from .views import prepare as prepare
    from .views import tile_boxes as tile_boxes

_HOME = {
    "Advice": "advice",
    "EDIT_DISTANCE": "advice",
    "advise": "advice",
    "DeepEncoderConfig": "config",
    "DeepEncoder": "deepencoder",
    "DeepSeekViT": "deepseek_vit",
    "DeepSeekViTConfig": "deepseek_vit",
    "MODES": "modes",
    "Mode": "modes",
    "TokenCount": "modes",
    "get_mode": "modes",
    "draw_boxes": "overlay",
    "draw_tiles": "overlay",
    "PdfFile": "pdf",
    "open_frames": "frames",
    "open_picture": "pictures",
    "Views": "views",
    "prepare": "views",
    "tile_boxes": "views",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, *(key for key in globals() if key.startswith("__"))]
