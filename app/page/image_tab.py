"""The Image tab: words in, a picture that clears up step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dsv4.limits import PAINTED_SIZE, RANGES, SIZES
from dsv4.results import Picture, Progress

from . import look
from .kit import Desk, busy, chips, complain, controls, idle, note, number, whole, wire
from .work import Done, Failed

EXAMPLES = (
    "a blue circle above a red square",
    "a tiger on a mint background",
    "a rocket to the left of a red apple",
    "an owl, flat style",
    "a cat, a dog and a mouse",
)


@dataclass(frozen=True, kw_only=True)
class ImageTab:
    """What the layout connects to other tabs."""

    picture: gr.Image
    ask: gr.Button


def image_tab(desk: Desk) -> ImageTab:
    """Lay out the tab and connect it."""
    gr.Markdown("One to three things, where they are, and the ground they stand on.", elem_classes="lead")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5):
            prompt = gr.Textbox(
                label="What should it paint?", placeholder="a tiger on a mint background", lines=2, max_lines=4
            )
            chips(EXAMPLES, prompt)
            seed, dice = seed_row()
            size = gr.Radio(
                list(SIZES), value=128, label="Size in pixels", info=f"painted at {PAINTED_SIZE} and enlarged"
            )
            steps, guidance = step_sliders()
            buttons = controls("Paint")
        with gr.Column(scale=4):
            picture = gr.Image(
                label="Picture", format="png", type="filepath", interactive=False, height=440,
                buttons=["fullscreen"], elem_classes="made", elem_id="picture",
            )  # fmt: skip
            with gr.Row():
                download = gr.DownloadButton("Download PNG", interactive=False)
                ask = gr.Button("Ask about it", interactive=False)
    dice.click(new_seed, None, seed, queue=False, api_visibility="private", show_progress="hidden")
    wire(
        desk,
        "image",
        buttons,
        (buttons.run.click, prompt.submit),
        make_image(desk),
        [prompt, seed, size, steps, guidance],
        [*buttons.outputs, picture, download, ask],
    )
    return ImageTab(picture=picture, ask=ask)


def make_image(desk: Desk) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The handler that paints: yields the controls, picture, download and the button that asks about it."""

    def handler(
        prompt: str, seed: object, size: object, steps: object, guidance: object, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        def work(studio: Any, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Picture:
            return studio.image(
                prompt,
                seed=whole(seed, "seed"),
                size=whole(size, "size"),
                steps=whole(steps, "steps"),
                guidance=number(guidance, "guidance"),
                on_progress=on_progress,
                cancelled=cancelled,
            )

        keep = gr.skip()
        for event in desk.events(request, "image", work):
            if isinstance(event, Failed):
                yield *idle(complain(event)), keep, keep, keep
            elif isinstance(event, Done):
                yield _finished(desk, prompt, event)
            else:
                seen = event.preview if isinstance(event, Progress) and event.preview is not None else keep
                yield *busy(note(event, name=desk.loader.name, doing="Painting")), seen, keep, keep

    return handler


def _finished(desk: Desk, prompt: str, event: Done) -> tuple[Any, ...]:
    keep = gr.skip()
    made: Picture | None = event.result
    if made is None or event.stopped:
        return *idle(look.status("Stopped.")), keep, gr.DownloadButton(interactive=False), gr.Button(interactive=False)
    path = str(made.save(desk.file(prompt, ".png")))
    height, width = made.array.shape[:2]
    line = look.status(f"Done: {width} × {height} pixels, seed {made.provenance['seed']}.")
    return *idle(line), path, gr.DownloadButton(value=path, interactive=True), gr.Button(interactive=True)


def seed_row() -> tuple[gr.Number, gr.Button]:
    """A seed and a button for another one."""
    with gr.Row(elem_classes="middle"):
        seed = gr.Number(0, label="Seed", info="one seed, one picture", precision=0, minimum=0, scale=3)
        dice = gr.Button("New seed", size="sm", scale=0, min_width=110, elem_classes="quiet")
    return seed, dice


def step_sliders() -> tuple[gr.Slider, gr.Slider]:
    """Steps and guidance, within the table of limits and no further than is useful."""
    most = min(32, int(RANGES["steps"].high))
    with gr.Row():
        steps = gr.Slider(1, most, 8, step=1, label="Steps", info="more is cleaner")
        guidance = gr.Slider(RANGES["guidance"].low, 6, 2, step=0.25, label="Guidance", info="how closely to obey")
    return steps, guidance


def new_seed() -> int:
    """Another seed, short enough to write down."""
    import secrets

    return secrets.randbelow(100_000)
