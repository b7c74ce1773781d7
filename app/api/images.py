"""`/v1/images/generations`: pictures as PNG or WebP, drawings as SVG, and what they look like on the way.

Source: the public images interface as its Python client 3.57 speaks it, with `output_format: svg`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dsv4._parts import part
from dsv4.limits import IMAGES_AT_ONCE, SIDES, TRACING

from ..jobs import ENDED, Job
from .body import read_json
from .chat import shown_file
from .errors import ApiError, from_job
from .kit import check_model, event_name, house_of, sse, stream, submit

router = APIRouter(tags=["images"])
FORMATS = ("png", "webp", "svg")
NUMBERS = {
    "seed": "seed", "steps": "steps", "num_inference_steps": "steps",
    "guidance": "guidance", "guidance_scale": "guidance",
}  # fmt: skip
SVG_NUMBERS = {"seed": "seed", "temperature": "temperature", "max_tokens": "max_tokens"}
DEFAULT_SIZE = 128
EXAMPLE = {"model": "nano", "prompt": "a red heart", "size": "128x128", "output_format": "svg", "n": 1}


@router.post("/v1/images/generations", openapi_extra={"example": EXAMPLE})
async def create(request: Request) -> Response:
    """Paint `n` pictures, or draw with `output_format: svg`; with `stream` and `partial_images` the steps are shown.

    A drawing can be made after a picture: `image` is a data: address or {file_id}, and `prompt` may then be left out;
    `trace` is auto, never or always. What `/v1/files/{id}` says of it (`made_by`) tells whether it was traced, what was
    seen and how like it is.
    """
    fields = await read_json(request)
    model = check_model(request, fields.take("model", str, None))
    form = fields.choice("output_format", FORMATS, "png")
    redrawn = fields.take("image", (str, dict), None) if form == "svg" else None
    prompt = fields.take("prompt", str, *([] if redrawn is None else [""]))
    count = fields.whole("n", 1, IMAGES_AT_ONCE, 1)
    row, asked = preset_of(request, model), fields.take("size", str, "auto")
    size = square(asked, SIDES, DEFAULT_SIZE) if row is None else asked
    streamed, partial = fields.take("stream", bool, False), fields.whole("partial_images", 0, 3, 0)
    as_url = fields.choice("response_format", ("b64_json", "url"), "b64_json") == "url"
    if streamed and count > 1:
        raise ApiError(400, "a stream shows one picture; set n to 1", param="n")
    fields.refuse("image", "pictures are made from words here; with output_format svg a picture is redrawn")
    params = {"prompt": prompt, **fields.settings(SVG_NUMBERS if form == "svg" else NUMBERS)}
    if form != "svg":
        params |= {"suffix": f".{form}", **({"size": size} if row is None else sides(asked))}
    if redrawn is not None:
        params["trace"] = fields.choice("trace", TRACING, "auto")
        params["picture"] = await shown_file(request, redrawn, "image", "picture")
    params["model"] = model
    params |= {name: fields.take(name, bool, True) for name in ("provenance", "correct")}
    warnings = fields.warnings()
    seed = params.get("seed", 0)
    kind = "svg" if form == "svg" else "image"
    jobs = [submit(request, kind, {**params, "seed": seed + place}) for place in range(count)] if _whole(seed) else []
    jobs = jobs or [submit(request, kind, params)]
    if streamed:
        return stream(_events(request, jobs[0], partial, form, size))
    house = house_of(request)
    jobs = [await house.over(job.id, job.owner) for job in jobs]
    if failed := next((job for job in jobs if job.state != "done"), None):
        raise from_job(failed)
    warnings += dict.fromkeys(note for job in jobs for note in job.result.get("warnings", ()))
    answer = {
        "created": int(jobs[0].created),
        "data": [_item(request, job, as_url) for job in jobs],
        "output_format": form,
        "usage": _usage(jobs),
        **({} if form == "svg" else {"size": _told(size)}),
        **({"warnings": warnings} if warnings else {}),
    }
    return JSONResponse(answer)


def preset_of(request: Request, model: str) -> Any:
    """The row of the preset that a model is, or None for one of ours."""
    choice = house_of(request).shelf.find(model)
    return part("generation.presets").preset(model) if choice is not None and choice.preset else None


def sides(size: str) -> dict[str, int]:
    """Width and height of a size such as 1024x768, nothing for auto; raises ApiError."""
    if size == "auto":
        return {}
    width, cross, height = size.lower().partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal() or max(len(width), len(height)) > 9:
        raise ApiError(400, "size must be WIDTHxHEIGHT in pixels, or auto", param="size")
    return {"width": int(width), "height": int(height)}


def _told(size: int | str) -> str:
    return size if isinstance(size, str) else f"{size}x{size}"


def square(size: str, sides: Sequence[int], default: int) -> int:
    """The side of a size such as 128x128; raises ApiError that names the nearest one that is made."""
    if size == "auto":
        return default
    width, cross, height = size.lower().partition("x")
    few = ", ".join(f"{side}x{side}" for side in sides)
    allowed = few if len(sides) < 5 else f"{sides[0]}x{sides[0]} to {sides[-1]}x{sides[-1]} in steps of 8"
    if not cross or not width.isdecimal() or not height.isdecimal() or max(len(width), len(height)) > 9:
        raise ApiError(400, f"size must be {allowed}, or auto", param="size")
    if width != height or int(width) not in sides:
        near = min(sides, key=lambda side: abs(side - (int(width) + int(height)) / 2))
        raise ApiError(400, f"size must be {allowed}; the nearest to {size[:20]} is {near}x{near}", param="size")
    return int(width)


def _whole(seed: Any) -> bool:
    return isinstance(seed, int)


def _item(request: Request, job: Job, as_url: bool) -> dict[str, Any]:
    made = house_of(request).made(job)
    if not made:
        raise ApiError(410, "the result was deleted", code="gone")
    if as_url:
        return {"url": f"{str(request.base_url).rstrip('/')}/v1/files/{made[0].id}/content", "file_id": made[0].id}
    return {"b64_json": base64.b64encode(made[0].path.read_bytes()).decode(), "file_id": made[0].id}


def _usage(jobs: list[Job]) -> dict[str, Any]:
    read = sum((job.result.get("usage") or {}).get("read", 0) for job in jobs)
    written = sum((job.result.get("usage") or {}).get("written", 0) for job in jobs)
    details = {"input_tokens_details": {"text_tokens": read, "image_tokens": 0}}
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written, **details}


async def _events(request: Request, job: Job, partial: int, form: str, size: int | str) -> AsyncIterator[str]:
    house = house_of(request)
    about = {"output_format": form, "background": "opaque", "quality": "auto", "size": _told(size)}
    about["created_at"] = int(job.created)
    shown = 0
    async for event in house.follow(job.id, job.owner):
        name = event_name(job, event)
        if event.kind == "preview" and event.data["step"] * (partial + 1) >= (shown + 1) * event.data["total"]:
            path = house.previews / event.data["file"]
            if shown < partial and event.data["step"] < event.data["total"] and path.is_file():
                data = {"b64_json": base64.b64encode(path.read_bytes()).decode(), "partial_image_index": shown}
                kind = "image_generation.partial_image"
                yield sse({"type": kind, **data, **about}, name=name, event=kind)
                shown += 1
        if event.kind in ENDED:
            now = house.jobs.get(job.id)
            if now.state != "done":
                yield sse(from_job(now).body(), name=name, event="error")
                return
            kind = "image_generation.completed"
            yield sse(
                {"type": kind, **_item(request, now, False), "usage": _usage([now]), **about}, name=name, event=kind
            )
