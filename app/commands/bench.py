"""`dsv4 bench`: measure this machine, with the programs of `dsv4.bench` and, in a checkout, those of `bench/`."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import dsv4
from dsv4.errors import unknown


def run(args: argparse.Namespace) -> int:
    """Run a program with the flags that follow its name, or list them; those of bench/ in a process of their own."""
    found = programs()
    if args.name is None:
        for name, path in found.items():
            print(f"{name:<8} {(ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or '').splitlines()[0]}")
        return 0
    if args.name not in found:
        raise unknown("measuring program", args.name, found)
    path = found[args.name]
    if path.parent == _ours():
        return import_module(f"dsv4.bench.{args.name}").main(args.rest) or 0
    return subprocess.run([sys.executable, str(path), *args.rest]).returncode


def programs() -> dict[str, Path]:
    """The measuring programs by name."""
    folders = (Path(__file__).resolve().parents[2] / "bench", _ours())
    files = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return {path.stem: path for path in files if "def main(" in path.read_text(encoding="utf-8")}


def _ours() -> Path:
    return Path(dsv4.__file__).parent / "bench"
