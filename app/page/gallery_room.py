"""The Gallery: everything that was made, to look at, star, delete, talk about, or make again with other settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dsv4._parts import part
from dsv4.errors import InputError

from ..house import House
from ..kinds import DEFAULTS
from ..media import Asset
from . import look
from .kit import QUIET, acts, complain, owner_of, what

KINDS = {"Everything": "", "SVG": "svg", "Image": "image", "Video": "video"}
SHOWN = 120
EMPTY = '<p class="soft welcome">What you make appears here.</p>'


@dataclass(frozen=True, kw_only=True)
class GalleryRoom:
    """What the layout connects to other rooms."""

    tab_shown: Any
    inputs: list[Any]
    grid: gr.HTML
    detail: gr.HTML
    drop: gr.UploadButton
    line: gr.HTML
    room: _Room


def gallery_room(house: House) -> GalleryRoom:
    """Lay out the room and connect what stays inside it."""
    room = _Room(house)
    with gr.Row(elem_classes="middle"):
        words = gr.Textbox(
            placeholder="Search prompts and names", show_label=False, container=False, scale=2, max_lines=1,
            min_width=180,
        )  # fmt: skip
        kind = gr.Radio(list(KINDS), value="Everything", show_label=False, container=False, scale=3, min_width=300)
        starred = gr.Checkbox(label="Starred", container=False, scale=0, min_width=110)
    line = gr.HTML(look.status(), elem_id="gallery-line")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=280):
            grid = acts(EMPTY, elem_id="gallery")
        with gr.Column(scale=2, min_width=280):
            detail = acts("", elem_id="detail")
            drop = gr.UploadButton(
                "Use the settings of a file …", file_types=[".png", ".webp", ".mp4", ".gif", ".svg"], size="sm",
                elem_id="settings-of",
            )  # fmt: skip
    inputs = [words, kind, starred]
    for event in (words.change, kind.input, starred.input):
        event(room.find, inputs, grid, trigger_mode="always_last", **QUIET)
    grid.click(room.open, None, detail, **QUIET)
    return GalleryRoom(tab_shown=room.find, inputs=inputs, grid=grid, detail=detail, drop=drop, line=line, room=room)


class _Room:
    def __init__(self, house: House) -> None:
        self.house = house

    def find(self, words: str, kind: str, starred: bool, request: gr.Request) -> str:
        """The tiles that fit."""
        found = self.house.media.find(
            owner_of(request), words=words, kind=KINDS.get(kind, ""), starred=bool(starred), limit=SHOWN
        )
        if not found:
            return EMPTY
        return f'<div class="grid">{"".join(_tile(asset) for asset in found)}</div>'

    def open(self, request: gr.Request, event: gr.EventData) -> str:
        """One of them, large, with how it was made."""
        return self._detail(what(event)[1], owner_of(request))

    def change(self, words: str, kind: str, starred: bool, request: gr.Request, event: gr.EventData) -> tuple[str, str]:
        """Star or delete what is shown large; returns the tiles and the detail."""
        act, name = what(event)
        owner = owner_of(request)
        if act == "star":
            self.house.media.star(name, owner, not self.house.media.get(name, owner).star)
        elif act == "delete":
            self.house.media.drop(name, owner)
        detail = "" if act == "delete" else self._detail(name, owner)
        return self.find(words, kind, starred, request), detail

    def settings_of(self, name: str, owner: str) -> tuple[str, dict[str, Any]]:
        """(kind, settings) of something that was made here."""
        return settings_from(self.house.media.get(name, owner).made_by)

    def _detail(self, name: str, owner: str) -> str:
        try:
            asset = self.house.media.get(name, owner)
        except InputError as error:
            return look.status(str(error), bad=True)
        made = asset.made_by
        settings = {"seed": made.get("seed"), **made.get("settings", {})}
        rows = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in settings.items())
        buttons = [
            look.button("again", "Use these settings", name, kind="first"),
            look.button("star", "★ Starred" if asset.star else "☆ Star", name),
            look.download(asset, "Download"),
            *([look.download(asset, "As PNG", "?png=512")] if asset.kind == "svg" else []),
            *([look.button("ask", "Ask about it", name)] if asset.kind != "video" else []),
            look.button("delete", "Delete", name, kind="danger"),
        ]
        words = f"<h2>{escape(str(made.get('prompt', asset.name)))}</h2>"
        model = f"<dt>model</dt><dd>{escape(str(made.get('model', '')))}</dd>"
        return (
            f'{look.frame(look.media(asset))}{words}<dl>{rows}{model}</dl><div class="under">{"".join(buttons)}</div>'
        )


def settings_from(made_by: Any) -> tuple[str, dict[str, Any]]:
    """(kind, settings) from a record of how something was made; raises InputError when it is not one of ours."""
    kind = made_by.get("task") if isinstance(made_by, dict) else None
    if kind not in ("svg", "image", "video"):
        raise InputError("this file does not say how it was made; only files of this studio do")
    told: dict[str, Any] = made_by["settings"] if isinstance(made_by.get("settings"), dict) else {}
    found = {name: told[name] for name in DEFAULTS[kind] if name in told and _plain(told[name])}
    seed = made_by.get("seed")
    return kind, {"prompt": str(made_by.get("prompt", "")), **found, "seed": seed if isinstance(seed, int) else 0}


def read_file(path: str | None) -> tuple[str, dict[str, Any]]:
    """(kind, settings) from a PNG, WebP, MP4, GIF or SVG that a studio wrote; raises InputError."""
    if not path:
        raise InputError("no file was given")
    try:
        found = part("generation.files").read_provenance(Path(path))
    except (ValueError, OSError) as error:
        raise InputError("this is not a picture, clip or drawing that can be read") from error
    return settings_from(json.loads(json.dumps(found or {})))


def told(error: ValueError) -> str:
    """A complaint in the line of the room."""
    return complain(error)


def _plain(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tile(asset: Asset) -> str:
    name = escape(str(asset.made_by.get("prompt") or asset.name), quote=True)
    if asset.kind == "video":
        inner = f'<video src="{look.address(asset)}#t=0.1" muted playsinline preload="metadata"></video><em>▶</em>'
    else:
        inner = f'<img src="{look.address(asset)}" alt="" loading="lazy">'
    star = "<b>★</b>" if asset.star else ""
    opening = f'<button type="button" class="tile" data-act="open" data-id="{asset.id}" aria-label="{name}">'
    return f"{opening}{inner}{star}</button>"
