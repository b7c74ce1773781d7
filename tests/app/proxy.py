"""A small reverse proxy below a path, as nginx would be: `/studio/...` goes to a server, streams included."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from app.server import bind

PASSED = ("content-length", "transfer-encoding", "connection")


@contextmanager
def proxied(target: str, root: str, *, strip: bool = True) -> Iterator[str]:
    """The address of a proxy that serves `target` below `root`; everything else on it is 404."""
    there = httpx.AsyncHTTPTransport()  # not a client, which would keep the cookies of one visitor for all

    async def forward(request: Request) -> Response:
        path = request.url.path.removeprefix(root) if strip else request.url.path
        headers = {**request.headers, "x-forwarded-proto": "http"}  # Host is that of the proxy, as it must be passed on
        url = httpx.URL(target + path, query=request.url.query.encode())
        asked = httpx.Request(request.method, url, headers=headers, content=await request.body())
        answer = await there.handle_async_request(asked)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.stream:
                    yield piece
            finally:
                await answer.aclose()

        told = StreamingResponse(body(), status_code=answer.status_code)
        told.raw_headers = [pair for pair in answer.headers.raw if pair[0].lower().decode() not in PASSED[1:]]
        return told

    async def begin(_: Request) -> Response:
        return RedirectResponse(f"{root}/", status_code=301)

    methods = ["GET", "POST", "DELETE", "HEAD", "OPTIONS"]
    app = Starlette(routes=[Route(root, begin), Route(f"{root}/{{rest:path}}", forward, methods=methods)])
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{root}"
    finally:
        server.should_exit = True
        thread.join(10)
