"""`/v1/files`: what somebody gave to the studio, or had made by it; every file is given out as an attachment.

Source: the public files interface as its Python client 3.57 speaks it.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from dsv4.errors import InputError, unknown
from dsv4.limits import BATCH_BYTES, OPEN_UPLOADS

from ..intake import Unreadable, take_in
from ..media import MADE, SHOWN, Asset
from .errors import ApiError, from_input
from .kit import give, house_of, own_asset, svg_as_png, user_of

router = APIRouter(tags=["files"])
PURPOSES = ("batch", "vision", "user_data", "assistants")
OURS = {"batch": "batch", "vision": SHOWN, "user_data": SHOWN, "assistants": SHOWN}
THEIRS = {"batch": "batch", "batch_output": "batch_output", MADE: "generated"}
PNG_SIDES = (64, 2048)


@router.post("/v1/files")
async def create(request: Request) -> JSONResponse:
    """Give a file: a form with `file`, and `purpose` batch (JSONL) or vision (a picture, PDF or clip)."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(415, "send a form: multipart/form-data with file and purpose", code="unsupported_media_type")
    uploads = request.app.state.uploads
    user = user_of(request)
    if uploads.get(user, 0) >= OPEN_UPLOADS:
        raise ApiError(429, f"at most {OPEN_UPLOADS} uploads at once", code="too_many_uploads")
    uploads[user] = uploads.get(user, 0) + 1
    try:
        async with request.form(max_files=1, max_fields=10) as form:
            upload, purpose = form.get("file"), form.get("purpose", "user_data")
            if not isinstance(upload, UploadFile):
                raise ApiError(400, "the form has no file", code="missing_required_parameter", param="file")
            if purpose not in PURPOSES:
                raise ApiError(400, str(unknown("purpose", str(purpose)[:40], PURPOSES)), param="purpose")
            asset = await asyncio.to_thread(_keep, request, upload, str(purpose))
    finally:
        uploads[user] -= 1
    return JSONResponse(described(asset))


@router.get("/v1/files")
async def index(request: Request, purpose: str = "", limit: int = 100, after: str = "") -> JSONResponse:
    """The files of who asks, newest first."""
    if not 1 <= limit <= 10_000:
        raise ApiError(400, "limit is 1 to 10000", param="limit")
    wanted = [purpose] if purpose else ["batch", "batch_output", "vision", "generated"]
    named = {"vision": SHOWN, "generated": MADE}
    media, user = house_of(request).media, user_of(request)
    found = [asset for one in wanted for asset in media.find(user, purpose=named.get(one, one), limit=10_000)]
    found.sort(key=lambda asset: -asset.created)
    names = [asset.id for asset in found]
    start = names.index(after) + 1 if after in names else 0
    data = [described(asset) for asset in found[start : start + limit]]
    return JSONResponse({"object": "list", "data": data, "has_more": len(found) > start + limit})


@router.get("/v1/files/{name}")
async def about(request: Request, name: str) -> JSONResponse:
    """What a file is; `made_by` tells how it came to be, if the studio made it."""
    return JSONResponse(described(own_asset(request, name)))


@router.get("/v1/files/{name}/content")
async def content(request: Request, name: str, png: int = 0) -> Response:
    """The file itself; of an SVG also as PNG with `?png=SIDE`."""
    asset = own_asset(request, name)
    if not asset.path.is_file():
        raise ApiError(410, "the file is gone from the disk", code="gone")
    if not png:
        return give(asset)
    if asset.kind != "svg" or not PNG_SIDES[0] <= png <= PNG_SIDES[1]:
        raise ApiError(400, f"an SVG is given as PNG of {PNG_SIDES[0]} to {PNG_SIDES[1]} pixels", param="png")
    try:
        body = await asyncio.to_thread(svg_as_png, asset, png)
    except ValueError as error:
        raise ApiError(422, str(error)) from error
    file_name = asset.name.rsplit(".", 1)[0].encode("ascii", "replace").decode().replace('"', "_").replace("?", "_")
    headers = {"content-disposition": f'attachment; filename="{file_name}.png"', "content-security-policy": "sandbox"}
    return Response(body, media_type="image/png", headers=headers)


@router.delete("/v1/files/{name}")
async def delete(request: Request, name: str) -> JSONResponse:
    """Forget a file."""
    own_asset(request, name)
    house_of(request).media.drop(name, user_of(request))
    return JSONResponse({"id": name, "object": "file", "deleted": True})


def described(asset: Asset) -> dict[str, Any]:
    """A file as clients expect it."""
    told = {
        "id": asset.id, "object": "file", "bytes": asset.bytes, "created_at": int(asset.created),
        "filename": asset.name, "purpose": THEIRS.get(asset.purpose, "vision"),
        "status": "processed", "expires_at": None,
    }  # fmt: skip
    return {**told, **({"made_by": dict(asset.made_by)} if asset.made_by else {})}


def _keep(request: Request, upload: UploadFile, purpose: str) -> Asset:
    media, user = house_of(request).media, user_of(request)
    name = upload.filename or "file"
    try:
        if purpose != "batch":
            return take_in(media, upload.file.read(), owner=user, name=name, purpose=OURS[purpose])
        path: Path = media.work / f"in.{secrets.token_hex(8)}"
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file, 2**20)
        if path.stat().st_size > BATCH_BYTES:
            path.unlink()
            raise ApiError(413, f"at most {BATCH_BYTES:,} bytes are taken", code="too_large", param="file")
        return media.keep(path, owner=user, name=name, suffix=".jsonl", purpose="batch")
    except Unreadable as error:
        raise from_input(error, status=422) from error
    except InputError as error:
        raise ApiError(413, str(error), code="too_large", param="file") from error
