"""`/v1/videos`: a clip is asked for, watched, fetched and deleted; it goes on when nobody watches.

Source: the public videos interface as its Python client 3.57 speaks it.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from dsv4.limits import CLIP_FPS, CLIP_SIZE

from ..jobs import Job
from .body import Fields, read_json
from .chat import shown_file
from .errors import ApiError, from_job
from .images import preset_of, sides, square
from .kit import check_model, give, house_of, model_of, own_job, submit, user_of

router = APIRouter(tags=["videos"])
STATES = {"queued": "queued", "running": "in_progress", "done": "completed", "failed": "failed", "cancelled": "failed"}
NUMBERS = {
    "seed": "seed", "steps": "steps", "num_inference_steps": "steps",
    "guidance": "guidance", "guidance_scale": "guidance",
}  # fmt: skip
LONGEST = 60  # seconds of a clip by real weights, whose own limit is in frames
EXAMPLE = {"model": "nano", "prompt": "a soccer ball bouncing", "seconds": "2", "size": f"{CLIP_SIZE}x{CLIP_SIZE}"}


@router.post("/v1/videos", openapi_extra={"example": EXAMPLE})
async def create(request: Request) -> Response:
    """Ask for a clip, as JSON or as a form with `input_reference`, a picture that it begins with.

    `after` is the id of an earlier clip that is gone on with from its last frame.
    """
    fields = await _read(request)
    model = check_model(request, fields.take("model", str, None))
    row = preset_of(request, model)
    prompt = fields.take("prompt", str)
    size, made_fps = fields.take("size", str, "auto"), CLIP_FPS if row is None else row.fps
    params = {"prompt": prompt, "model": model, "correct": fields.take("correct", bool, True)}
    params |= fields.settings(NUMBERS)
    if row is None:
        square(size, (CLIP_SIZE,), CLIP_SIZE)
    else:
        params |= sides(size)
    fps = fields.take("fps", (int, float), made_fps)
    if fps != made_fps:
        raise ApiError(400, f"fps must be {made_fps}", param="fps")
    seconds = fields.take("seconds", (str, int, float), None)
    frames = fields.take("num_frames", int, None)
    if seconds is not None:
        params["seconds"] = _number(seconds, "seconds")
        if row is not None:
            if not 0 < params["seconds"] <= LONGEST:
                raise ApiError(400, f"seconds must be above 0 and at most {LONGEST}", param="seconds")
            params["frames"] = max(1, round(params["seconds"] * made_fps))
    elif frames is not None:
        params |= {"seconds": frames / CLIP_FPS, **({} if row is None else {"frames": frames})}
    reference = fields.take("input_reference", (str, dict), None)
    if reference is not None:
        params["first_frame"] = await shown_file(request, reference, "input_reference", "first-frame")
    before = fields.take("after", str, None)
    if before is not None:
        params["after"] = _clip_of(request, before)
    warnings = fields.warnings()
    job = submit(request, "video", params)
    return JSONResponse({**_video(request, job), **({"warnings": warnings} if warnings else {})})


@router.get("/v1/videos")
async def index(request: Request, limit: int = 20, order: str = "desc", after: str = "") -> JSONResponse:
    """The clips that were asked for, newest first."""
    if not 1 <= limit <= 100 or order not in ("asc", "desc"):
        raise ApiError(400, "limit is 1 to 100, order is asc or desc", param="limit")
    jobs = house_of(request).jobs.list(user_of(request), kind="video", limit=1000)
    jobs = jobs if order == "desc" else jobs[::-1]
    names = [job.id for job in jobs]
    start = names.index(after) + 1 if after in names else 0
    data = [_video(request, job) for job in jobs[start : start + limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return JSONResponse({"object": "list", "data": data, "has_more": len(jobs) > start + limit, **ends})


@router.get("/v1/videos/{name}")
async def status(request: Request, name: str) -> JSONResponse:
    """How far a clip is."""
    return JSONResponse(_video(request, own_job(request, name, "video")))


@router.get("/v1/videos/{name}/content")
async def content(request: Request, name: str) -> Response:
    """The MP4 of a finished clip."""
    job = own_job(request, name, "video")
    if not job.over:
        raise ApiError(409, f"the clip is not finished: {job.state}", code="not_ready")
    if job.state != "done":
        raise from_job(job)
    made = house_of(request).made(job)
    if not made:
        raise ApiError(404, "the clip was deleted", code="not_found")
    return give(made[0])


@router.delete("/v1/videos/{name}")
async def delete(request: Request, name: str) -> JSONResponse:
    """Stop a clip that is not finished, and delete one that is."""
    job, house = own_job(request, name, "video"), house_of(request)
    if not job.over:
        house.cancel(job.id, job.owner)
    for asset in house.made(job):
        house.media.drop(asset.id, job.owner)
    return JSONResponse({"id": job.id, "object": "video.deleted", "deleted": True})


async def _read(request: Request) -> Fields:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await read_json(request)
    found: dict[str, Any] = {}
    async with request.form(max_files=1, max_fields=40) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                found[name] = {"bytes": await value.read(), "filename": value.filename or name}
            elif name in (*NUMBERS, "num_frames", "fps"):
                found[name] = _number(value, name)
            else:
                found[name] = value
    return Fields(found)


def _clip_of(request: Request, name: str) -> str:
    """The asset id of a finished clip of this person."""
    job = own_job(request, name, "video")
    made = house_of(request).made(job)
    if not made:
        raise ApiError(400, f"the clip '{name}' is not there: {job.state}", param="after")
    return made[0].id


def _number(value: Any, name: str) -> int | float:
    try:
        number = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise ApiError(400, f"{name} must be a number", param=name)
    return number


def _size(job: Job) -> str:
    own = job.params.get("preset")
    return f"{own['width']}x{own['height']}" if own else f"{CLIP_SIZE}x{CLIP_SIZE}"


def _video(request: Request, job: Job) -> dict[str, Any]:
    progress = 100 if job.state == "done" else int(100 * job.step / job.total) if job.total else 0
    error = None
    if job.state in ("failed", "cancelled"):
        error = {"code": job.state, "message": job.error or "it was cancelled"}
    return {
        "id": job.id, "object": "video", "model": model_of(request, job), "status": STATES[job.state],
        "progress": progress, "created_at": int(job.created), "completed_at": int(job.ended) if job.ended else None,
        "expires_at": None, "error": error, "prompt": job.params["prompt"], "seconds": f"{job.params['seconds']:g}",
        "size": _size(job), "remixed_from_video_id": None,
        "queue_place": house_of(request).jobs.place(job),
        **({"warnings": job.result["warnings"]} if job.result.get("warnings") else {}),
    }  # fmt: skip
