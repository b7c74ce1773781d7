"""Settings and where each came from: a flag, then a DSV4_ variable, then dsv4.toml, then the default."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv4.checkpoint.placement import ENGRAM, EXPERTS, WEIGHTS
from dsv4.errors import InputError, unknown
from dsv4.limits import BATCH_WORKERS

FILE = "dsv4.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A value and its origin, for example `flag --port`, `DSV4_PORT`, `dsv4.toml` or `default`."""

    name: str
    value: Any
    origin: str


DEFAULTS: dict[str, Any] = {
    "model": "nano",
    "models": "",  # more of them, with commas between
    "presets": "",  # a folder of real weights, one folder a preset
    "host": "127.0.0.1",
    "port": 7860,
    "home": "",
    "users": "",
    "hosts": "",
    "root_path": "",  # below which a proxy serves it, such as /studio
    "fetch": False,
    "keep_days": 0,  # of conversations and what was made; 0 is for ever
    "keep_gb": 0,  # of what was made and shown; 0 is no limit
    "experts": "resident",  # where a model's parts lie: docs/placement.md
    "memory_mb": 0,  # for experts that do not; 0 is no limit
    "engram": "device",
    "weights": "open",
    "backend": "local",  # of batches
    "workers": 0,  # of batches that run on processes or a cluster; 0 is one a core
}
EMPTY_IS_FINE = ("home", "users", "hosts", "models", "presets", "root_path")
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_WORDS = {"experts": EXPERTS, "engram": ENGRAM, "weights": WEIGHTS}
_NUMBERS = {
    "port": (65535, "a port is a whole number from 0 (any free one) to 65535"),
    "keep_days": (36_500, "days to keep are a whole number from 0 (for ever) to 36500"),
    "keep_gb": (1_000_000, "gigabytes to keep are a whole number from 0 (no limit) to 1000000"),
    "memory_mb": (10**9 - 1, "megabytes of memory are a whole number from 0 (no limit) to 999999999"),
    "workers": (BATCH_WORKERS, f"workers are a whole number from 0 (one a core) to {BATCH_WORKERS}"),
}


def resolve(name: str, flag: Any = None) -> Setting:
    """The value that counts for one of DEFAULTS; raises InputError if it cannot be what the setting needs."""
    if flag is not None:
        return Setting(name=name, value=_checked(name, flag, _flag(name)), origin=f"flag {_flag(name)}")
    variable = f"DSV4_{name.upper()}"
    if os.environ.get(variable):
        return Setting(name=name, value=_checked(name, os.environ[variable], variable), origin=variable)
    in_file = _from_file()
    if name in in_file:
        return Setting(name=name, value=_checked(name, in_file[name], FILE), origin=FILE)
    return Setting(name=name, value=DEFAULTS[name], origin="default")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _from_file() -> dict[str, Any]:
    path = Path(FILE)
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{FILE} cannot be read: {error}") from error
    for key in found:
        if key not in DEFAULTS:
            raise unknown(f"setting in {FILE}", key, DEFAULTS)
    return found


def _checked(name: str, value: Any, origin: str) -> Any:
    if name in _NUMBERS:
        most, allowed = _NUMBERS[name]
        whole = isinstance(value, int) and not isinstance(value, bool) or re.fullmatch(r"\d{1,9}", str(value))
        if not whole or not 0 <= int(value) <= most:
            raise InputError(f"{origin}: {allowed}, got '{str(value)[:60]}'")
        return int(value)
    if name == "fetch":
        word = str(value).lower()
        if word not in (*YES, *NO):
            raise InputError(f"{origin}: {name} is yes or no, got '{value}'")
        return word in YES
    if name in _WORDS and value not in _WORDS[name]:
        raise InputError(f"{origin}: {name} is {', '.join(_WORDS[name][:-1])} or {_WORDS[name][-1]}, got '{value}'")
    if not isinstance(value, str) or not (value or name in EMPTY_IS_FINE):
        raise InputError(f"{origin}: {name} must be text, got {value!r}")
    return value
