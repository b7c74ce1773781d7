"""Read what a request says: JSON that is checked before it is believed, and fields that are taken by name and kind.

Fields that nobody took are not refused: clients send more every year. They are named in `warnings` of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request

from dsv4.errors import unknown
from dsv4.limits import JSON_DEPTH

from .errors import ApiError, from_input

_MISSING = object()


class Fields:
    """The fields of one JSON object; each `take` removes one, and what is left becomes warnings."""

    def __init__(self, data: Mapping[str, Any], place: str = "") -> None:
        self._data, self._place = dict(data), place
        self.notes: list[str] = []

    def take(self, name: str, kinds: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """A field of one of these kinds (null counts as not given); raises ApiError 400 that names it."""
        value = self._data.pop(name, None)
        if value is None:
            if default is _MISSING:
                raise ApiError(400, f"{self._place}{name} is missing", code="missing_required_parameter", param=name)
            return default
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            named = " or ".join(_KINDS.get(kind, kind.__name__) for kind in wanted)
            raise ApiError(400, f"{self._place}{name} must be {named}", code="invalid_type", param=name)
        return value

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        """A field that is one of a few words."""
        value, choices = self.take(name, str, default), list(allowed)
        if value not in choices:
            raise ApiError(400, str(unknown(name, value[:80], choices)), param=name)
        return value

    def whole(self, name: str, low: int, high: int, default: Any) -> Any:
        """A whole number between these, both included."""
        value = self.take(name, int, default)
        if value is not default and not low <= value <= high:
            raise ApiError(400, f"{name} must be a whole number from {low} to {high}", param=name)
        return value

    def settings(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The numbers that were given, under our own names for them; `names` maps theirs to ours."""
        found = {}
        for theirs, ours in names.items():
            value = self.take(theirs, (int, float), None)
            if value is not None:
                found[ours] = value
        return found

    def refuse(self, name: str, why: str) -> None:
        """Say no to a field that would change the meaning of the answer and cannot be followed."""
        if self._data.pop(name, None) not in (None, False, [], {}, "none", "auto"):
            raise ApiError(400, f"{name} is not supported: {why}", code="unsupported_parameter", param=name)

    def warnings(self) -> list[str]:
        """A sentence for every field that was ignored."""
        left = [f"'{name}' is ignored" for name, value in sorted(self._data.items()) if value is not None]
        return [*self.notes, *left[:20]]


_KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


async def read_json(request: Request) -> Fields:
    """The JSON object of a request; raises ApiError 415 or 400."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send JSON with content-type: application/json", code="unsupported_media_type")
    return Fields(parse(await request.body()))


def parse(content: bytes) -> dict[str, Any]:
    """A JSON object from bytes, without duplicate keys, numbers that are none, or more than JSON_DEPTH levels."""
    if _depth(content) > JSON_DEPTH:
        raise ApiError(400, f"the JSON is nested more than {JSON_DEPTH} levels deep", code="invalid_json")
    try:
        data = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(data, allow_nan=False)  # 1e400 is read as infinity
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {str(error)[:200]}", code="invalid_json") from error
    if not isinstance(data, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return data


def checked(function: Any, *values: Any, **named: Any) -> Any:
    """Call something of ours; an InputError becomes an answer."""
    try:
        return function(*values, **named)
    except ValueError as error:
        raise from_input(error) from error


def _depth(content: bytes) -> int:
    depth = deepest = 0
    inside = escaped = False
    if content.count(b"[") + content.count(b"{") <= JSON_DEPTH:
        return 0
    for byte in content:
        if inside:
            inside, escaped = (byte != 0x22 or escaped), (byte == 0x5C and not escaped)
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > JSON_DEPTH:
                return deepest
        elif byte in b"]}":
            depth -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
