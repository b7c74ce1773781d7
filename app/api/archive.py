"""`/v1/archive`: everything that who asks has here, as one ZIP, and back."""

from __future__ import annotations

import asyncio
import secrets
import shutil

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile

from ..archive import archive_name, read_archive, write_archive
from .errors import ApiError, from_input
from .kit import house_of, user_of

router = APIRouter(tags=["archive"])


@router.get("/v1/archive")
async def give(request: Request) -> Response:
    """Conversations, what was made and what was shown, with the files."""
    house = house_of(request)
    path = house.media.work / f"archive.{secrets.token_hex(8)}"
    await asyncio.to_thread(write_archive, house, user_of(request), path)
    tidy = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/zip", filename=archive_name(), background=tidy)


@router.post("/v1/archive")
async def take(request: Request) -> JSONResponse:
    """Take an archive in (a form with `file`), beside what is there; one that is wrong leaves nothing behind."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(415, "send a form: multipart/form-data with file", code="unsupported_media_type")
    house = house_of(request)
    path = house.media.work / f"archive.{secrets.token_hex(8)}"
    try:
        async with request.form(max_files=1, max_fields=4) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise ApiError(400, "the form has no file", code="missing_required_parameter", param="file")
            with path.open("wb") as file:
                await asyncio.to_thread(shutil.copyfileobj, upload.file, file, 2**20)
        came = await asyncio.to_thread(read_archive, house, user_of(request), path)
    except ValueError as error:
        raise from_input(error, status=422) from error
    finally:
        path.unlink(missing_ok=True)
    return JSONResponse({"object": "archive", **came})
