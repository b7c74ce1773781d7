"""Serving below a path of another server, such as https://example.org/studio/, whose proxy strips it or does not.

Every path is told with the root in front and the root beside it, as the ASGI specification has it, so that routes,
redirects and the page's own addresses are right. Source: ASGI 3.0, `root_path`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dsv4.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def checked_root(root: str) -> str:
    """A root path such as /studio, "" for none; raises InputError."""
    bare = root.rstrip("/")
    if bare and (not re.fullmatch(r"(/[\w\-.~]+)+", bare, re.ASCII) or re.search(r"/\.{1,2}(/|$)", bare)):
        allowed = "letters, digits and - . _ ~ between slashes"
        raise InputError(f"the root path is like /studio, of {allowed}; got '{root[:60]}'")
    return bare


def inside(scope: Scope) -> str:
    """The path of a request within the studio, without the root."""
    root, path = scope.get("root_path", ""), scope["path"]
    return path[len(root) :] or "/" if root and (path == root or path.startswith(f"{root}/")) else path


class Below:
    """Tell the application where it stands. A proxy may have taken the root away or left it."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self.app, self.root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path == self.root:  # the page's own addresses are relative: they need the slash
                query = scope.get("query_string", b"")
                where = f"{self.root}/".encode() + (b"?" + query if query else b"")
                headers = [(b"location", where), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 307, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
            full = path if path.startswith(f"{self.root}/") else self.root + path
            scope = {**scope, "root_path": self.root, "path": full, "raw_path": full.encode()}
        await self.app(scope, receive, send)
