"""`/v1/batches`: a file of requests, one answer line a row, in order, however often the server is killed meanwhile.

Source: the public batch interface as its Python client 3.57 speaks it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from dsv4.errors import InputError, unknown

from ..batches import URLS, Ask, Batches
from .body import read_json
from .errors import ApiError
from .kit import own_asset, user_of

router = APIRouter(tags=["batches"])
EXAMPLE = {"input_file_id": "file_...", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


@router.post("/v1/batches", openapi_extra={"example": EXAMPLE})
async def create(request: Request) -> JSONResponse:
    """Run every line of an uploaded JSONL file: `{"custom_id", "method": "POST", "url", "body"}`."""
    fields = await read_json(request)
    asset = own_asset(request, fields.take("input_file_id", str))
    if asset.purpose != "batch":
        raise ApiError(400, "upload the file with purpose batch", param="input_file_id")
    endpoint = fields.take("endpoint", str)
    if endpoint not in URLS:
        raise ApiError(400, str(unknown("endpoint", endpoint[:60], URLS)), param="endpoint")
    fields.take("completion_window", str, "24h")
    given = fields.take("metadata", dict, {})
    if len(given) > 16 or not all(isinstance(value, str) and len(value) <= 512 for value in given.values()):
        raise ApiError(400, "metadata takes up to 16 texts of up to 512 characters", param="metadata")
    return JSONResponse(described(_batches(request).create(user_of(request), asset, endpoint, given)))


@router.get("/v1/batches")
async def index(request: Request, limit: int = 20, after: str = "") -> JSONResponse:
    """The batches of who asks, newest first."""
    if not 1 <= limit <= 100:
        raise ApiError(400, "limit is 1 to 100", param="limit")
    rows = _batches(request).list(user_of(request), limit=10_000)
    names = [row["id"] for row in rows]
    start = names.index(after) + 1 if after in names else 0
    data = [described(row) for row in rows[start : start + limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return JSONResponse({"object": "list", "data": data, "has_more": len(rows) > start + limit, **ends})


@router.get("/v1/batches/{name}")
async def status(request: Request, name: str) -> JSONResponse:
    """How a batch stands."""
    try:
        return JSONResponse(described(_batches(request).get(name, user_of(request))))
    except InputError as error:
        raise ApiError(404, str(error), code="not_found") from error


@router.post("/v1/batches/{name}/cancel")
async def cancel(request: Request, name: str) -> JSONResponse:
    """Stop a batch: rows in flight are finished, and what is done can be fetched."""
    try:
        return JSONResponse(described(_batches(request).cancel(name, user_of(request))))
    except InputError as error:
        raise ApiError(404, str(error), code="not_found") from error


def asker(app: FastAPI) -> Ask:
    """A function that asks this application as a client would, without the network, as a given person."""

    async def ask(owner: str, url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        async def inside(scope: Scope, receive: Receive, send: Send) -> None:
            scope |= {"user": owner, "lane": f"{owner}/batch", "source": "batch"}
            await app(scope, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(inside), base_url="http://batch", timeout=None
        ) as client:
            # In ASCII, as the line had it: half of a surrogate pair or NaN is for the route to refuse.
            content = json.dumps(body).encode()
            answer = await client.post(url, content=content, headers={"content-type": "application/json"})
            told = answer.json()
            while (
                answer.status_code == 200
                and told.get("object") == "video"
                and told["status"] in ("queued", "in_progress")
            ):
                await asyncio.sleep(0.2)
                told = (await client.get(f"/v1/videos/{told['id']}")).json()
            if told.get("object") == "video" and told["status"] == "failed":
                return 500, {
                    "error": {
                        "message": told["error"]["message"],
                        "type": "server_error",
                        "param": None,
                        "code": "failed",
                    }
                }
            return answer.status_code, told

    return ask


def described(row: dict[str, Any]) -> dict[str, Any]:
    """A batch as clients expect it."""
    faults = json.loads(row["faults"])
    over = {"completed": "completed_at", "failed": "failed_at", "cancelled": "cancelled_at"}
    times = {"in_progress_at": None, "completed_at": None, "failed_at": None, "cancelled_at": None, "expires_at": None}
    if row["ended"] and row["state"] in over:
        times[over[row["state"]]] = int(row["ended"])
    return {
        "id": row["id"], "object": "batch", "endpoint": row["endpoint"], "input_file_id": row["input"],
        "completion_window": "24h", "status": row["state"], "output_file_id": row["output"],
        "error_file_id": row["errors"], "created_at": int(row["created"]), **times,
        "errors": {"object": "list", "data": faults} if faults else None,
        "request_counts": {"total": row["total"], "completed": row["done"], "failed": row["failed"]},
        "metadata": json.loads(row["metadata"]),
    }  # fmt: skip


def _batches(request: Request) -> Batches:
    return request.app.state.batches
