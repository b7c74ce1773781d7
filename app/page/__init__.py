"""The page in the browser: a room for each thing to do, all of them views of what the server keeps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio import Blocks

    from ..house import House


def build_page(house: House) -> Blocks:
    """The whole page on a house, whose model may still be loading; look in `look.py` for theme and style."""
    stay_offline()
    from .layout import layout

    return layout(house)


def stay_offline() -> None:
    """Switch off everything that would leave the machine; must come before the first import of gradio."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
