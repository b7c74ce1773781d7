"""A picture given to the SVG bench: redrawn as SVG, or described into the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from dsv4.errors import InputError
from dsv4.redraw import QUESTION, as_request

from ..house import House
from ..intake import take_in
from ..media import SHOWN
from . import look
from .kit import QUIET, complain, lane_of, owner_of, progress_line, whole

LEAD = (
    "The eyes say what is in the picture, the hands draw it, and the parts are fitted to the picture. "
    "A logo, an icon or a flat drawing that the words do not meet is traced along its outlines instead; "
    "in a photograph, what the model has no word for becomes the nearest thing that it knows."
)
WAYS = [("where words fail", "auto"), ("always", "always"), ("never", "never")]


def redraw(
    house: House, prompt: gr.Textbox, seed: gr.Number, model: gr.Dropdown, outputs: list[Any], follow: Any
) -> None:
    """Lay out the panel; what is drawn appears where the bench shows its own. `outputs` are those of the bench."""
    with gr.Accordion("From a picture", open=False, elem_id="svg-picture"):
        gr.HTML(f'<p class="soft">{LEAD}</p>')
        picture = gr.Image(
            label="A picture to redraw", type="filepath", sources=["upload", "clipboard"], height=180,
            elem_id="redraw-picture",
        )  # fmt: skip
        trace = gr.Radio(WAYS, value="auto", label="Follow outlines", elem_id="redraw-trace")
        with gr.Row():
            draw = gr.Button("Redraw as SVG", variant="primary", min_width=120)
            tell = gr.Button("Describe", min_width=90, elem_classes="quiet")

    def begin(request: gr.Request, path: str | None, seed: Any, way: str, chosen: str) -> tuple[Any, ...]:
        skip = gr.skip()
        try:
            given = _take(house, path, request)
            params = {"prompt": "", "picture": given, "seed": whole(seed, "seed"), "trace": way, "model": chosen}
            job = house.submit("svg", params, owner=owner_of(request), lane=lane_of(request), source="page")
        except ValueError as error:
            return skip, gr.Button(interactive=True), gr.Button(visible=False), complain(error), skip, skip
        line = look.status("Waiting for its turn …")
        return job.id, gr.Button(interactive=False), gr.Button(visible=True), line, skip, skip

    async def describe(request: gr.Request, path: str | None, chosen: str) -> tuple[Any, Any]:
        owner = owner_of(request)
        try:
            params = {"prompt": QUESTION, "shown": [_take(house, path, request)], "model": chosen}
            job = house.submit("chat", params, owner=owner, lane=lane_of(request), source="page")
            job = await house.over(job.id, owner)
            if job.state != "done":
                return gr.skip(), progress_line(house, job)
            said = job.result.get("text", "")
            return as_request(said), look.status(f"Seen: {said}")
        except ValueError as error:
            return gr.skip(), complain(error)

    draw.click(begin, [picture, seed, trace, model], outputs, **QUIET).then(*follow[0], **follow[1])
    tell.click(describe, [picture, model], [prompt, outputs[3]], **QUIET)


def _take(house: House, path: str | None, request: gr.Request) -> str:
    """The asset id of the picture; raises InputError where there is none."""
    if not path:
        raise InputError("there is no picture yet; drop one first")
    file = Path(path)
    return take_in(house.media, file.read_bytes(), owner=owner_of(request), name=file.name, purpose=SHOWN).id
