"""What every route needs: the house and who asks, event streams that can be resumed, files safe to give out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import FileResponse, StreamingResponse

from dsv4._parts import part
from dsv4.errors import InputError

from ..house import House
from ..jobs import Event, Job
from ..media import Asset
from .errors import ApiError, from_input


def house_of(request: Request) -> House:
    """The house that this server stands on."""
    return request.app.state.house


def user_of(request: Request) -> str:
    """Who asks, as the guard found out."""
    return request.scope["user"]


def submit(request: Request, kind: str, params: Mapping[str, Any]) -> Job:
    """Queue a job for who asks; raises ApiError."""
    house = house_of(request)
    if not house.open:
        raise ApiError(503, "the studio is shutting down", code="shutting_down")
    try:
        return house.submit(
            kind, params, owner=user_of(request), lane=request.scope["lane"], source=request.scope.get("source", "api")
        )
    except ValueError as error:
        raise from_input(error) from error


def own_job(request: Request, name: str, *kinds: str) -> Job:
    """A job of who asks, of one of these kinds; raises ApiError 404."""
    try:
        job = house_of(request).jobs.get(name, user_of(request))
    except InputError as error:
        raise ApiError(404, str(error), code="not_found") from error
    if kinds and job.kind not in kinds:
        raise ApiError(404, f"there is no such {kinds[0]} '{name[:80]}'", code="not_found")
    return job


def own_asset(request: Request, name: str) -> Asset:
    """A file of who asks; raises ApiError 404."""
    try:
        return house_of(request).media.get(name, user_of(request))
    except InputError as error:
        raise ApiError(404, str(error), code="not_found") from error


def check_model(request: Request, name: str | None) -> str:
    """The name of the model that is meant; raises ApiError 404 with those that are here when it is none of them."""
    try:
        choice = house_of(request).shelf.find(name)
    except InputError as error:
        raise ApiError(404, str(error), code="model_not_found", param="model") from error
    return house_of(request).keeper.name if choice is None else choice.name


def model_of(request: Request, job: Job) -> str:
    """The name of the model that a job is for."""
    return job.params.get("model") or house_of(request).keeper.name


def last_seen(request: Request, job: Job) -> int:
    """The number of the last event that the client has, from `Last-Event-ID: JOB:NUMBER` or `?after=NUMBER`."""
    told = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
    name, _, number = told.rpartition(":")
    if not number.isdecimal() or len(number) > 9 or name not in ("", job.id):
        raise ApiError(400, "Last-Event-ID must be one that this stream gave", param="Last-Event-ID")
    return int(number)


def stream(events: AsyncIterator[str]) -> StreamingResponse:
    """Server-sent events that no proxy holds back."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def sse(data: Mapping[str, Any] | str, *, name: str = "", event: str = "") -> str:
    """One event: its id, its name, its JSON."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"id: {name}\n" if name else "") + (f"event: {event}\n" if event else "") + f"data: {text}\n\n"


def event_name(job: Job, event: Event) -> str:
    """The id of an event within a stream."""
    return f"{job.id}:{event.seq}"


def give(asset: Asset, suffix: str = "") -> FileResponse:
    """A file as an attachment: shown by `<img>` and `<video>`, never run as a page."""
    name = asset.name if not suffix else asset.name.rsplit(".", 1)[0] + suffix
    shown = name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_").replace("?", "_")
    headers = {
        "content-disposition": f"attachment; filename=\"{shown}\"; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": "sandbox",
        "cache-control": "private, max-age=3600",
    }
    return FileResponse(asset.path, media_type=asset.type, headers=headers)


def svg_as_png(asset: Asset, size: int) -> bytes:
    """A drawing as PNG, rendered in a child process of its own."""
    import io

    from PIL import Image

    picture_HW3 = part("generation.svg").rasterise(asset.path.read_text(encoding="utf-8"), size)
    content = io.BytesIO()
    Image.fromarray(picture_HW3).save(content, "PNG")
    return content.getvalue()
