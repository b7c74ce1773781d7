"""The one error that is the caller's to mend, and the nearest-match hint that it carries."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given from outside is wrong; the message says what, what is allowed, and what was likely meant."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that looks most like `name`, or None when none does."""
    choices = list(allowed)
    by_fold = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.5)
    return by_fold[found[0]] if found else None


def unknown(kind: str, name: object, allowed: Iterable[object]) -> InputError:
    """An InputError for a name that is not in a table: `unknown mode 'basse'; did you mean 'base'? ...`."""
    choices = [str(choice) for choice in allowed]
    near = nearest(str(name), choices)
    hint = f"did you mean '{near}'? " if near else ""
    return InputError(f"unknown {kind} '{name}'; {hint}choose one of {', '.join(choices)}")
