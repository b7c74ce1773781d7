"""The README's commands and programs are run as they stand, in order, in one folder, with the shipped model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

# Lines that begin so are not run here, and why.
NOT_RUN = {
    "git clone": "fetches this repository",
    "cd ": "goes into the clone",
    "make ": "makes environments, runs all tests or serves; checked to be a target",
    "python3 -m venv": "makes an environment",
    ".venv/bin/pip": "installs",
    ".venv/bin/python -m pip": "installs",
    "pip install": "installs",
    "dsv4 app": "serves until it is stopped",
    "dsv4 serve": "serves until it is stopped",
    ".venv/bin/dsv4 app": "serves until it is stopped",
    "curl": "asks a server",
    "dsv4 train": "takes long",
    "dsv4 eval": "takes long",
    "dsv4 data build": "needs the sources",
    "dsv4 export": "needs a finished run",
}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.S | re.M)


def commands() -> list[str]:
    """Every command of the shell blocks, continued lines joined, comments and blank lines left out."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(blocks("bash")))
    lines = [line.strip().removeprefix("$ ") for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def is_run(command: str) -> bool:
    """Whether a command is run by this test."""
    return not any(command.startswith(start) for start in NOT_RUN)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """An empty folder, and an environment in which `dsv4` and `python` are this checkout's."""
    folder, programs = tmp_path_factory.mktemp("readme"), tmp_path_factory.mktemp("programs")
    for name, line in (("dsv4", f'"{sys.executable}" -m dsv4'), ("python", f'"{sys.executable}"')):
        (programs / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        (programs / name).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DSV4_")}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return folder, {**kept, "PATH": path, "PYTHONPATH": str(ROOT)}


def test_the_readme_shows_how_to_start():
    assert any(command.startswith("make app") for command in commands())
    assert any(is_run(command) and command.startswith("dsv4 ") for command in commands())
    assert blocks("python")


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert named and set(named) <= targets


def test_everything_in_the_readme_runs(workplace):
    """Shell first, since the programs read the files that the commands made."""
    folder, environment = workplace
    failed = []
    for command in filter(is_run, commands()):
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        if run.returncode:
            failed.append(f"{command}\n{run.stdout[-500:]}{run.stderr[-1500:]}")
    for program in blocks("python"):
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )
        if run.returncode:
            failed.append(f"{program}\n{run.stderr[-1500:]}")
    assert not failed, "\n\n".join(failed)
