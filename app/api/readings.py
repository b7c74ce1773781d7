"""`/v1/readings`: a document into markdown, page by page with boxes, where the loaded model has learnt to read.

Source: ours; no public interface has it. Fields are named as in `Studio.read`, files are given as in chat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ..intake import Unreadable, take_in
from ..jobs import ENDED, Job
from ..readings import DEFAULTS
from .body import Fields, read_json
from .chat import read_source
from .errors import ApiError, from_input, from_job
from .kit import check_model, event_name, house_of, last_seen, own_asset, own_job, sse, stream, submit, user_of

router = APIRouter(tags=["readings"])
KINDS: dict[str, type] = {"mode": str, "task": str, "find": str, "pages": list, "max_tokens": int}
EXAMPLE = {"file": {"file_id": "file_..."}, "task": "markdown", "mode": "gundam", "pages": [1, 2]}


@router.post("/v1/readings", openapi_extra={"example": EXAMPLE})
async def create(request: Request) -> Response:
    """Read `file` (a data: address or `{"file_id"}`); `task`, `find`, `mode`, `pages` and `stream` are followed."""
    fields = await read_json(request)
    model = check_model(request, fields.take("model", str, None))
    shown = await _file(request, fields)
    params = {name: fields.take(name, kind, DEFAULTS[name]) for name, kind in KINDS.items()}
    streamed, warnings = fields.take("stream", bool, False), fields.warnings()
    job = submit(request, "read", {**params, "shown": [shown], "model": model})
    if streamed:
        return stream(_events(request, job, 0))
    house = house_of(request)
    done = await house.over(job.id, job.owner)
    if done.state != "done":
        raise from_job(done)
    return JSONResponse({**_described(done), **({"warnings": warnings} if warnings else {})})


@router.get("/v1/readings/{name}")
async def again(request: Request, name: str) -> Response:
    """A reading as it stands; with `Last-Event-ID` or `?after=` the rest of its stream."""
    job = own_job(request, name, "read")
    if "last-event-id" in request.headers or "after" in request.query_params:
        return stream(_events(request, job, last_seen(request, job)))
    return JSONResponse(_described(job))


async def _file(request: Request, fields: Fields) -> str:
    given = fields.take("file", (str, dict))
    if isinstance(given, dict):
        return own_asset(request, str(given.get("file_id"))).id
    content = await read_source(request, given)
    try:
        return take_in(house_of(request).media, content, owner=user_of(request), name="file", purpose="request").id
    except Unreadable as error:
        raise from_input(error, status=422) from error
    except ValueError as error:
        raise ApiError(413, str(error), code="too_large", param="file") from error


def _described(job: Job) -> dict[str, Any]:
    told = {"id": job.id, "object": "reading", "created": int(job.created), "status": job.state}
    found = {name: job.result.get(name, []) for name in ("pages", "warnings", "files")}
    usage = job.result.get("usage") or {}
    return {**told, "text": job.result.get("text", ""), **found, "usage": usage, "error": job.error or None}


async def _events(request: Request, job: Job, after: int) -> AsyncIterator[str]:
    """`reading.text` for every piece, then `reading.completed` with pages and boxes, or an error."""
    house = house_of(request)
    async for event in house.follow(job.id, job.owner, after):
        name = event_name(job, event)
        if event.kind == "text":
            kind = "reading.text"
            yield sse({"type": kind, "delta": event.data["delta"]}, name=name, event=kind)
        if event.kind in ENDED:
            now = house.jobs.get(job.id)
            if now.state != "done":
                yield sse(from_job(now).body(), name=name, event="error")
            else:
                kind = "reading.completed"
                yield sse({"type": kind, **_described(now)}, name=name, event=kind)
