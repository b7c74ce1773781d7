"""Put the tabs together under a header that shows how far the model is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import look
from .about_tab import about_tab, describe
from .chat_tab import chat_tab
from .image_tab import image_tab
from .kit import Desk
from .loading import StudioLoader
from .svg_tab import svg_tab
from .video_tab import video_tab

CACHE_SECONDS = (1800, 24 * 3600)  # how often gradio looks for old uploads, and how old they may get
QUEUE_PLACES = 64


def layout(loader: StudioLoader) -> gr.Blocks:
    """The page as Blocks, not yet served; `look.theme()` and `look.css()` are given when it is mounted."""
    desk = Desk(loader=loader)
    quiet = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title="dsv4 studio", analytics_enabled=False, delete_cache=CACHE_SECONDS) as page:
        with gr.Row(elem_id="top"):
            gr.HTML(look.header(), elem_id="mast")
            state = gr.HTML(_pill(loader), elem_id="state")
        with gr.Tabs() as tabs:
            with gr.Tab("Chat", id="chat"):
                chat = chat_tab(desk)
            with gr.Tab("SVG", id="svg"):
                svg_tab(desk)
            with gr.Tab("Image", id="image"):
                image = image_tab(desk)
            with gr.Tab("Video", id="video"):
                video_tab(desk)
            with gr.Tab("Model", id="model"):
                loaded = about_tab(loader)
        timer = gr.Timer(1.0)

        def look_again() -> tuple[str, Any, Any]:
            over = loader.state in ("ready", "failed")
            return _pill(loader), describe(loader), gr.Timer(active=not over)

        page.load(look_again, None, [state, loaded, timer], **quiet)
        timer.tick(look_again, None, [state, loaded, timer], **quiet)
        image.ask.click(ask_about, image.picture, [chat.say, tabs], **quiet)

        def left(request: gr.Request) -> None:
            desk.stops.forget(str(request.session_hash))

        page.unload(left)
    page.queue(max_size=QUEUE_PLACES, api_open=False)
    return page


def ask_about(path: str | None) -> tuple[Any, Any]:
    """Put a finished picture into the chat box, with a question, and go there."""
    if not path:
        return gr.skip(), gr.skip()
    return {"text": "What is in this picture?", "files": [path]}, gr.Tabs(selected="chat")


def _pill(loader: StudioLoader) -> str:
    return look.pill(loader.state, loader.name, loader.reason if loader.state == "failed" else "")
