"""The Model tab: what is loaded, what nano can and cannot do, and whose work it learned from."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dsv4._parts import asset
from dsv4.limits import BATCH_ROWS, CLIP_FPS, CLIP_SIZE, PICTURES, PROMPT_CHARACTERS, RANGES, SIZES

from .loading import StudioLoader

PARTS = {"core": "Language core, with its Engram memory", "eyes": "Eyes", "head": "Hands for pictures and clips"}


def about_tab(loader: StudioLoader) -> gr.Markdown:
    """Lay out the tab; returns the part that says what is loaded, for `describe` to fill."""
    with gr.Column(elem_classes="about"):
        loaded = gr.Markdown(describe(loader))
        gr.Markdown(_words("abilities.md"))
        gr.Markdown(_limits())
        gr.Markdown(_words("sources.md"))
        notice = asset("nano") / "NOTICE"
        if notice.is_file():
            with gr.Accordion("Every licence and attribution", open=False):
                gr.Markdown(f"```text\n{notice.read_text('utf-8')}\n```")
    return loaded


def describe(loader: StudioLoader) -> str:
    """What is loaded, in Markdown."""
    if loader.state == "failed":
        return f"### {loader.name} is not loaded\n{escape(loader.reason)}"
    if loader.state != "ready":
        return f"### {loader.name} is loading\nThe page works already; what you ask for starts when the model is there."
    studio = loader.studio
    facts = [("Fingerprint", f"`{studio.fingerprint}`")]
    facts += [(title, text) for title, text in parameters(studio)]
    facts.append(("Loaded in", f"{loader.seconds:.1f} seconds"))
    return f"### What is loaded\n| Model | {escape(studio.name)} |\n|---|---|\n" + "\n".join(
        f"| {key} | {text} |" for key, text in facts
    )


def parameters(studio: Any) -> list[tuple[str, str]]:
    """(part, size) for a studio that has a model of parts; nothing for one without weights."""
    from dsv4 import EchoStudio

    if isinstance(studio, EchoStudio):
        return [("Weights", "none: echo repeats what it is asked, to try the page")]
    counts = {name: sum(one.numel() for one in part.parameters()) for name, part in studio.model.parts().items()}
    each: list[tuple[str, str]] = [
        (PARTS[name] if name in PARTS else name, f"{count / 1e6:.1f} million parameters")
        for name, count in counts.items()
    ]
    return [*each, ("Together", f"{sum(counts.values()) / 1e6:.1f} million parameters")]


def _limits() -> str:
    seconds = RANGES["seconds"]
    return (
        "### Limits\n"
        f"Prompts of up to {PROMPT_CHARACTERS:,} characters, {PICTURES} pictures in a message, pictures of "
        f"{', '.join(map(str, SIZES))} pixels a side, clips of {CLIP_SIZE} pixels, {CLIP_FPS} frames a second and "
        f"{seconds.low:g} to {seconds.high:g} seconds, batches of {BATCH_ROWS:,} rows."
    )


def _words(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
