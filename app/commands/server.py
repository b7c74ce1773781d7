"""`dsv4 app` and `dsv4 serve`: the page and the API in one process."""

from __future__ import annotations

import argparse

from ..settings import resolve


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    host, port = resolve("host", args.host).value, resolve("port", args.port).value
    model = resolve("model", args.model).value
    from .. import server

    return server.run(host, port, model=model)
