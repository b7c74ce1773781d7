"""A conversation as HTML: bubbles, what was shown and made, and the buttons below; every word is escaped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from html import escape

from dsv4.errors import InputError

from ..house import House
from ..jobs import SPOKEN, Job
from ..media import Asset
from ..talks import Said, Talk
from . import look

WELCOME = (
    '<div class="welcome"><h2>Ask what a word means, or show a picture</h2>'
    "<p>Drop, paste or pick a picture, a PDF, a short clip or a ZIP of a repository and ask about it. "
    "<code>/svg</code>, <code>/image</code> and <code>/video</code> make something right here.</p></div>"
)
STATES = {"cancelled": "Stopped.", "failed": ""}


def talk_list(talks: Sequence[Talk], chosen: str) -> str:
    """The list of conversations, each with a button that deletes it."""
    if not talks:
        return '<p class="soft">No conversations yet.</p>'
    rows = []
    for talk in talks:
        here = ' aria-current="true"' if talk.id == chosen else ""
        title = escape(talk.title or "New chat")
        rows.append(
            f'<li{here}><button type="button" data-act="open" data-id="{talk.id}">{title}</button>'
            f'<button type="button" class="drop" data-act="drop" data-id="{talk.id}" aria-label="Delete {title}" '
            'title="Delete">×</button></li>'
        )
    return f'<ul class="talks">{"".join(rows)}</ul>'


def conversation(house: House, owner: str, page: Sequence[Said]) -> str:
    """All messages but an answer that is still being written."""
    shown = [_message(house, owner, said) for said in page if said.state != "running"]
    return f'<div class="talk" role="log" aria-label="Conversation">{"".join(shown)}</div>'


def growing(text: str, preview: str, line: str) -> str:
    """An answer that is being written."""
    seen = f'<img src="{escape(preview, quote=True)}" alt="how it looks so far" class="made">' if preview else ""
    words = f'<div class="text">{escape(text)}</div>' if text else ""
    dots = "" if text or preview else '<div class="dots" aria-label="waiting"><i></i><i></i><i></i></div>'
    return f'<div class="talk"><article class="msg assistant" aria-live="polite">{seen}{words}{dots}</article></div>'


def attached(assets: Sequence[Asset]) -> str:
    """What goes with the next message."""
    if not assets:
        return ""
    thumbs = "".join(look.media(asset) for asset in assets)
    return f'<div class="attached">{thumbs}{look.button("clear", "Remove", title="Remove what is attached")}</div>'


def summary(job: Job) -> str:
    """One line about a finished answer: what was read and written, and how fast."""
    if job.state == "failed":
        return look.status(job.error, bad=True)
    if job.state == "cancelled":
        return look.status("Stopped.")
    usage = job.result.get("usage")
    if not usage or job.kind not in SPOKEN:
        return look.status(f"Done in {job.seconds:.1f} seconds.")
    seen = f", {usage['pictures']} of them for pictures" if usage["pictures"] else ""
    rate = f", {usage['written'] / job.seconds:.0f} a second" if job.seconds > 0.05 else ""
    return look.status(
        f"Read {usage['read']} tokens{seen}; wrote {usage['written']} in {job.seconds:.1f} seconds{rate}."
    )


def _message(house: House, owner: str, said: Said) -> str:
    assets = []
    for name in said.shown:
        with contextlib.suppress(InputError):
            assets.append(house.media.get(name, owner))
    files = "".join(look.media(asset) for asset in assets)
    text = f'<div class="text">{escape(said.text)}</div>' if said.text else ""
    note = said.meta.get("error") or STATES.get(said.state, "")
    bad = f'<p class="note">{escape(note)}</p>' if note else ""
    bad += "".join(f'<p class="told">{escape(words)}</p>' for words in said.meta.get("warnings", ()))
    buttons = [_branches(said)]
    if said.text:
        buttons.append(look.button("copy", "Copy"))
    if said.role == "user":
        buttons.append(look.button("edit", "Edit", said.id))
    else:
        buttons.append(look.button("retry", "Again", said.id, title="Another answer; this one stays"))
        buttons += [look.download(asset, "Download") for asset in assets if asset.kind != "file"]
    who = "You" if said.role == "user" else "Studio"
    return (
        f'<article class="msg {said.role}" data-copy aria-label="{who}">{files}{text}{bad}'
        f"<footer>{''.join(buttons)}</footer></article>"
    )


def _branches(said: Said) -> str:
    if said.branches < 2:
        return ""
    before = look.button("previous", "‹", said.id, title="Earlier branch")
    after = look.button("next", "›", said.id, title="Later branch")
    return f'{before}<span class="soft">{said.branch} / {said.branches}</span>{after}'
