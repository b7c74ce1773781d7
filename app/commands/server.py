"""`dsv4 app` and `dsv4 serve`: the page and the API in one process."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsv4.checkpoint.placement import Placement

from ..settings import resolve

PLACES = ("experts", "memory_mb", "engram", "weights")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    given = {
        name: resolve(name, getattr(args, name)).value
        for name in (
            "host",
            "port",
            "model",
            "models",
            "presets",
            "users",
            "hosts",
            "root_path",
            "fetch",
            "keep_days",
            "keep_gb",
            *PLACES,
        )  # fmt: skip
    }
    placement = Placement(
        experts=given["experts"],
        memory=given["memory_mb"] * 1_000_000,
        engram=given["engram"],
        weights=given["weights"],
    )
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
        presets=Path(given["presets"]) if given["presets"] else None,
        root_path=given["root_path"],
        placement=None if placement.usual else placement,
    )


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
