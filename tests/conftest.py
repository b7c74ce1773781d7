"""What all tests share: quiet threads, no model by surprise, and small pictures on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    """No test sees the settings of the person who runs it."""
    for name in [name for name in os.environ if name.startswith("DSV4_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def scene(tmp_path) -> Path:
    """A picture file: a red square on white, 96 by 64 pixels."""
    from PIL import Image

    picture_HW3 = np.full((64, 96, 3), 255, dtype=np.uint8)
    picture_HW3[16:48, 32:64] = (220, 30, 30)
    path = tmp_path / "scene.png"
    Image.fromarray(picture_HW3).save(path)
    return path


@pytest.fixture
def python_environment() -> dict[str, str]:
    """The environment for a Python child that should find this checkout from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable
