"""The SVG tab: words in, code and a safe picture of it side by side, both growing while tokens come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from dsv4.errors import InputError
from dsv4.results import Progress, Svg

from . import look
from .kit import Desk, busy, chips, complain, controls, idle, note, whole, wire
from .work import Done, Failed

EXAMPLES = (
    "red heart icon",
    "a tiger",
    "outline heart icon, lucide",
    "heart icon in a circle",
    "three heart icons",
    "a blue circle above a red square",
)


def svg_tab(desk: Desk) -> None:
    """Lay out the tab and connect it."""
    gr.Markdown("Icons by name, colour and set, drawings of things, and small scenes of shapes.", elem_classes="lead")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5):
            prompt = gr.Textbox(label="What should it draw?", placeholder="red heart icon", lines=2, max_lines=4)
            chips(EXAMPLES, prompt)
            with gr.Row():
                temperature = gr.Slider(0, 1.5, 0, step=0.1, label="Freedom", info="0: always the same")
                seed = gr.Number(0, label="Seed", info="matters above 0", precision=0, minimum=0)
            buttons = controls("Draw")
            code = gr.Code(
                label="SVG", language="html", interactive=False, lines=6, max_lines=22, wrap_lines=True, elem_id="code"
            )
        with gr.Column(scale=4):
            preview = gr.HTML(look.svg_preview(None), elem_id="preview")
            download = gr.DownloadButton("Download SVG", interactive=False)
    wire(
        desk,
        "svg",
        buttons,
        (buttons.run.click, prompt.submit),
        make_svg(desk),
        [prompt, seed, temperature],
        [*buttons.outputs, code, preview, download],
    )


def make_svg(desk: Desk) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The handler that draws: yields the controls, code, preview and download."""

    def handler(prompt: str, seed: object, temperature: float, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        def work(studio: Any, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Svg:
            number = whole(seed, "seed")
            return studio.svg(
                prompt, seed=number, temperature=float(temperature), on_progress=on_progress, cancelled=cancelled
            )

        keep = gr.skip()
        for event in desk.events(request, "svg", work):
            if isinstance(event, Failed):
                yield *idle(complain(event)), keep, keep, keep
            elif isinstance(event, Done):
                yield _finished(desk, prompt, event)
            elif isinstance(event, Progress) and isinstance(event.preview, str):
                line = look.status(f"Drawing: {event.step} tokens …")
                yield *busy(line), event.preview, look.svg_preview(event.preview, prompt), keep
            else:
                yield *busy(note(event, name=desk.loader.name, doing="Drawing")), keep, keep, keep

    return handler


def _finished(desk: Desk, prompt: str, event: Done) -> tuple[Any, ...]:
    keep = gr.skip()
    made: Svg | None = event.result
    if made is None or event.stopped:
        return *idle(look.status("Stopped.")), keep, keep, gr.DownloadButton(interactive=False)
    try:
        path = made.save(desk.file(prompt, ".svg"))
    except InputError as error:
        return *idle(complain(Failed(message=str(error), theirs=False))), keep, keep, keep
    line = look.status(f"Done: {made.usage.written} tokens, {len(made.text.encode()):,} bytes.")
    download = gr.DownloadButton(value=str(path), interactive=True)
    return *idle(line), made.text, look.svg_preview(made.text, prompt), download
