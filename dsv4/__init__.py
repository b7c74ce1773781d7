"""One small language model that reads pictures and makes SVG, pictures and clips; names load on first use."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsv4.checkpoint.placement import Placement
    from dsv4.echo import EchoStudio as EchoStudio
    from dsv4.errors import InputError as InputError
    from dsv4.messages import Message as Message
    from dsv4.messages import document as document
    from dsv4.messages import image as image
    from dsv4.messages import repo as repo
    from dsv4.messages import video as video
    from dsv4.ocr.model import OcrModel as OcrModel
    from dsv4.remote import RemoteStudio
    from dsv4.studio import Studio as Studio

__version__ = "0.1.0"
__all__ = ["EchoStudio", "InputError", "Message", "Studio", "document", "image", "load", "repo", "video"]

_HOME = {
    "EchoStudio": "dsv4.echo",
    "InputError": "dsv4.errors",
    "Message": "dsv4.messages",
    "Studio": "dsv4.studio",
    "document": "dsv4.messages",
    "image": "dsv4.messages",
    "repo": "dsv4.messages",
    "video": "dsv4.messages",
}


def load(
    name: str | None = None, *, placement: Placement | None = None
) -> Studio | EchoStudio | OcrModel | RemoteStudio:
    """The studio called `name`: a shipped model, a folder of weights, or `echo`, which needs neither.

    An address such as http://127.0.0.1:8000/v1 gives the studio of that server, as `Studio.connect` does.
    A folder as DeepSeek-OCR is released gives an `OcrModel`, whose one verb is `read`. Without a name, the variable
    DSV4_MODEL decides, and without that, `nano`. placement: where the parts of a model of ours lie. Raises InputError
    for an unknown name, and for a placement of what is not loaded here.
    """
    name = name or os.environ.get("DSV4_MODEL") or "nano"
    if placement is not None and not placement.usual:
        from dsv4.checkpoint.placement import check_can_be_placed

        check_can_be_placed(name)
    if name == "echo":
        from dsv4.echo import EchoStudio

        return EchoStudio()
    if name.startswith(("http://", "https://")):
        from dsv4.remote import RemoteStudio

        return RemoteStudio(name)
    from dsv4.ocr.model import OcrModel, is_released

    if is_released(name):
        return OcrModel.from_pretrained(name)
    from dsv4.studio import Studio

    return Studio.load(name, placement=placement)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in ("vision", "generation"):
        return import_module("dsv4._parts").part(name)
    raise AttributeError(f"module 'dsv4' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "generation", "vision"])
