"""What every room of the page needs: who asks, example chips, numbers read, and a job followed from any moment on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dsv4.errors import InputError

from ..house import House
from ..jobs import Job
from . import look

UPDATE = 0.07  # seconds between two updates of a page, at least
REFRESH = 1.0  # seconds after which a waiting job's place and time are told again
QUIET = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
FOLLOW: dict[str, Any] = {
    "api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None, "trigger_mode": "multiple",
}  # fmt: skip
# A click on anything that says `data-act` becomes one event with its words; the browser does nothing else with it.
ACTS = """
element.addEventListener('click', event => {
  const at = event.target.closest('[data-act]');
  if (!at) return;
  event.preventDefault();
  if (at.dataset.act === 'copy') {
    const text = at.closest('[data-copy]')?.querySelector('.text')?.innerText ?? '';
    navigator.clipboard?.writeText(text);
    at.textContent = 'Copied';
    return;
  }
  trigger('click', {act: at.dataset.act, id: at.dataset.id ?? ''});
});
"""
# The newest words of a conversation stay in sight, unless somebody has scrolled up to read.
TO_END = """
const down = () => { let box = element; while (box && box.scrollHeight <= box.clientHeight + 1) box = box.parentElement;
  if (box && box !== document.documentElement && box !== document.body) box.scrollTop = box.scrollHeight; };
watch('value', () => { down(); element.querySelectorAll('img, video').forEach(one => {
  one.addEventListener('load', down, {once: true}); one.addEventListener('loadeddata', down, {once: true}); }); });
"""
DOING = {"chat": "Answering", "svg": "Drawing", "image": "Painting", "video": "Animating", "read": "Reading"}


def owner_of(request: gr.Request) -> str:
    """Whose page this is, as the guard found out."""
    return _scope(request)["user"]


def lane_of(request: gr.Request) -> str:
    """Whose turn it is when this page asks for something."""
    return _scope(request)["lane"]


def _scope(request: gr.Request) -> Any:
    assert request.request is not None  # there is none only where a handler is called without a browser
    return request.request.scope


def acts(value: str = "", *, to_end: bool = False, **named: Any) -> gr.HTML:
    """HTML whose `data-act` elements can be clicked; connect `.click` and read the event with `what`."""
    return gr.HTML(value, js_on_load=ACTS + (TO_END if to_end else ""), **named)


def what(event: gr.EventData) -> tuple[str, str]:
    """(act, id) of a click."""
    data = getattr(event, "_data", None) or {}
    return str(data.get("act", "")), str(data.get("id", ""))


@dataclass(frozen=True, kw_only=True)
class View:
    """A job as a page shows it: what it has said, the newest preview, and one line about how it goes."""

    job: Job
    text: str = ""
    preview: str = ""  # the address of a picture
    line: str = ""
    loading: str = ""  # a model that this job waits for


async def watch(house: House, name: str, owner: str) -> AsyncIterator[View]:
    """A job from what it has done so far to its end, a view at every change, however late one comes to it."""
    view = View(job=house.jobs.get(name, owner))
    after, shown = 0, -1.0
    while True:
        seen = house.jobs.version
        view = replace(view, job=house.jobs.get(name, owner))
        events = house.jobs.events(view.job, after)
        for event in events:
            after = event.seq
            if event.kind == "text":
                view = replace(view, text=view.text + event.data["delta"])
            elif event.kind == "preview":
                view = replace(view, preview=f"v1/jobs/{name}/preview/{event.data['file']}")
            view = replace(view, loading=event.data["model"] if event.kind == "loading" else "")
        if events or time.monotonic() - shown > REFRESH or view.job.over:
            shown = time.monotonic()
            yield replace(view, line=progress_line(house, view.job, view.loading))
        if view.job.over:
            return
        await asyncio.sleep(UPDATE)
        while house.jobs.version == seen and time.monotonic() - shown < REFRESH:
            await asyncio.sleep(0.02)


def progress_line(house: House, job: Job, loading: str = "") -> str:
    """One line about a job: its place and time while it waits, its step while it runs, what came of it afterwards."""
    if job.state == "failed":
        return look.status(job.error, bad=True)
    if job.state == "cancelled":
        return look.status("Stopped.")
    if job.state == "done":
        notes = "".join(f" {one.rstrip('.')}." for one in job.result.get("warnings", ()))
        return look.status(f"Done in {job.seconds:.1f} seconds.{notes}")
    if house.keeper.state != "ready":
        return look.status(f"Loading {house.keeper.name} first, this happens once …")
    left = house.jobs.seconds_left(job)
    about = f", about {left:.0f} s left" if left is not None and left >= 1 else ""
    if job.state == "queued":
        place = house.jobs.place(job)
        before = "next in line" if not place else f"{place} before it"
        return look.status(f"Waiting for its turn: {before}{about} …")
    if loading:
        return look.status(f"Loading {loading} first …")
    doing = DOING[job.kind]
    if job.kind == "read":
        return look.status(f"{doing}: page {job.step} is done …" if job.step else f"{doing} …")
    if job.total and job.kind != "svg":
        return look.status(f"{doing}: step {job.step} of {job.total}{about}", step=job.step, total=job.total)
    return look.status(f"{doing}: {job.step} tokens …" if job.step else f"{doing} …")


def complain(error: ValueError) -> str:
    """Show what was wrong, as a passing note and in the line, which stays."""
    gr.Warning(str(error), duration=6, title="Please check")
    return look.status(str(error), bad=True)


def chips(examples: Sequence[str], target: Any) -> None:
    """A row of examples; a click puts one into `target`."""
    with gr.Row(elem_classes="chips"):
        for words in examples:
            fill = {"text": words, "files": []} if isinstance(target, gr.MultimodalTextbox) else words
            gr.Button(words, size="sm").click(lambda fill=fill: fill, None, target, **QUIET)


def whole(value: object, name: str) -> int:
    """A number field as an int; raises InputError when it is empty or has a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise InputError(f"{name} must be a whole number, got {'nothing' if value is None else repr(value)}")
    return int(value)


def number(value: object, name: str) -> float:
    """A number field as a float; raises InputError when it is empty."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, got {'nothing' if value is None else repr(value)}")
    return float(value)
