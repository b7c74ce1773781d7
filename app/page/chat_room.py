"""The Chat room: conversations that the server keeps, with pictures, PDFs and clips, answers that outlive the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from dsv4.errors import InputError
from dsv4.limits import PICTURES, check_count
from dsv4.messages import PICTURE_SUFFIXES

from ..house import House
from ..intake import take_in
from ..media import SHOWN
from ..talks import Said, Talk
from . import look, talk_view
from .cost import choices, cost_line
from .kit import FOLLOW, QUIET, acts, chips, complain, lane_of, owner_of, watch, what

EXAMPLES = ("What is a heron?", "What is in this picture?", "What is the opposite of heavy?", "/svg red heart icon",
            "/image a rocket above a red apple", "/video a soccer ball bouncing")  # fmt: skip
TAKES = [*PICTURE_SUFFIXES, ".pdf", ".mp4", ".webm", ".mov", ".mkv", ".zip"]


@dataclass(frozen=True, kw_only=True)
class ChatRoom:
    """What the layout connects to other rooms."""

    outputs: list[Any]
    attached: gr.State
    chosen: gr.HTML
    count: list[Any]
    show: Any
    follow: Any


def chat_room(house: House, model: gr.Dropdown) -> ChatRoom:
    """Lay out the room and connect it; `model` is the picker of the page."""
    room = _Room(house)
    talk, attached, editing = gr.State(""), gr.State([]), gr.State("")
    with gr.Row(elem_id="chat-room"):
        with gr.Column(scale=1, min_width=210, elem_id="talks"):
            new = gr.Button("New chat", size="sm", elem_classes="quiet")
            search = gr.Textbox(
                placeholder="Search conversations", show_label=False, container=False, max_lines=1, elem_id="find-talk"
            )
            talks = acts(elem_id="talk-list")
        with gr.Column(scale=4, min_width=300):
            past = acts(talk_view.WELCOME, elem_id="talk", to_end=True, max_height="52vh", min_height=200)
            now = gr.HTML("", elem_id="now")
            chosen = acts("", elem_id="attached")
            say = gr.MultimodalTextbox(
                {"text": "", "files": []},
                placeholder="Ask something, or /svg, /image, /video … and what to make",
                show_label=False,
                sources=["upload"], file_types=TAKES, file_count="multiple", lines=1, max_lines=6, elem_id="say",
                autofocus=True,
            )  # fmt: skip
            line = gr.HTML(look.status(), elem_id="chat-line")
            chips(EXAMPLES, say)
            mode = gr.Radio(choices(()), value="tiny", label="How closely to look at pictures", elem_id="mode")
            cost = gr.HTML(cost_line((), "tiny"), elem_classes="cost", elem_id="cost")
    shown = [talk, talks, past, now, say, line, chosen, attached, editing]
    count = [room.cost, [say, mode, attached, model], [mode, cost]]
    for event in (say.change, mode.input):
        event(*count, trigger_mode="always_last", **QUIET)
    follow = [room.follow, [talk], [past, now, talks, say, line]]
    following = []

    def then_follow(started: Any) -> None:
        following.append(started.then(*follow, **FOLLOW))

    then_follow(say.submit(room.send, [talk, say, mode, attached, editing, model], shown, **QUIET))
    then_follow(past.click(room.act, [talk, mode, model], shown, **QUIET))
    then_follow(talks.click(room.open, [talk, search], shown, **QUIET))
    say.stop(room.stop, talk, line, **QUIET)
    new.click(room.new, search, shown, cancels=following, **QUIET)
    chosen.click(lambda: ([], ""), None, [attached, chosen], **QUIET).then(*count, **QUIET)
    search.change(room.find, [talk, search], talks, trigger_mode="always_last", **QUIET)
    return ChatRoom(outputs=shown, attached=attached, chosen=chosen, count=count, show=room.arrive, follow=follow)


class _Room:
    """The handlers; each gives the outputs in the order of `shown` above."""

    def __init__(self, house: House) -> None:
        self.house = house

    def arrive(self, request: gr.Request) -> tuple[Any, ...]:
        """Somebody opens or reloads the page: the conversation that was touched last is there again."""
        known = self.house.talks.list(owner_of(request), limit=1)
        return self._page(request, known[0].id if known else "", empty=False)

    def open(self, talk: str, words: str, request: gr.Request, event: gr.EventData) -> tuple[Any, ...]:
        """Open a conversation from the list, or delete it."""
        act, name = what(event)
        if act == "drop":
            self._stop(name, request)
            self.house.talks.drop(name, owner_of(request))
            return self._page(request, "" if name == talk else talk, words=words)
        return self._page(request, name, words=words)

    def new(self, words: str, request: gr.Request) -> tuple[Any, ...]:
        """An empty page; the conversation is made when the first thing is said."""
        return self._page(request, "", words=words)

    def find(self, talk: str, words: str, request: gr.Request) -> str:
        """The list of conversations that hold these words."""
        return talk_view.talk_list(self.house.talks.list(owner_of(request), words=words), talk)

    def send(
        self, talk: str, said: dict[str, Any], mode: str, attached: list[str], editing: str, model: str,
        request: gr.Request,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Say something at the end of the conversation, or instead of the message that is edited."""
        owner, house = owner_of(request), self.house
        said = said or {}  # the box gives nothing when nothing was typed
        text, paths = (said.get("text") or "").strip(), list(said.get("files") or ())
        try:
            check_count("pictures", [*attached, *paths], PICTURES)
            shown = [*attached, *(self._take(path, owner) for path in paths)]
            kept = house.talks.get(talk, owner) if talk else None
            parent = kept.head if kept else None
            if editing:
                old = self._own(kept, editing)
                parent, shown = old.parent, shown or list(old.shown)
            if text.split(" ")[0] == "/read" and len(shown) > 1:
                raise InputError(f"/read reads one file at a time, not {len(shown)}")
            if not text and shown:
                zips = [one for one in shown if house.media.get(one, owner).path.suffix == ".zip"]
                text = "What does this repository do?" if zips else "What is in this picture?"
            with house.store.change():  # a conversation whose first message is refused is not begun
                kept = kept or house.talks.begin(owner)
                house.say(kept, owner, text, shown, parent=parent, lane=lane_of(request), mode=mode, model=model)
        except ValueError as error:
            skip = gr.skip()
            return skip, skip, skip, skip, gr.MultimodalTextbox(value=said), complain(error), skip, skip, skip
        return self._page(request, kept.id)

    def act(self, talk: str, mode: str, model: str, request: gr.Request, event: gr.EventData) -> tuple[Any, ...]:
        """A button below a message: another answer, an edit, another branch."""
        owner, house = owner_of(request), self.house
        act, name = what(event)
        try:
            kept = house.talks.get(talk, owner)
            said = self._own(kept, name)
            if act == "retry":
                house.answer_again(kept, owner, said, lane=lane_of(request), mode=mode, model=model)
            elif act in ("previous", "next"):
                house.talks.turn(said, 1 if act == "next" else -1)
        except ValueError as error:
            return *(gr.skip(),) * 5, complain(error), *(gr.skip(),) * 3
        page = list(self._page(request, talk))
        if act == "edit":
            page[4] = gr.MultimodalTextbox(value={"text": said.text, "files": []}, submit_btn=True, stop_btn=False)
            page[5] = look.status("Sending makes a new branch; what was said before stays.")
            page[8] = said.id
        return tuple(page)

    async def follow(self, talk: str, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Show the answer that is being written, from its beginning, until it is over."""
        owner, skip = owner_of(request), gr.skip()
        job = self._running(talk, owner)
        if job is None:  # over before anybody looked; a generator that yields nothing would empty its outputs
            yield self._past(talk, owner), "", skip, _box(empty=False), skip
            return
        async for view in watch(self.house, job, owner):
            if view.job.over:
                break
            yield skip, talk_view.growing(view.text, view.preview, view.line), skip, skip, view.line
        past = self._past(talk, owner)
        yield past, "", self.find(talk, "", request), _box(empty=False), talk_view.summary(self.house.jobs.get(job))

    def stop(self, talk: str, request: gr.Request) -> str:
        """The stop button: the answer ends within a step and keeps what was said."""
        self._stop(talk, request)
        return look.status("Stopping …")

    def cost(
        self, said: dict[str, Any], mode: str, attached: Sequence[str], model: str, request: gr.Request
    ) -> tuple[Any, str]:
        """The mode picker with what the chosen pictures cost in each mode, and a sentence about the chosen one."""
        paths = list(said.get("files") or ()) if said else []
        paths += [str(self.house.media.get(name, owner_of(request)).path) for name in attached]
        return gr.Radio(choices=choices(paths), value=mode), cost_line(paths, mode, model or self.house.keeper.name)

    def _page(self, request: gr.Request, talk: str, *, words: str = "", empty: bool = True) -> tuple[Any, ...]:
        owner = owner_of(request)
        running = self._running(talk, owner)
        now = talk_view.growing("", "", "") if running else ""
        listed = talk_view.talk_list(self.house.talks.list(owner, words=words), talk)
        return (
            talk,
            listed,
            self._past(talk, owner),
            now,
            _box(busy=bool(running), empty=empty),
            look.status(),
            "",
            [],
            "",
        )

    def _past(self, talk: str, owner: str) -> str:
        if not talk:
            return talk_view.WELCOME
        kept = self.house.talks.get(talk, owner)
        return talk_view.conversation(self.house, owner, self.house.talks.page(kept))

    def _running(self, talk: str, owner: str) -> str | None:
        if not talk:
            return None
        page = self.house.talks.page(self.house.talks.get(talk, owner))
        return page[-1].job if page and page[-1].state == "running" else None

    def _stop(self, talk: str, request: gr.Request) -> None:
        owner = owner_of(request)
        if job := self._running(talk, owner):
            self.house.cancel(job, owner)

    def _own(self, talk: Talk | None, name: str) -> Said:
        said = self.house.talks.message(name)
        if talk is None or said.talk != talk.id:
            raise InputError(f"there is no message '{name[:80]}' in this conversation")
        return said

    def _take(self, path: str, owner: str) -> str:
        file = Path(path)
        return take_in(self.house.media, file.read_bytes(), owner=owner, name=file.name, purpose=SHOWN).id


def _box(*, busy: bool = False, empty: bool = True) -> dict[str, Any]:
    """The box with its stop or its send button; what somebody is typing is left alone unless it is to be `empty`."""
    value = {"value": {"text": "", "files": []}} if empty else {}
    return gr.update(submit_btn=not busy, stop_btn=busy, **value)
