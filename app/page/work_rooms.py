"""The Queue and Batch rooms: what waits and runs, and files of many requests that go on when nobody looks."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dsv4.errors import InputError
from dsv4.limits import BATCH_BYTES

from ..batches import ACTIVE, URLS
from ..house import House
from ..jobs import Job
from . import look
from .kit import DOING, QUIET, acts, complain, owner_of, what

EXAMPLE = (
    '{"custom_id": "a1", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "a tiger", "seed": 1}}\n'
    '{"custom_id": "a2", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "a red heart"}}'
)
FINISHED = 20  # jobs that are over and still listed


def queue_room(house: House) -> tuple[gr.HTML, Any]:
    """Lay out the queue; returns its list and the function that fills it."""
    listed = acts("", elem_id="queue")

    def show(request: gr.Request) -> str:
        return queue_html(house, owner_of(request))

    def stop(request: gr.Request, event: gr.EventData) -> str:
        act, name = what(event)
        if act == "cancel":
            house.cancel(name, owner_of(request))
        return show(request)

    listed.click(stop, None, listed, **QUIET)
    return listed, show


def queue_html(house: House, owner: str) -> str:
    """All jobs that wait or run, with place and time, then the last that are over."""
    jobs = house.jobs.list(owner, limit=400)
    waiting = sorted(
        (job for job in jobs if not job.over), key=lambda job: (job.state == "queued", house.jobs.place(job))
    )
    over = [job for job in jobs if job.over][:FINISHED]
    others = house.store.rows("SELECT 1 FROM job WHERE owner <> ? AND state IN ('queued', 'running')", (owner,))
    note = f'<p class="soft">{len(others)} more jobs of other people.</p>' if others else ""
    if not waiting and not over:
        return note or '<p class="soft welcome">Nothing waits.</p>'
    head = f'<ul class="rows">{"".join(_waiting(house, job) for job in waiting)}</ul>'
    head = head if waiting else '<p class="soft">Nothing waits.</p>'
    tail = f'<h2>Lately</h2><ul class="rows">{"".join(_over(house, job) for job in over)}</ul>' if over else ""
    return f"{head}{note}{tail}"


def _waiting(house: House, job: Job) -> str:
    left = house.jobs.seconds_left(job)
    about = f", about {left:.0f} s left" if left is not None and left >= 1 else ""
    if job.state == "queued":
        place = house.jobs.place(job)
        state, bar = f"{'next' if not place else f'{place} before it'}{about}", ""
    else:
        step = f": step {job.step} of {job.total}" if job.total else " …"
        share = 100 * job.step / job.total if job.total else 5
        state, bar = f"{DOING[job.kind]}{step}{about}", f'<div class="bar"><b style="width:{share:.0f}%"></b></div>'
    cancel = look.button("cancel", "Cancel", job.id, title=f"Cancel {job.params['prompt'][:40]}")
    return f'<li><div><b>{_name(job)}</b><span class="soft">{escape(state)}</span>{bar}</div>{cancel}</li>'


def _over(house: House, job: Job) -> str:
    words = {"done": f"done in {job.seconds:.1f} s", "cancelled": "cancelled", "failed": job.error}[job.state]
    links = "".join(look.download(asset, "Download") for asset in house.made(job))
    bad = " bad" if job.state == "failed" else ""
    return f'<li><div><b>{_name(job)}</b><span class="soft{bad}">{escape(words)}</span></div>{links}</li>'


def _name(job: Job) -> str:
    prompt = " ".join(job.params["prompt"].split()) or "a picture, redrawn"
    return f'<i class="kind">{job.kind}</i>{escape(prompt[:80])}{"…" if len(prompt) > 80 else ""}'


def batch_room(house: House) -> tuple[gr.HTML, Any]:
    """Lay out the batches; returns their list and the function that fills it."""
    gr.Markdown(
        "One request a line, one answer a line. A batch goes on when you leave, and after the server was killed: every "
        "row ends in exactly one line.", elem_classes="lead",
    )  # fmt: skip
    upload = gr.UploadButton(
        "Upload a JSONL file …", file_types=[".jsonl", ".json", ".txt"], variant="primary", elem_id="batch-upload"
    )
    line = gr.HTML(look.status())
    listed = acts("", elem_id="batches")
    with gr.Accordion("What a line looks like", open=False):
        gr.Markdown(f"```json\n{EXAMPLE}\n```\nThe address is one of {', '.join(f'`{url}`' for url in URLS)}.")

    def show(request: gr.Request) -> str:
        return batches_html(house, owner_of(request))

    async def begin(path: str, request: gr.Request) -> tuple[str, str]:
        try:
            start_batch(house, path, owner_of(request))
        except ValueError as error:
            return complain(error), show(request)
        return look.status("It has begun."), show(request)

    def stop(request: gr.Request, event: gr.EventData) -> str:
        act, name = what(event)
        if act == "cancel":
            house.batches.cancel(name, owner_of(request))
        return show(request)

    upload.upload(begin, upload, [line, listed], **QUIET)
    listed.click(stop, None, listed, **QUIET)
    return listed, show


def start_batch(house: House, path: str, owner: str) -> None:
    """Begin a batch on a file; the first line says what for. Raises InputError when it says nothing of the kind."""
    file = Path(path)
    if file.stat().st_size > BATCH_BYTES:
        raise InputError(f"the file is longer than {BATCH_BYTES:,} bytes")
    with file.open("rb") as opened:
        first = next((line for line in opened if line.strip()), b"")
    try:
        url = json.loads(first.decode("utf-8-sig"))["url"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("the first line is not a request: see below what a line looks like") from error
    if url not in URLS:
        raise InputError(f"the first line asks {str(url)[:60]!r}; it must ask one of {', '.join(URLS)}")
    copy = house.media.work / f"in.{secrets.token_hex(8)}"
    shutil.copyfile(file, copy)
    asset = house.media.keep(copy, owner=owner, name=file.name, suffix=".jsonl", purpose="batch")
    house.batches.create(owner, asset, url, {})


def batches_html(house: House, owner: str) -> str:
    """This owner's batches, with what can be fetched of them."""
    rows = house.batches.list(owner, limit=40) if house.batches else []
    if not rows:
        return '<p class="soft welcome">No batches yet.</p>'
    return f'<ul class="rows">{"".join(_batch(row) for row in rows)}</ul>'


def _batch(row: dict[str, Any]) -> str:
    over = row["done"] + row["failed"]
    share = 100 * over / row["total"] if row["total"] else 0
    state = f"{row['state'].replace('_', ' ')}: {row['done']} done, {row['failed']} failed of {row['total']}"
    bar = f'<div class="bar"><b style="width:{share:.0f}%"></b></div>' if row["state"] in ACTIVE else ""
    places = [(f"line {one['line']}: " if one["line"] else "", one["message"]) for one in json.loads(row["faults"])[:5]]
    faults = "".join(f"<small>{where}{escape(message)}</small>" for where, message in places)
    links = [
        f'<a class="small" href="v1/files/{row[column]}/content" download>{words}</a>'
        for column, words in (("output", "Results"), ("errors", "Errors"))
        if row[column]
    ]
    if row["state"] in ACTIVE:
        links.append(look.button("cancel", "Cancel", row["id"]))
    when = time.strftime("%d %b %H:%M", time.localtime(row["created"]))
    name = f"<b>{when} · {escape(row['endpoint'])}</b>"
    return f'<li><div>{name}<span class="soft">{escape(state)}</span>{bar}{faults}</div>{"".join(links)}</li>'
