"""One process for people: the page at `/`, `/healthz` and `/readyz` beside it, on this machine only."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dsv4
from dsv4.errors import InputError

from .guard import Guard
from .page import build_page
from .page.loading import StudioLoader

if TYPE_CHECKING:
    from fastapi import FastAPI

UPLOAD_BYTES = 24 * 2**20


def run(host: str = "127.0.0.1", port: int = 7860, *, model: str | None = None) -> int:
    """Serve the page until interrupted; returns the exit status.

    Port 0 takes any free one. The address is printed when the page answers; the model loads behind it.
    Raises InputError for an address that other machines can reach, and for a port that is taken.
    """
    import uvicorn

    check_loopback(host)
    name = model or os.environ.get("DSV4_MODEL") or "nano"
    listening = bind(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"dsv4 studio is starting at {address} ...", flush=True)
    app = build_app(lambda: dsv4.load(name), name=name, started=lambda: print(f"Open {address}", flush=True))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, ws="none"))
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it, and not an error
        server.run(sockets=[listening])
    return 0


def build_app(factory: Callable[[], Any], *, name: str = "nano", started: Callable[[], None] | None = None) -> FastAPI:
    """The whole application; `factory` makes the studio, in a thread, once the server is up."""
    loader = StudioLoader(factory, name=name)
    page = build_page(loader)

    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    from .page import look

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loader.start()
        if started is not None:
            started()
        yield

    app = FastAPI(
        title="dsv4 studio",
        version=dsv4.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok", "version": dsv4.__version__})

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        body = {"status": loader.state, "model": loader.name}
        return JSONResponse(body, status_code=200 if loader.state == "ready" else 503)

    app = gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=look.theme(),
        css=look.css(),
        ssr_mode=False,
        run_history=False,
        show_error=False,
        enable_monitoring=False,
        mcp_server=False,
        footer_links=["settings"],
        max_file_size=UPLOAD_BYTES,
    )
    app.add_middleware(Guard, body_bytes=2 * UPLOAD_BYTES)
    return app


def check_loopback(host: str) -> None:
    """Raise InputError unless only this machine can reach `host`: the page has no password."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise InputError(
            f"the page has no password, so it is served on this machine only: use 127.0.0.1, not '{host}'; "
            "to reach it from another one: ssh -L 7860:127.0.0.1:7860 NAME"
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises InputError when the port is taken or not a port."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise InputError(f"port must be a whole number from 0 to 65535, got {port!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}; try another one with --port") from error
    return listening
