"""A tiny closed world, whole: what every stage of the curriculum reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dsv4.data.builder import build
from tests import picture_world
from tests.data.conftest import write_sources


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A data folder with words, icons, things and letters."""
    folder = tmp_path_factory.mktemp("curriculum")
    sources = write_sources(folder / "sources")
    pictures = picture_world.write_sources(folder / "pictures")
    for name in ("things.jsonl.zst", "things_shaded.webp"):
        shutil.copy(pictures / name, sources / name)
    build(sources, folder / "data", tell=lambda line: None)
    return folder / "data"
