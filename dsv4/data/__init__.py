"""Training data of nano's closed world: `build` makes a folder from the sources, streams read it; all by seed."""

from __future__ import annotations

from pathlib import Path


def build(sources: Path, out: Path) -> None:
    """Make the data folder `out` from the folder `sources` and print a summary; InputError for unusable sources."""
    from dsv4.data.builder import build as run

    run(sources, out)
