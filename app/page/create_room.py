"""The Create room: a drawing, a picture or a clip from words; what runs is found again after a reload, or tomorrow."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from dsv4 import forecast
from dsv4.errors import InputError
from dsv4.limits import CLIP_FPS, CLIP_SIZE, PAINTED_SIZES, RANGES, SIDES, clip_frames, guidance_for, painted_size
from dsv4.redraw import redrawn_as

from ..house import House
from ..intake import take_in
from ..media import SHOWN, Asset
from . import look
from .kit import FOLLOW, QUIET, acts, chips, complain, lane_of, number, owner_of, watch, what, whole
from .real_weights import real_weights
from .redraw import redraw

EXAMPLES = {
    "svg": ("red heart icon", "a tiger", "outline heart icon, lucide", "heart icon in a circle", "three heart icons"),
    "image": ("a blue circle above a red square", "a tiger on a mint background", "an owl, flat style"),
    "video": (
        "a soccer ball bouncing",
        "a cat spinning and a dog bouncing",
        "a rocket moving up",
        "a red heart growing",
    ),
}
LEADS = {
    "svg": "Icons by name, colour and set, drawings of things, and small scenes of both.",
    "image": "One to three things, where they are, and the ground they stand on.",
    "video": f"One or two things that move. Clips are {CLIP_SIZE} pixels a side, {CLIP_FPS} frames a second, silent.",
}
VERBS = {"svg": "Draw", "image": "Paint", "video": "Animate"}
TITLES = {"svg": "SVG", "image": "Image", "video": "Video"}
SEEDS = 100_000  # short enough to write down
TIMED = ("seconds", "size", "count", "steps", "guidance")  # settings that the time of a picture or a clip depends on


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One kind of thing to make, and its parts on the page."""

    kind: str
    tab: gr.Tab
    prompt: gr.Textbox
    settings: dict[str, Any]  # name of a setting: its component
    outputs: list[Any]
    arrive: Callable[..., Any]
    follow: list[Any]
    job: gr.State
    result: gr.HTML


def create_room(house: House, model: gr.Dropdown) -> tuple[dict[str, Bench], gr.Tabs]:
    """Lay out the three benches; `model` is the picker of the page."""
    with gr.Tabs(elem_id="create") as tabs:
        benches = {kind: _bench(house, kind, model) for kind in VERBS}
    return benches, tabs


def _bench(house: House, kind: str, model: gr.Dropdown) -> Bench:
    worker = _Bench(house, kind)
    with gr.Tab(TITLES[kind], id=kind) as tab:
        gr.Markdown(LEADS[kind], elem_classes="lead")
        job = gr.State("")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                prompt = gr.Textbox(label="What should it be?", placeholder=EXAMPLES[kind][0], lines=2, max_lines=4)
                chips(EXAMPLES[kind], prompt)
                settings, dice = _settings(kind)
                panel = gr.Column(visible=kind == "svg")
                with gr.Row():
                    run = gr.Button(VERBS[kind], variant="primary", scale=3)
                    stop = gr.Button("Stop", variant="stop", visible=False, scale=1)
                told = gr.HTML(elem_id=f"{kind}-time", visible=kind != "svg")
                line = gr.HTML(look.status(), elem_id=f"{kind}-line")
                code = gr.Code(
                    label="SVG", language="html", interactive=False, lines=6, max_lines=18, wrap_lines=True,
                    elem_id="code", visible=kind == "svg",
                )  # fmt: skip
            with gr.Column(scale=4, min_width=300):
                result = acts(look.frame(hint="It appears here, step by step"), elem_id=f"{kind}-result")
                with gr.Row(visible=kind == "svg", elem_classes="middle"):
                    wish = gr.Textbox(
                        label="Change it by words", placeholder="make the circle red", max_lines=1, scale=3,
                        elem_id=f"{kind}-wish",
                    )  # fmt: skip
                    change = gr.Button("Change", scale=1, min_width=90, elem_classes="quiet")
    outputs = [job, run, stop, line, result, code]
    follow = [worker.follow, [job], outputs]
    starts = [run.click, prompt.submit]
    begun = gr.on(starts, worker.begin, [prompt, model, *settings.values()], outputs, **QUIET)
    begun.then(*follow, **FOLLOW)
    if kind == "svg":
        changed = gr.on([change.click, wish.submit], worker.change, [job, wish, model], outputs, **QUIET)
        changed.then(*follow, **FOLLOW)
        with panel:
            redraw(house, prompt, settings["seed"], model, outputs, (follow, FOLLOW))
    stop.click(worker.stop, job, line, **QUIET)
    if kind != "svg":
        with tab:
            real_weights(house, kind, prompt, settings["seed"], outputs, (follow, FOLLOW))
        timed = [settings[name] for name in TIMED if name in settings]
        gr.on([prompt.focus, *(one.change for one in timed)], worker.timed, timed, told, **QUIET)
    if "seed" in settings:
        dice.click(lambda: secrets.randbelow(SEEDS), None, settings["seed"], **QUIET)
    return Bench(
        kind=kind, tab=tab, prompt=prompt, settings=settings, outputs=outputs, arrive=worker.arrive, follow=follow,
        job=job, result=result,
    )  # fmt: skip


def _settings(kind: str) -> tuple[dict[str, Any], gr.Button]:
    """The settings of a kind, within the table of limits and no further than is useful."""
    found: dict[str, Any] = {}
    if kind == "video":
        low, high = RANGES["seconds"].low, RANGES["seconds"].high
        found["seconds"] = gr.Slider(low, high, 2, step=0.25, label="Seconds")
    with gr.Row(elem_classes="middle"):
        info = "matters when freedom is above 0" if kind == "svg" else "one seed, one result"
        found["seed"] = gr.Number(0, label="Seed", info=info, precision=0, minimum=0, scale=3)
        dice = gr.Button("New seed", size="sm", scale=0, min_width=110, elem_classes="quiet")
    if kind == "svg":
        found["temperature"] = gr.Slider(0, 1.5, 0, step=0.1, label="Freedom", info="0: always the same")
        found["candidates"] = gr.Slider(
            1,
            8,
            1,
            step=1,
            label="Candidates",
            info="with freedom: so many are drawn, the one most like the rest stays",
        )
        return found, dice
    if kind == "image":
        told = f"larger than {PAINTED_SIZES[-1]}: painted at that size and enlarged"
        found["size"] = gr.Slider(SIDES[0], SIDES[-1], 128, step=SIDES.step, label="Size in pixels", info=told)
        found["count"] = gr.Slider(1, 4, 1, step=1, label="How many", info="seeds that follow each other")
    with gr.Accordion("Finer settings", open=False):
        most = min(32, int(RANGES["steps"].high))
        found["steps"] = gr.Slider(1, most, 8, step=1, label="Steps", info="more is cleaner")
        found["guidance"] = gr.Slider(
            RANGES["guidance"].low, 6, 2, step=0.25, label="Guidance", info="how closely to obey"
        )
        found["steps"].input(lambda steps: guidance_for(int(steps)), found["steps"], found["guidance"], **QUIET)
        if kind == "video":
            found["first_frame"] = gr.Image(
                label="Begin with a picture", type="filepath", sources=["upload", "clipboard"], height=180
            )
    return found, dice


class _Bench:
    """The handlers of one bench; a state holds the ids of the jobs that it shows, with spaces between."""

    def __init__(self, house: House, kind: str) -> None:
        self.house, self.kind = house, kind
        self.names = {
            "svg": ["seed", "temperature", "candidates"],
            "image": ["seed", "size", "count", "steps", "guidance"],
            "video": ["seconds", "seed", "steps", "guidance", "first_frame"],
        }[kind]

    def begin(self, request: gr.Request, prompt: str, model: str, *values: Any) -> tuple[Any, ...]:
        """Queue what was asked for and answer at once; `follow` shows the rest."""
        owner, skip = owner_of(request), gr.skip()
        try:
            params = self._params(prompt, dict(zip(self.names, values, strict=True)), owner)
            params["model"] = model
            count = params.pop("count", 1)
            jobs = [
                self.house.submit(
                    self.kind,
                    {**params, "seed": params["seed"] + place},
                    owner=owner,
                    lane=lane_of(request),
                    source="page",
                )
                for place in range(count)
            ]
        except ValueError as error:
            return skip, *_idle(), complain(error), skip, skip
        return " ".join(job.id for job in jobs), *_busy(), look.status("Waiting for its turn …"), skip, skip

    def timed(self, *values: Any) -> str:
        """How long what is set would take here, before it is asked for; nothing where the model has no head."""
        pace = self.house.keeper.facts.get("pace")
        if not pace:
            return ""
        names = [name for name in TIMED if name in self.names]
        given = {name: float(value or 1) for name, value in zip(names, values, strict=True)}
        if "seconds" in given:
            side, frames = CLIP_SIZE, clip_frames(given["seconds"])
        else:
            side, frames = painted_size(int(given["size"])), 1
        told = {"steps": int(given["steps"]), "guidance": given["guidance"]}
        seconds = forecast.seconds_at(pace, (frames, side, side), **told) * given.get("count", 1)
        what = f"{frames} frames" if frames > 1 else "One frame" if "seconds" in given else "This"
        return f'<span class="soft">{what} will take {forecast.told(seconds)} on this machine.</span>'

    def change(self, names: str, wish: str, model: str, request: gr.Request) -> tuple[Any, ...]:
        """Queue a change of the drawing that is shown: a new one, the old one stays in the gallery."""
        owner, skip = owner_of(request), gr.skip()
        try:
            made = [one for name in names.split() for one in self.house.made(self.house.jobs.get(name, owner))]
            if not made:
                raise InputError("there is no drawing here yet; draw one first, then say what to change")
            params = {"prompt": wish, "edit": made[-1].id, "model": model}
            job = self.house.submit("svg", params, owner=owner, lane=lane_of(request), source="page")
        except ValueError as error:
            return skip, *_idle(), complain(error), skip, skip
        return job.id, *_busy(), look.status("Waiting for its turn …"), skip, skip

    def arrive(self, request: gr.Request) -> tuple[Any, ...]:
        """Somebody opens or reloads the page: the newest of this kind is there again, running or finished."""
        found = self.house.jobs.list(owner_of(request), source="page", kind=self.kind, limit=4)
        skip = gr.skip()
        if not found:
            return (skip,) * 6
        shown = [job for job in found if not job.over][::-1] or found[:1]
        names = " ".join(job.id for job in shown)
        running = any(not job.over for job in shown)
        return names, *(_busy() if running else _idle()), skip, skip, skip

    async def follow(self, names: str, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Show jobs one after the other, each from its beginning to its end."""
        owner, skip = owner_of(request), gr.skip()
        cells: list[str] = []
        code: Any = skip
        yield (skip,) * 6  # a generator that yields nothing would empty its outputs
        for place, name in enumerate(names.split()):
            view = None
            async for view in watch(self.house, name, owner):
                if view.job.over:
                    break
                seen = f'<img src="{view.preview}" alt="how it looks so far">' if view.preview else ""
                cell = [look.frame(seen, "Waiting …")] if seen or not cells else []
                left = len(names.split()) - place - 1
                line = view.line if not left else view.line.replace("</span>", f" · {left} more</span>", 1)
                yield skip, *_busy(), line, _grid([*cells, *cell]), skip
            assert view is not None
            job = self.house.jobs.get(name)
            made = self.house.made(job)
            cells += [self._cell(asset) for asset in made]
            if made and self.kind == "svg":
                code = made[0].path.read_text(encoding="utf-8")
            if job.state != "done":
                yield skip, *_idle(), view.line, _grid(cells) or look.frame(hint="Nothing was made"), code
                return
            yield skip, *_idle(), view.line, _grid(cells), code

    def stop(self, names: str, request: gr.Request) -> str:
        """The stop button: nothing of it goes on."""
        for name in names.split()[::-1]:
            self.house.cancel(name, owner_of(request))
        return look.status("Stopping …")

    def _params(self, prompt: str, values: dict[str, Any], owner: str) -> dict[str, Any]:
        params: dict[str, Any] = {"prompt": prompt, "seed": whole(values["seed"], "seed")}
        for name in ("size", "steps", "count", "candidates"):
            if name in values:
                params[name] = whole(values[name], name)
        for name in ("seconds", "guidance", "temperature"):
            if name in values:
                params[name] = number(values[name], name)
        if not 1 <= params.get("count", 1) <= 4:
            raise InputError("how many: 1 to 4")
        if values.get("first_frame"):
            with open(values["first_frame"], "rb") as file:
                asset = take_in(self.house.media, file.read(), owner=owner, name="first-frame", purpose=SHOWN)
            params["first_frame"] = asset.id
        return params

    def _cell(self, asset: Asset) -> str:
        links = [look.download(asset, {"svg": "SVG", "image": "PNG", "video": "MP4"}[self.kind])]
        if self.kind == "svg":
            links.append(look.download(asset, "PNG", "?png=512"))
        if self.kind != "video":
            links.append(look.button("ask", "Ask about it", asset.id))
        seed = f'<span class="soft">seed {asset.made_by.get("seed")}</span>' if asset.made_by else ""
        return f'{look.frame(look.media(asset))}<div class="under">{_seen(asset)}{seed}{"".join(links)}</div>'


def _seen(asset: Asset) -> str:
    """How a picture was redrawn, what the eyes saw in it, and how like it the drawing is."""
    settings = (asset.made_by or {}).get("settings")
    if not isinstance(settings, dict) or "likeness" not in settings:
        return ""
    return f'<span class="soft">{escape(redrawn_as(settings))}</span>'


def _grid(cells: list[str]) -> str:
    if len(cells) < 2:
        return "".join(cells)
    return f'<div class="grid two">{"".join(f"<div>{cell}</div>" for cell in cells)}</div>'


def _busy() -> tuple[Any, Any]:
    return gr.Button(interactive=False), gr.Button(visible=True)


def _idle() -> tuple[Any, Any]:
    return gr.Button(interactive=True), gr.Button(visible=False)


def asked(event: gr.EventData) -> str:
    """The id of the asset that a click wants to talk about, or nothing."""
    act, name = what(event)
    return name if act == "ask" else ""
