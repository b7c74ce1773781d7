"""One process for people and programs: the page at `/`, the API at `/v1`, tools at `/mcp`, all on one durable queue."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dsv4
from dsv4.errors import InputError
from dsv4.limits import UPLOAD_BYTES

from .below import Below, checked_root
from .door import Door, people
from .guard import Guard
from .house import House
from .page import build_page
from .shelf import choices
from .store import home as default_home
from .worker import BROKE

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

    from dsv4.checkpoint.placement import Placement

NO_PAGE = "<!doctype html><title>dsv4 studio</title><p>The page is broken; see the log. <a href=docs>The API works.</a>"
log = logging.getLogger(__name__)
LAST_SECONDS = 3  # for requests that are being answered when the server is told to stop


def run(
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    model: str = "nano",
    home: Path | None = None,
    users: str | None = None,
    hosts: Collection[str] = (),
    fetch: bool = False,
    keep_days: int = 0,
    keep_gb: int = 0,
    models: Sequence[str] = (),
    presets: Path | None = None,
    root_path: str = "",
    placement: Placement | None = None,
) -> int:
    """Serve until interrupted; returns the exit status.

    Port 0 takes any free one. The address is printed when the page answers; the model loads behind it. `models` can be
    chosen beside `model`, as can the presets whose weights lie in `presets`; a proxy serves it below `root_path`.
    Raises InputError for an address that other machines can reach while no secret is set, for a port that is taken, and
    for a data folder that cannot be used.
    """
    import uvicorn

    root, others = checked_root(root_path), choices([one for one in models if one != model], presets)
    known = people(users)
    far = not is_loopback(host)
    if far:
        check_closed(host, known)
    listening = bind(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"dsv4 studio is starting at {address} ...", flush=True)
    house = House(
        home or default_home(), partial(dsv4.load, model, placement=placement), name=model, keep_days=keep_days,
        keep_gb=keep_gb, others=others, weights=presets,
    )  # fmt: skip
    door = Door(known, house.store.folder)
    app = build_app(
        house, door=door, hosts=hosts, far=far, fetch=fetch, root_path=root,
        started=lambda: print(f"Open {address}", flush=True),
    )  # fmt: skip
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=LAST_SECONDS, ws="none", server_header=False
    )
    # Both are usual ways to end it, and no errors: uvicorn stops, and raises the signal once more when it has stopped.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def build_app(
    house: House,
    *,
    door: Door | None = None,
    hosts: Collection[str] = (),
    far: bool = False,
    fetch: bool = False,
    root_path: str = "",
    started: Callable[[], None] | None = None,
) -> Guard | Below:
    """The whole application on a house, which it opens and closes with itself."""
    page = _page(house)

    from fastapi import FastAPI

    from .api.batches import asker
    from .api.tools import mcp_app, mcp_server
    from .batches import Batches

    door = door or Door({})
    tools = mcp_server(house)
    tools_app = mcp_app(tools)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        house.start()
        app.state.batches.start()
        async with tools.session_manager.run():
            if started is not None:
                started()
            yield
            house.open = False
            await app.state.batches.close()
        house.close()

    app = FastAPI(
        title="dsv4 studio",
        version=dsv4.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.state.house, app.state.door, app.state.fetch, app.state.uploads = house, door, fetch, {}
    app.state.batches = house.batches = Batches(house, asker(app))
    _add_routes(app)
    app.mount("/mcp", tools_app)
    guarded = Guard(_with_page(app, page, root_path), door=door, hosts=hosts, far=far)
    return Below(guarded, root_path) if root_path else guarded


def _page(house: House) -> Any:
    """The page, or None where it cannot be built: programs are served all the same."""
    try:
        return build_page(house)
    except Exception:
        log.exception("the page cannot be built; the API is served without it")
        return None


def _with_page(app: FastAPI, page: Any, root_path: str) -> Any:
    if page is None:
        from fastapi.responses import HTMLResponse

        app.add_api_route("/", lambda: HTMLResponse(NO_PAGE, status_code=503), include_in_schema=False)
        return app
    import gradio as gr

    from .page import look
    from .page.assets import Assets

    whole = gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path=root_path or None,
        auth_dependency=lambda request: request.scope.get("user") or None,
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
    return Assets(whole, Path(gr.__file__).parent / "templates" / "frontend" / "assets")


def _add_routes(app: FastAPI) -> None:
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    from . import login
    from .api import archive, batches, chat, docs, files, images, readings, system, videos
    from .api.errors import ApiError

    async def refuse(_: Request, error: Any) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers())

    async def full(_: Request, error: Exception) -> JSONResponse:
        if not is_full(error):
            log.error("a request broke", exc_info=error)
            return JSONResponse(ApiError(500, BROKE, code="internal").body(), status_code=500)
        told = ApiError(507, "the disk is full; nothing was lost", code="disk_full")
        return JSONResponse(told.body(), status_code=507)

    async def misread(_: Request, error: Any) -> JSONResponse:
        fault = error.errors()[0]
        where = str(fault["loc"][-1])
        return JSONResponse(ApiError(400, f"{where}: {fault['msg']}", param=where).body(), status_code=400)

    app.add_exception_handler(ApiError, refuse)
    app.add_exception_handler(RequestValidationError, misread)
    for kind in (sqlite3.OperationalError, OSError):
        app.add_exception_handler(kind, full)
    for module in (chat, images, videos, readings, files, batches, archive, system, docs, login):
        app.include_router(module.router)


def is_full(error: Exception) -> bool:
    """Whether something could not be written because there is no room."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_closed(host: str, known: dict[str, str]) -> None:
    """Raise InputError unless somebody must show a secret: other machines can reach `host`."""
    if not known:
        raise InputError(
            f"other machines can reach '{host}', so it needs a password: set DSV4_PASSWORD or give --users FILE; or "
            "stay on 127.0.0.1 and come from another machine with: ssh -L 7860:127.0.0.1:7860 NAME"
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises InputError when the port is taken or not a port."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise InputError(f"port must be a whole number from 0 to 65535, got {port!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off for sockets that say they are TCP; with it, every answer takes 40 ms more.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}; try another one with --port") from error
    return listening
