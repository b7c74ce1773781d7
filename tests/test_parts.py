"""The packages are found in a checkout and in the layout of a wheel, where strangers of the same name do no harm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dsv4._parts import asset, part

ROOT = Path(__file__).resolve().parent.parent


def test_a_checkout_finds_its_packages_and_assets():
    assert part("vision").__name__ == "vision"
    assert part("generation.svg").__name__ == "generation.svg"
    assert asset("nano") == ROOT / "assets" / "nano"


def test_what_is_missing_inside_a_part_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "lame").mkdir()
    (tmp_path / "lame" / "__init__.py").write_text("import a_module_that_nobody_has")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        part("lame")
    with pytest.raises(ModuleNotFoundError, match="no_such_part"):
        part("no_such_part")


@pytest.fixture
def installed(tmp_path, python, python_environment):
    """Runs a program in a folder full of strangers, with the packages laid out as a wheel does it."""
    site, here = tmp_path / "site", tmp_path / "here"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dsv4", site / "dsv4", ignore=ignored)
    for name in ("app", "vision", "generation"):
        shutil.copytree(ROOT / name, site / "dsv4" / name, ignore=ignored)
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text(f"raise RuntimeError('a stranger named {name} was imported')")
    (site / "dsv4" / "assets" / "nano").mkdir(parents=True)
    environment = {**python_environment, "PYTHONPATH": f"{here}{os.pathsep}{site}", "DSV4_MODEL": "echo"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [python, *arguments], cwd=here, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_wheel_brings_its_own(installed):
    shown = installed("-c", "import dsv4; print(dsv4.vision.__name__, dsv4.generation.__name__)")
    assert shown.split() == ["dsv4.vision", "dsv4.generation"]
    where = installed("-c", "from dsv4._parts import asset; print(asset('nano'))").strip()
    assert where.endswith(os.path.join("site", "dsv4", "assets", "nano"))


def test_the_command_works_from_a_wheel(installed):
    assert installed("-m", "dsv4", "chat", "hello there") == "hello there\n"
    assert installed("-m", "dsv4", "image", "a tiger", "-o", "a.png") == "a.png\n"
    assert installed("-m", "dsv4", "video", "a tiger", "-o", "a.mp4") == "a.mp4\n"
    assert installed("-m", "dsv4", "svg", "heart", "-o", "a.png") == "a.png\n"
