"""Real weights of others in Create: what each preset needs and allows, and a form for those that are here.

Nothing is fetched from this page: it says what to run, and where the weights then belong.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from ..house import House
from ..presets import FRAMES, SIDE, STEPS, Shelved, shelf
from . import look
from .kit import QUIET, complain, lane_of, number, owner_of, whole

NOT_HERE = (
    "None of them is here: they are gigabytes each and come from their makers, not with this studio. Fetch one "
    "with the command below it, then start the studio with <code>--presets FOLDER</code>."
)


def real_weights(house: House, kind: str, prompt: gr.Textbox, seed: gr.Number, outputs: list[Any], follow: Any) -> None:
    """Lay out the panel of one bench; what is made appears where the bench shows its own."""
    rows = [one for one in shelf(house.weights) if one.row.kind == kind]
    here = [one for one in rows if one.name in house.shelf.others]
    with gr.Accordion("Real weights of others", open=False, elem_id=f"{kind}-weights"):
        if here:
            _form(house, kind, here, prompt, seed, outputs, follow)
        else:
            gr.HTML(f'<p class="soft">{NOT_HERE}</p>')
        gr.HTML(listed(rows))


def listed(rows: list[Shelved]) -> str:
    """A card for each preset: name, licence, consent, memory, and how to get it or that it is here."""
    return f'<ul class="rows presets">{"".join(_card(one) for one in rows)}</ul>'


def _card(one: Shelved) -> str:
    row = one.row
    wide, high = row.size
    size = f"{wide} × {high}" + (f", {row.frames} frames" if row.kind == "video" else "")
    consent = "its owner asks for an account and consent first" if row.gated else "no account needed"
    facts = [size, f"{row.steps} steps", one.memory, f"licence: {row.licence}", consent]
    facts += [row.note] if row.note and one.words != row.note else []
    state = '<em class="kind">here</em>' if one.here else '<em class="kind">not here</em>'
    words = f"<code>{escape(one.words)}</code>" if not one.here else escape(one.words)
    return (
        f"<li><div><b>{state}{escape(one.name)}</b>"
        f'<span class="soft">{escape(" · ".join(facts))}</span><p class="soft">{words}</p></div></li>'
    )


def _form(
    house: House, kind: str, here: list[Shelved], prompt: gr.Textbox, seed: gr.Number, outputs: list[Any], follow: Any
) -> None:
    first = here[0].row
    with gr.Row():
        name = gr.Dropdown([one.name for one in here], value=first.name, label="Model", min_width=180)
        steps = gr.Slider(STEPS[0], STEPS[1], first.steps, step=1, label="Steps", min_width=160)
        guidance = gr.Slider(0, 10, first.guidance, step=0.25, label="Guidance", min_width=160)
    with gr.Row():
        wide = gr.Number(first.size[0], label="Width", precision=0, minimum=SIDE[0], maximum=SIDE[1], min_width=110)
        high = gr.Number(first.size[1], label="Height", precision=0, minimum=SIDE[0], maximum=SIDE[1], min_width=110)
        frames = gr.Number(
            first.frames, label="Frames", precision=0, minimum=FRAMES[0], maximum=FRAMES[1], min_width=110,
            visible=kind == "video",
        )  # fmt: skip
        make = gr.Button("Make with it", variant="primary", min_width=130, elem_id=f"{kind}-make-real")
    rows = {one.name: one.row for one in here}

    def usual(chosen: str) -> tuple[Any, ...]:
        row = rows[chosen]
        return row.steps, row.guidance, *row.size, row.frames

    def begin(request: gr.Request, words: str, seed: Any, chosen: str, *values: Any) -> tuple[Any, ...]:
        skip = gr.skip()
        try:
            steps, guidance, wide, high, frames = values
            params = {
                "prompt": words, "seed": whole(seed, "seed"), "model": chosen, "steps": whole(steps, "steps"),
                "guidance": number(guidance, "guidance"), "width": whole(wide, "width"),
                "height": whole(high, "height"),
                **({"frames": whole(frames, "frames")} if kind == "video" else {}),
            }  # fmt: skip
            job = house.submit(kind, params, owner=owner_of(request), lane=lane_of(request), source="page")
        except ValueError as error:
            return skip, gr.Button(interactive=True), gr.Button(visible=False), complain(error), skip, skip
        line = look.status("Waiting for its turn …")
        return job.id, gr.Button(interactive=False), gr.Button(visible=True), line, skip, skip

    settings = [steps, guidance, wide, high, frames]
    name.change(usual, name, settings, **QUIET)
    make.click(begin, [prompt, seed, name, *settings], outputs, **QUIET).then(*follow[0], **follow[1])
