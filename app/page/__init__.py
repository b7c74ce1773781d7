"""The page in the browser: one tab a verb, built on any studio that has the verbs of `dsv4.Studio`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio import Blocks

    from .loading import StudioLoader


def build_page(loader: StudioLoader) -> Blocks:
    """The whole page on `loader`, which may still be loading its model; look in `look.py` for theme and style."""
    stay_offline()
    from .layout import layout

    return layout(loader)


def stay_offline() -> None:
    """Switch off everything that would leave the machine; must come before the first import of gradio."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
