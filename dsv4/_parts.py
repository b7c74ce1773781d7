"""Where the sibling packages and the shipped files are, in a checkout and in an installed wheel."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).resolve().parent


def part(name: str) -> ModuleType:
    """Import `dsv4.vision` when installed from a wheel and `vision` in a checkout; dotted names reach inside.

    Raises ModuleNotFoundError for what is missing, also when it is missing inside the part.
    """
    bundled = f"{__package__}.{name}"
    try:
        return import_module(bundled)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{bundled}.".startswith(f"{error.name}."):
            raise  # the part is there and something that it needs is not: hiding that would mislead
        return import_module(name)


def asset(name: str) -> Path:
    """The path of a shipped file or folder such as `nano`; it need not exist."""
    bundled = _HERE / "assets" / name
    return bundled if bundled.exists() else _HERE.parent / "assets" / name
