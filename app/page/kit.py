"""What every tab needs: example chips, a run and a stop button, numbers read, files named, a job given its turn."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from dsv4.errors import InputError

from . import look
from .loading import StudioLoader
from .work import Done, Event, Failed, StopButtons, Waiting, Work, follow

QUEUE = "studio"  # one model, one job at a time: all verbs share this queue


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the tabs share: the studio, the stop flags, and a folder for finished files that goes when the page goes."""

    loader: StudioLoader
    stops: StopButtons = field(default_factory=StopButtons)
    folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="dsv4-page-")
    )

    def file(self, prompt: str, suffix: str) -> Path:
        """A fresh path whose name tells what is in it, such as `red-heart-icon.svg`."""
        words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:48].strip("-") or "drawing"
        return Path(tempfile.mkdtemp(dir=self.folder.name)) / f"{words}{suffix}"

    def events(self, request: gr.Request, tab: str, work: Work) -> Iterator[Event]:
        """Follow `work` under the stop flag of this person's tab."""
        return follow(self.loader, work, self.stops.get(str(request.session_hash), tab))


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The button that starts, the one that stops, and the line that says what goes on."""

    run: gr.Button
    stop: gr.Button
    line: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """In the order of `busy` and `idle`."""
        return [self.run, self.stop, self.line]


def controls(verb: str) -> Controls:
    """Lay out the two buttons and the line."""
    with gr.Row():
        run = gr.Button(verb, variant="primary", scale=3)
        stop = gr.Button("Stop", variant="stop", visible=False, scale=1)
    return Controls(run=run, stop=stop, line=gr.HTML(look.status()))


def busy(line: str) -> tuple[Any, Any, str]:
    """Outputs of `Controls` while something runs; `line` is from `look.status`."""
    return gr.Button(interactive=False), gr.Button(visible=True), line


def idle(line: str) -> tuple[Any, Any, str]:
    """Outputs of `Controls` when it is over."""
    return gr.Button(interactive=True), gr.Button(visible=False), line


def begin(desk: Desk, tab: str) -> Callable[[gr.Request], tuple[Any, Any, str]]:
    """The first half of a start: it answers at once, even while another job has the model."""

    def handler(request: gr.Request) -> tuple[Any, Any, str]:
        desk.stops.fresh(str(request.session_hash), tab)
        return busy(look.status("Waiting for its turn …"))

    return handler


def halt(desk: Desk, tab: str) -> Callable[[gr.Request], str]:
    """The stop button: raise the flag; the running job sees it at its next step."""

    def handler(request: gr.Request) -> str:
        desk.stops.get(str(request.session_hash), tab).set()
        return look.status("Stopping …")

    return handler


def wire(
    desk: Desk,
    tab: str,
    buttons: Controls,
    triggers: Sequence[Any],
    make: Callable[..., Any],
    inputs: Any,
    outputs: Any,
) -> None:
    """Connect start and stop: `triggers` run `make`, one job at a time over the whole page."""
    private = {"api_visibility": "private", "show_progress": "hidden"}
    started = gr.on(triggers, begin(desk, tab), None, buttons.outputs, queue=False, **private)
    started.then(make, inputs, outputs, concurrency_id=QUEUE, concurrency_limit=1, **private)
    buttons.stop.click(halt(desk, tab), None, buttons.line, queue=False, **private)


def note(event: Event, *, name: str, doing: str, counted: str = "step") -> str:
    """The line for an event that is not the last: loading, or step of total."""
    if isinstance(event, Waiting):
        return look.status(f"Loading {name} first, this happens once …")
    if isinstance(event, Done | Failed) or not event.total:
        return look.status(f"{doing} …")
    return look.status(f"{doing}: {counted} {event.step} of {event.total}", step=event.step, total=event.total)


def complain(event: Failed) -> str:
    """Show what was wrong, as a passing note and in the line, which stays."""
    gr.Warning(event.message, duration=6, title="Please check" if event.theirs else "Sorry")
    return look.status(event.message, bad=True)


def chips(examples: Sequence[str], target: Any) -> None:
    """A row of examples; a click puts one into `target`."""
    with gr.Row(elem_classes="chips"):
        for words in examples:
            fill = {"text": words, "files": []} if isinstance(target, gr.MultimodalTextbox) else words
            gr.Button(words, size="sm").click(
                lambda fill=fill: fill, None, target, queue=False, api_visibility="private", show_progress="hidden"
            )


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
