"""The hands: a joint picture and clip head, its flow, and files with provenance. Importing this loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clips import ReadClip as ReadClip
    from .clips import read_clip as read_clip
    from .connector import Condition as Condition
    from .connector import HeadConnectorConfig as HeadConnectorConfig
    from .files import save_apng as save_apng
    from .files import save_clip as save_clip
    from .files import save_gif as save_gif
    from .files import save_mp4 as save_mp4
    from .files import save_png as save_png
    from .files import save_svg as save_svg
    from .files import save_webm as save_webm
    from .files import save_webp as save_webp
    from .flow import flow_loss as flow_loss
    from .flow import noise_levels as noise_levels
    from .flow import sample_flow as sample_flow
    from .flow import train_loss as train_loss
    from .foreign import Foreign as Foreign
    from .head import JointHead as JointHead
    from .head import JointHeadConfig as JointHeadConfig
    from .head import micro as micro
    from .head import nano as nano
    from .pipeline import HeadPipeline as HeadPipeline
    from .presets import PRESETS as PRESETS
    from .provenance import read_provenance as read_provenance

_HOME = {
    "Condition": "connector",
    "Foreign": "foreign",
    "HeadConnectorConfig": "connector",
    "HeadPipeline": "pipeline",
    "JointHead": "head",
    "JointHeadConfig": "head",
    "PRESETS": "presets",
    "ReadClip": "clips",
    "flow_loss": "flow",
    "micro": "head",
    "nano": "head",
    "noise_levels": "flow",
    "read_clip": "clips",
    "read_provenance": "provenance",
    "sample_flow": "flow",
    "save_apng": "files",
    "save_clip": "files",
    "save_gif": "files",
    "save_mp4": "files",
    "save_png": "files",
    "save_svg": "files",
    "save_webm": "files",
    "save_webp": "files",
    "train_loss": "flow",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, *(key for key in globals() if key.startswith("__"))]
