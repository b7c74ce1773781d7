"""What is here and how it does: models, health, readiness, metrics, and every job with its events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

import dsv4
from dsv4.errors import InputError

from ..jobs import Job
from .errors import ApiError
from .kit import event_name, house_of, last_seen, own_job, sse, stream, user_of

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """Whether the server is up."""
    return JSONResponse({"status": "ok", "version": dsv4.__version__})


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Whether the model is loaded: 200, or 503 with how far it is."""
    keeper = house_of(request).keeper
    ready = keeper.state == "ready" and house_of(request).open
    headers = {} if ready else {"retry-after": "2"}
    meters = {"meters": keeper.meters} if keeper.meters else {}
    return JSONResponse(
        {"status": keeper.state, "model": keeper.name, **meters}, status_code=200 if ready else 503, headers=headers
    )


@router.get("/v1/models")
async def models(request: Request) -> JSONResponse:
    """The models that answer here; the first is meant where none is named."""
    names = house_of(request).shelf.names
    return JSONResponse({"object": "list", "data": [_model(request, name) for name in names]})


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> JSONResponse:
    """One model."""
    if name not in house_of(request).shelf.names:
        here = ", ".join(house_of(request).shelf.names)
        raise ApiError(404, f"there is no model '{name[:80]}'; here is {here}", code="model_not_found")
    return JSONResponse(_model(request, name))


@router.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    """Counters for Prometheus."""
    house = house_of(request)
    lines = ["# HELP dsv4_jobs Jobs that are remembered, by kind and state.", "# TYPE dsv4_jobs gauge"]
    for row in house.store.rows(
        "SELECT kind, state, count(*) AS number, sum(seconds) AS seconds FROM job GROUP BY 1, 2"
    ):
        lines.append(f'dsv4_jobs{{kind="{row["kind"]}",state="{row["state"]}"}} {row["number"]}')
        if row["state"] == "done":
            lines.append(f'dsv4_job_seconds_sum{{kind="{row["kind"]}"}} {row["seconds"]:.3f}')
    (media,) = house.store.rows("SELECT count(*) AS number, coalesce(sum(bytes), 0) AS bytes FROM media")
    lines += [f"dsv4_media_files {media['number']}", f"dsv4_media_bytes {media['bytes']}"]
    for part, meter in house.keeper.meters.items():
        home = f'{{home="{meter["home"]}"}}' if "home" in meter else ""
        lines += [f"dsv4_{part}_{key}{home} {value:.6g}" for key, value in meter.items() if key != "home"]
    lines += [
        f"dsv4_model_ready {int(house.keeper.state == 'ready')}",
        f"dsv4_up_seconds {time.time() - house.started:.0f}",
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


@router.get("/v1/jobs")
async def jobs(request: Request, active: bool = False, limit: int = 50) -> JSONResponse:
    """The jobs of who asks, newest first, with their places in the queue."""
    if not 1 <= limit <= 500:
        raise ApiError(400, "limit is 1 to 500", param="limit")
    found = house_of(request).jobs.list(user_of(request), active=active, limit=limit)
    return JSONResponse({"object": "list", "data": [described(request, job) for job in found]})


@router.get("/v1/jobs/{name}")
async def job(request: Request, name: str) -> JSONResponse:
    """How a job stands."""
    return JSONResponse(described(request, own_job(request, name)))


@router.post("/v1/jobs/{name}/cancel")
async def cancel(request: Request, name: str) -> JSONResponse:
    """Stop a job: at once while it waits, within a step while it runs; one that is over stays as it is."""
    own_job(request, name)
    try:
        return JSONResponse(described(request, house_of(request).cancel(name, user_of(request))))
    except InputError as error:
        raise ApiError(404, str(error), code="not_found") from error


@router.get("/v1/jobs/{name}/events")
async def events(request: Request, name: str) -> Response:
    """Everything that happens to a job, as server-sent events, from the beginning or after `Last-Event-ID`."""
    found = own_job(request, name)
    after = last_seen(request, found)

    async def told() -> AsyncIterator[str]:
        async for event in house_of(request).follow(found.id, found.owner, after):
            yield sse(event.data, name=event_name(found, event), event=event.kind)

    return stream(told())


@router.get("/v1/jobs/{name}/preview/{file}")
async def preview(request: Request, name: str, file: str) -> Response:
    """What a job looked like at a step, as its `preview` event names it."""
    found = own_job(request, name)
    path: Path = house_of(request).previews / file
    if path.name != file or not file.startswith(f"{found.id}.") or not path.is_file():
        raise ApiError(404, "there is no such preview", code="not_found")
    kind = "image/svg+xml" if path.suffix == ".svg" else "image/png"
    headers = {"content-security-policy": "sandbox", "cache-control": "private, max-age=3600"}
    return FileResponse(path, media_type=kind, headers=headers)


def described(request: Request, job: Job) -> dict[str, Any]:
    """A job for programs."""
    house = house_of(request)
    left = house.jobs.seconds_left(job) if not job.over else 0
    return {
        "id": job.id, "object": "job", "kind": job.kind, "status": job.state, "prompt": job.params["prompt"],
        "step": job.step, "total": job.total, "created_at": int(job.created), "seconds": round(job.seconds, 3),
        "queue_place": house.jobs.place(job), "seconds_left": None if left is None else round(left, 1),
        "error": job.error or None, "files": job.result.get("files", []),
    }  # fmt: skip


def _model(request: Request, name: str) -> dict[str, Any]:
    house = house_of(request)
    told = {"id": name, "object": "model", "created": int(house.started), "owned_by": "dsv4-studio"}
    choice = house.shelf.find(name)
    if choice is None:
        return {**told, "fingerprint": house.keeper.facts.get("fingerprint"), "state": house.keeper.state}
    facts = house.keeper.others.get(name)
    kinds = {"kinds": list(choice.kinds)} if choice.kinds else {}
    state = "ready" if facts else "loads when first asked"
    return {**told, "fingerprint": facts["fingerprint"] if facts else None, "state": state, **kinds}
