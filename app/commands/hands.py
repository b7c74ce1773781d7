"""`dsv4 eval make`: a thin door to the judges of what the hands make."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from dsv4.errors import InputError, unknown
from dsv4.limits import check_numbers

from ..settings import resolve

FAMILIES = ("image", "svg", "video")


def evaluate(args: argparse.Namespace) -> int | None:
    """Print the scores and write them with a contact sheet."""
    check_numbers(seed=args.seed)
    for family in args.only or ():
        if family not in FAMILIES:
            raise unknown("family", family, FAMILIES)
    for name, least in (("cases", 1), ("clips", 1), ("svg_prompts", 0)):
        if getattr(args, name) < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(args, name)}")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: '{out}' is a file; name a folder")
    if not out.parent.is_dir():
        raise InputError(f"--out: no folder '{out.parent}' to make '{out.name}' in")
    args.model = resolve("model", args.model).value
    return import_module("dsv4.eval.make").main(args)
