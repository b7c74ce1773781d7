"""Theme, style sheet and small pieces of HTML; system fonts only, light and dark from one set of variables."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import gradio as gr

from ..media import Asset

FONT = ("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><rect width="96" height="96" rx="26" fill="#0f766e"/>'
    '<path d="M20 60Q34 22 48 48T76 36" fill="none" stroke="#fff" stroke-width="9" stroke-linecap="round"/>'
    '<circle cx="30" cy="70" r="7" fill="#fbbf24"/></svg>'
)


def css() -> str:
    """The style sheet, from the file beside this one."""
    return Path(__file__).with_name("page.css").read_text("utf-8")


def theme() -> gr.themes.Base:
    """A calm theme of the stock parts: warm grey, one teal, round corners, no fonts from anywhere."""
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="stone",
        radius_size="lg",
        spacing_size="md",
        text_size="md",
        font=FONT,
        font_mono=MONO,
    ).set(
        body_background_fill="#faf9f7",
        body_background_fill_dark="#171514",
        block_background_fill="white",
        block_background_fill_dark="#211e1c",
        block_border_color="#e9e5df",
        block_border_color_dark="#38332f",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_shadow="0 1px 2px rgb(28 25 23 / 4%)",
        input_background_fill="white",
        input_background_fill_dark="#1b1918",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#0d9488",
        button_primary_text_color="white",
        slider_color="#0f766e",
        slider_color_dark="#14b8a6",
        body_text_color_subdued="#6f6862",
        body_text_color_subdued_dark="#a8a29e",
        block_label_text_color="#57534e",
        block_title_text_color="#57534e",
        checkbox_background_color_selected="#0f766e",
        checkbox_border_color_selected="#0f766e",
        checkbox_label_background_fill="#f3f1ed",
        checkbox_label_background_fill_dark="#2b2725",
        button_secondary_background_fill="#f0ede8",
        button_secondary_background_fill_hover="#e6e2dc",
        button_secondary_background_fill_dark="#332e2b",
        button_secondary_background_fill_hover_dark="#403a36",
        color_accent="#0f766e",
    )


def data_uri(svg: str) -> str:
    """An SVG as an address for `<img>`: there it can run no script and fetch nothing."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def address(asset: Asset) -> str:
    """Where the page finds a file, below wherever it is served itself."""
    return f"v1/files/{asset.id}/content"


def media(asset: Asset) -> str:
    """A file as people see it: a picture, a clip that plays, or its name. SVG is a picture here, so it is dead."""
    source, name = address(asset), escape(str(asset.made_by.get("prompt") or asset.name), quote=True)
    if asset.kind == "video":
        return f'<video src="{source}" controls loop autoplay muted playsinline aria-label="{name}"></video>'
    if asset.kind in ("image", "svg"):
        return f'<img src="{source}" alt="{name}" class="{asset.kind}">'
    return f'<a class="file" href="{source}" download>{escape(asset.name)}</a>'


def frame(inner: str = "", hint: str = "") -> str:
    """The sheet of paper that a result lies on, or a hint while there is none."""
    if not inner:
        return f'<div class="paper empty"><span>{escape(hint)}</span></div>'
    return f'<div class="paper">{inner}</div>'


def button(act: str, words: str, name: str = "", *, title: str = "", kind: str = "") -> str:
    """A button inside HTML; `what` in the kit reads its click."""
    about = f' title="{escape(title, quote=True)}" aria-label="{escape(title, quote=True)}"' if title else ""
    return (
        f'<button type="button" class="small {kind}" data-act="{act}" data-id="{escape(name, quote=True)}"{about}>'
        f"{escape(words)}</button>"
    )


def download(asset: Asset, words: str, query: str = "") -> str:
    """A link that saves a file."""
    return f'<a class="small" href="{address(asset)}{query}" download>{escape(words)}</a>'


def header() -> str:
    """Name and one sentence."""
    return (
        f'<div class="masthead"><img src="{data_uri(MARK)}" alt="" width="40" height="40">'
        "<div><h1>dsv4 studio</h1>"
        "<p>A small model that sees, draws, paints and animates, on this machine alone.</p></div></div>"
    )


def pill(state: str, name: str, note: str = "") -> str:
    """The state of the model, as a coloured dot and words."""
    words = {
        "waiting": f"{name} will load in a moment",
        "loading": f"{name} is loading …",
        "ready": f"{name} is ready",
        "failed": f"{name} could not be loaded",
    }[state]
    more = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="pill {state}" role="status"><i></i><span>{escape(words)}</span>{more}</div>'


def status(words: str = "", *, step: int = 0, total: int = 0, bad: bool = False) -> str:
    """One line under a button: what happens now, with a bar when the number of steps is known."""
    bar = ""
    if total:
        share = 100 * min(step, total) / total
        bar = f'<div class="bar"><b style="width:{share:.0f}%"></b></div>'
    return f'<div class="status{" bad" if bad else ""}" role="status"><span>{escape(words)}</span>{bar}</div>'
