"""`dsv4 app` and `dsv4 serve`: the page and the API in one process."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..settings import resolve


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    given = {
        name: resolve(name, getattr(args, name)).value
        for name in (
            "host", "port", "model", "models", "weights", "users", "hosts", "root_path", "fetch", "keep_days",
            "keep_gb",
        )  # fmt: skip
    }
    home = resolve("home", args.home).value
    from .. import server

    hosts = _listed(given["hosts"])
    return server.run(
        given["host"],
        given["port"],
        model=given["model"],
        home=Path(home) if home else None,
        users=given["users"] or None,
        hosts=hosts,
        fetch=given["fetch"],
        keep_days=given["keep_days"],
        keep_gb=given["keep_gb"],
        models=_listed(given["models"]),
        weights=Path(given["weights"]) if given["weights"] else None,
        root_path=given["root_path"],
    )


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
