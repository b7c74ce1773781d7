"""The Chat tab: words and pictures in, an answer that streams; what the pictures cost is told before sending."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import gradio as gr

import dsv4
from dsv4.limits import HISTORY_MESSAGES, PICTURES
from dsv4.messages import PICTURE_SUFFIXES, Message
from dsv4.results import Progress, Reply

from . import look
from .cost import choices, cost_line
from .kit import QUEUE, Desk, begin, chips, complain, halt
from .work import Done, Failed, Waiting

EXAMPLES = (
    "What is a heron?",
    "What is the opposite of heavy?",
    "What is in this picture?",
    "How many things are there?",
    "What color is the background?",
)
WELCOME = (
    "### Ask what a word means, or show a picture\n"
    "Type below, or drop, paste or pick a picture and ask what is in it, what lies where, or what it says."
)
Turns = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ChatTab:
    """What the layout connects to other tabs."""

    say: gr.MultimodalTextbox


def chat_tab(desk: Desk) -> ChatTab:
    """Lay out the tab and connect it."""
    turns = gr.State([])
    talk = gr.Chatbot(
        show_label=False, height=390, placeholder=WELCOME, buttons=["copy"], render_markdown=False, elem_id="talk",
        layout="bubble", feedback_options=None, latex_delimiters=[],
    )  # fmt: skip
    say = gr.MultimodalTextbox(
        placeholder="Ask something …", show_label=False, sources=["upload"], file_types=list(PICTURE_SUFFIXES),
        file_count="multiple", lines=1, max_lines=6, elem_id="say", autofocus=True,
    )  # fmt: skip
    chips(EXAMPLES, say)
    with gr.Row(elem_classes="middle"):
        mode = gr.Radio(choices(()), value="tiny", label="How closely to look at pictures", scale=5)
        clear = gr.Button("New chat", size="sm", scale=0, min_width=110, elem_classes="quiet")
    cost = gr.HTML(cost_line((), "tiny"), elem_classes="cost")
    line = gr.HTML(look.status())
    private = {"api_visibility": "private", "show_progress": "hidden"}
    say.change(show_cost, [say, mode], [mode, cost], queue=False, trigger_mode="always_last", **private)
    mode.input(show_cost, [say, mode], [mode, cost], queue=False, **private)
    started = say.submit(
        begin_chat(desk), [say, talk], [say, talk, turns_said := gr.State(), line], queue=False, **private
    )
    started.then(
        make_chat(desk),
        [turns_said, turns, talk, mode],
        [talk, turns, say, line],
        concurrency_id=QUEUE,
        concurrency_limit=1,
        **private,
    )
    say.stop(halt(desk, "chat"), None, line, queue=False, **private)
    gr.on([clear.click, talk.clear], clear_chat(desk), None, [talk, turns, say, line], queue=False, **private)
    return ChatTab(say=say)


def show_cost(said: dict[str, Any], mode: str) -> tuple[Any, str]:
    """The mode picker with what the chosen pictures cost in each mode, and a sentence about the chosen one."""
    paths = tuple(said.get("files") or ()) if said else ()
    return gr.Radio(choices=choices(paths), value=mode), cost_line(paths, mode)


def begin_chat(desk: Desk) -> Callable[..., tuple[Any, ...]]:
    """The first half of sending: show the question at once and take it out of the box."""
    begun = begin(desk, "chat")

    def handler(said: dict[str, Any], talk: Turns, request: gr.Request) -> tuple[Any, ...]:
        begun(request)
        words, paths = (said.get("text") or "").strip(), list(said.get("files") or ())
        if not words and paths:
            words = "What is in this picture?"
        shown: Turns = [{"role": "user", "content": {"path": path}} for path in paths]
        if words:
            shown.append({"role": "user", "content": words})
        box = gr.MultimodalTextbox(value={"text": "", "files": []}, submit_btn=False, stop_btn=True)
        return box, [*talk, *shown], {"text": words, "files": paths}, look.status("Waiting for its turn …")

    return handler


def make_chat(desk: Desk) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The handler that answers: yields the conversation, what the model should remember, the box and the line."""

    def handler(
        said: dict[str, Any], turns: Turns, talk: Turns, mode: str, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        def work(studio: Any, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Reply:
            check_pictures(said["files"])
            pictures = [dsv4.image(path) for path in said["files"]]
            stream = studio.chat(said["text"], *pictures, mode=mode, history=history(turns), cancelled=cancelled)
            for piece in stream:
                on_progress(Progress(step=0, total=0, text_delta=piece))
            return stream.reply

        keep, words, begun = gr.skip(), "", monotonic()
        for event in desk.events(request, "chat", work):
            if isinstance(event, Failed):
                yield talk[: len(talk) - _shown(said)], keep, _box(said), complain(event)
            elif isinstance(event, Done):
                text = event.result.text if event.result is not None else ""
                remembered = [*turns, {"role": "user", **said}, {"role": "assistant", "text": text}] if text else turns
                yield _answered(talk, text), remembered, _box(None), _summary(event, monotonic() - begun)
            elif isinstance(event, Waiting):
                yield keep, keep, keep, look.status(f"Loading {desk.loader.name} first, this happens once …")
            else:
                words += event.text_delta
                yield _answered(talk, words), keep, keep, look.status("Answering …")

    return handler


def history(turns: Turns) -> tuple[Message, ...]:
    """The conversation so far as messages, pictures included; what no longer fits is left out from the front."""
    kept = turns[-HISTORY_MESSAGES:]
    return tuple(
        Message.said(
            turn["role"], turn["text"], *(dsv4.image(path) for path in turn.get("files", ()) if Path(path).is_file())
        )
        for turn in kept
    )


def check_pictures(paths: Sequence[str]) -> None:
    """Hold the number of pictures to the table of limits; raises InputError."""
    from dsv4.limits import check_count

    check_count("pictures", paths, PICTURES)


def clear_chat(desk: Desk) -> Callable[[gr.Request], tuple[Any, ...]]:
    """Stop what runs and forget the conversation."""
    stop = halt(desk, "chat")

    def handler(request: gr.Request) -> tuple[Any, ...]:
        stop(request)
        return [], [], _box(None), look.status()

    return handler


def _answered(talk: Turns, words: str) -> Turns:
    return [*talk, {"role": "assistant", "content": words}] if words else talk


def _shown(said: dict[str, Any]) -> int:
    return len(said["files"]) + bool(said["text"])


def _box(said: dict[str, Any] | None) -> gr.MultimodalTextbox:
    if said is None:
        return gr.MultimodalTextbox(submit_btn=True, stop_btn=False)
    return gr.MultimodalTextbox(value=said, submit_btn=True, stop_btn=False)  # give back what could not be sent


def _summary(event: Done, seconds: float) -> str:
    if event.result is None or event.stopped:
        return look.status("Stopped.")
    usage = event.result.usage
    seen = f", {usage.pictures} of them for pictures" if usage.pictures else ""
    return look.status(f"Read {usage.read} tokens{seen}; wrote {usage.written} in {seconds:.1f} seconds.")
