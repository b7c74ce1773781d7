"""The Video tab: words in, and a first frame if there is one; a short silent clip that plays in the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

import dsv4
from dsv4.limits import CLIP_FPS, CLIP_SIZE, RANGES
from dsv4.results import Clip, Progress

from . import look
from .image_tab import new_seed, seed_row, step_sliders
from .kit import Desk, busy, chips, complain, controls, idle, note, number, whole, wire
from .work import Done, Failed

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = (
    "a soccer ball bouncing",
    "a cat spinning and a dog bouncing",
    "a rocket moving up",
    "a red heart growing",
    "a bell swinging",
)
SHOWN = 16  # frames of a running clip that the sheet of previews holds


def video_tab(desk: Desk) -> None:
    """Lay out the tab and connect it."""
    words = f"One or two things that move. Clips are {CLIP_SIZE} pixels a side, {CLIP_FPS} frames a second, silent."
    gr.Markdown(words, elem_classes="lead")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5):
            prompt = gr.Textbox(
                label="What should move, and how?", placeholder="a soccer ball bouncing", lines=2, max_lines=4
            )
            chips(EXAMPLES, prompt)
            low, high = RANGES["seconds"].low, RANGES["seconds"].high
            seconds = gr.Slider(low, high, 2, step=0.25, label="Seconds")
            seed, dice = seed_row()
            steps, guidance = step_sliders()
            with gr.Accordion("Start from a picture", open=False):
                first = gr.Image(label="First frame", type="filepath", sources=["upload", "clipboard"], height=200)
            buttons = controls("Animate")
        with gr.Column(scale=4):
            sheet = gr.Image(
                label="Frames so far", format="png", type="filepath", interactive=False, height=440,
                buttons=[], elem_classes="made", visible=False, elem_id="frames",
            )  # fmt: skip
            clip = gr.Video(
                label="Clip", interactive=False, autoplay=True, loop=True, height=440, buttons=[],
                elem_classes="made", elem_id="clip",
            )  # fmt: skip
            download = gr.DownloadButton("Download MP4", interactive=False)
    dice.click(new_seed, None, seed, queue=False, api_visibility="private", show_progress="hidden")
    wire(
        desk,
        "video",
        buttons,
        (buttons.run.click, prompt.submit),
        make_video(desk),
        [prompt, seconds, seed, steps, guidance, first],
        [*buttons.outputs, sheet, clip, download],
    )


def make_video(desk: Desk) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The handler that animates: yields the controls, the sheet of frames, the clip and the download."""

    def handler(
        prompt: str,
        seconds: object,
        seed: object,
        steps: object,
        guidance: object,
        first: str | None,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        def work(studio: Any, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Clip:
            return studio.video(
                prompt,
                seconds=number(seconds, "seconds"),
                seed=whole(seed, "seed"),
                steps=whole(steps, "steps"),
                guidance=number(guidance, "guidance"),
                first_frame=dsv4.image(first) if first else None,
                on_progress=on_progress,
                cancelled=cancelled,
            )

        keep = gr.skip()
        for event in desk.events(request, "video", work):
            if isinstance(event, Failed):
                yield *idle(complain(event)), gr.Image(visible=False), gr.Video(visible=True), keep
            elif isinstance(event, Done):
                yield _finished(desk, prompt, event)
            elif isinstance(event, Progress) and event.preview is not None:
                shown = gr.Image(value=frame_sheet(event.preview), visible=True)
                yield *busy(note(event, name=desk.loader.name, doing="Animating")), shown, gr.Video(visible=False), keep
            else:
                yield *busy(note(event, name=desk.loader.name, doing="Animating")), keep, keep, keep

    return handler


def frame_sheet(frames_FHW3: np.ndarray) -> np.ndarray:
    """Up to SHOWN frames at even times, four a row, white where there are fewer: [rows·H, 4·W, 3] uint8."""
    import numpy as np

    count, height, width, _ = frames_FHW3.shape
    places = np.linspace(0, count - 1, min(count, SHOWN)).round().astype(int)
    across = min(4, len(places))
    down = -(-len(places) // across)
    cells = np.full((down * across, height, width, 3), 255, dtype=np.uint8)
    cells[: len(places)] = frames_FHW3[places]
    grid = cells.reshape(down, across, height, width, 3).swapaxes(1, 2)
    return grid.reshape(down * height, across * width, 3)


def _finished(desk: Desk, prompt: str, event: Done) -> tuple[Any, ...]:
    hidden = gr.Image(visible=False)
    made: Clip | None = event.result
    if made is None or event.stopped:
        return *idle(look.status("Stopped.")), hidden, gr.Video(visible=True), gr.DownloadButton(interactive=False)
    path = str(made.save(desk.file(prompt, ".mp4")))
    line = look.status(f"Done: {len(made.frames)} frames, {made.seconds:g} seconds, seed {made.provenance['seed']}.")
    return *idle(line), hidden, gr.Video(value=path, visible=True), gr.DownloadButton(value=path, interactive=True)
