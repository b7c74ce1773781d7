"""Put the rooms together under a header that shows how far the model is, and connect what goes from room to room."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..house import House
from . import look, talk_view
from .chat_room import chat_room
from .create_room import asked, create_room
from .gallery_room import gallery_room, read_file
from .kit import FOLLOW, QUIET, complain, owner_of, what
from .model_room import describe, model_room
from .named import named_endpoints
from .work_rooms import batch_room, queue_room

CACHE_SECONDS = (1800, 24 * 3600)  # how often gradio looks for old uploads, and how old they may get
ROOMS = ("Chat", "Create", "Gallery", "Queue", "Batch", "Model")
TICK = 2.0  # seconds between two looks at the queue and the batches, while one of them is open


def layout(house: House) -> gr.Blocks:
    """The page as Blocks, not yet served; `look.theme()` and `look.css()` are given when it is mounted."""
    with gr.Blocks(title="dsv4 studio", analytics_enabled=False, delete_cache=CACHE_SECONDS) as page:
        with gr.Row(elem_id="top"):
            gr.HTML(look.header(), elem_id="mast")
            state = gr.HTML(_pill(house), elem_id="state")
            picker = _picker(house)
        rooms: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="rooms") as tabs:
            for name in ROOMS:
                rooms[name] = gr.Tab(name, id=name.lower())
        with rooms["Chat"]:
            chat = chat_room(house, picker)
        with rooms["Create"]:
            benches, kinds = create_room(house, picker)
        with rooms["Gallery"]:
            gallery = gallery_room(house)
        with rooms["Queue"]:
            queue, show_queue = queue_room(house)
        with rooms["Batch"]:
            batches, show_batches = batch_room(house)
        with rooms["Model"]:
            loaded = model_room(house)
        _state(page, house, state)
        page.load(lambda: _names(house), None, picker, **QUIET)
        page.load(chat.show, None, chat.outputs, **QUIET).then(*chat.follow, **FOLLOW)
        for bench in benches.values():
            page.load(bench.arrive, None, bench.outputs, **QUIET).then(*bench.follow, **FOLLOW)
        _ticking(rooms, tabs, {"Queue": (queue, show_queue), "Batch": (batches, show_batches)})
        rooms["Gallery"].select(gallery.tab_shown, gallery.inputs, gallery.grid, **QUIET)
        _model(rooms["Model"], house, loaded)
        _again(house, gallery, benches, tabs, kinds)
        named_endpoints(house)
        _ask(house, [gallery.detail, *(bench.result for bench in benches.values())], chat, tabs)
    page.queue(api_open=False, default_concurrency_limit=None)
    return page


def _state(page: gr.Blocks, house: House, state: gr.HTML) -> None:
    timer = gr.Timer(1.0)

    def look_again() -> tuple[str, Any]:
        # Once it is there it is looked at now and then only: a process may end and be started again.
        return _pill(house), gr.Timer(10.0 if house.keeper.state == "ready" else 1.0)

    page.load(look_again, None, [state, timer], **QUIET)
    timer.tick(look_again, None, [state, timer], **QUIET)


def _picker(house: House) -> gr.Dropdown:
    """Which model answers and makes things on this page; presets of real weights have their own place in Create."""
    return gr.Dropdown(
        _studios(house), value="", label="Model", container=False, min_width=150, scale=0, elem_id="model",
        filterable=False,
    )  # fmt: skip


def _studios(house: House) -> list[tuple[str, str]]:
    """(what is shown, what is meant): "" is the model that is always there, whatever its name turns out to be."""
    others = [one.name for one in house.shelf.others.values() if not one.preset]
    return [(house.keeper.name, ""), *((name, name) for name in others)]


def _names(house: House) -> Any:
    return gr.Dropdown(choices=_studios(house))


def _model(tab: gr.Tab, house: House, loaded: gr.Markdown) -> None:
    def show(request: gr.Request) -> str:
        return describe(house, owner_of(request))

    tab.select(show, None, loaded, **QUIET)


def _ticking(rooms: dict[str, gr.Tab], tabs: gr.Tabs, lists: dict[str, tuple[gr.HTML, Any]]) -> None:
    """Keep a list fresh while its room is open, and ask for nothing while it is not."""
    timers = {name: gr.Timer(TICK, active=False) for name in lists}
    for name, (listed, show) in lists.items():
        rooms[name].select(show, None, listed, **QUIET)
        timers[name].tick(show, None, listed, **QUIET)

    def chosen(event: gr.SelectData) -> list[Any]:
        return [gr.Timer(active=event.value == name) for name in lists]

    tabs.select(chosen, None, list(timers.values()), **QUIET)


def _again(house: House, gallery: Any, benches: dict[str, Any], tabs: gr.Tabs, kinds: gr.Tabs) -> None:
    """Bring the settings of something that was made back to its bench."""
    fields = [(bench.kind, name, part) for bench in benches.values() for name, part in _fields(bench)]
    outputs = [tabs, kinds, *(part for *_, part in fields), gallery.line]

    def filled(kind: str, settings: dict[str, Any]) -> list[Any]:
        values = [settings[name] if of == kind and name in settings else gr.skip() for of, name, _ in fields]
        return [gr.Tabs(selected="create"), gr.Tabs(selected=kind), *values, look.status()]

    def from_gallery(words: str, kind: str, starred: bool, request: gr.Request, event: gr.EventData) -> list[Any]:
        act, name = what(event)
        unchanged = [gr.skip()] * (len(outputs) + 2)
        try:
            if act == "again":
                return [*filled(*gallery.room.settings_of(name, owner_of(request))), gr.skip(), gr.skip()]
            if act in ("star", "delete"):
                return [*unchanged[:-2], *gallery.room.change(words, kind, starred, request, event)]
        except ValueError as error:
            return [*unchanged[:-3], complain(error), gr.skip(), gr.skip()]
        return unchanged

    def from_file(path: str | None) -> list[Any]:
        try:
            return filled(*read_file(path))
        except ValueError as error:
            return [*[gr.skip()] * (len(outputs) - 1), complain(error)]

    gallery.detail.click(from_gallery, gallery.inputs, [*outputs, gallery.grid, gallery.detail], **QUIET)
    gallery.drop.upload(from_file, gallery.drop, outputs, **QUIET)


def _fields(bench: Any) -> list[tuple[str, Any]]:
    settings = [(name, part) for name, part in bench.settings.items() if name not in ("count", "first_frame")]
    return [("prompt", bench.prompt), *settings]


def _ask(house: House, sources: list[gr.HTML], chat: Any, tabs: gr.Tabs) -> None:
    """Put something that was made beside the chat box, and go there."""

    def ask(request: gr.Request, event: gr.EventData) -> tuple[Any, Any, Any]:
        name = asked(event)
        if not name:
            return gr.skip(), gr.skip(), gr.skip()
        asset = house.media.get(name, owner_of(request))
        return [name], talk_view.attached([asset]), gr.Tabs(selected="chat")

    for source in sources:
        source.click(ask, None, [chat.attached, chat.chosen, tabs], **QUIET).then(*chat.count, **QUIET)


def _pill(house: House) -> str:
    keeper = house.keeper
    return look.pill(keeper.state, keeper.name, keeper.reason if keeper.state == "failed" else "")
