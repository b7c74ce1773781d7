"""What of SVG's animation is allowed, and what an allowed animation shows at a time.

Shape letters: none; times in seconds. Allowed are `animateTransform` and `animate` of numbers, by values or
from-to, linear or in steps, started by a plain time: nothing that waits for an event, follows a link or names a paint.
Source: SMIL 3 (timing, interpolation) as SVG 2 takes it over; "additive" and "accumulate" are left out but for sum.
"""

from __future__ import annotations

import re

from .tree import Node, load_tree

ANIMATIONS = ("animate", "animateTransform")
MAX_ANIMATIONS = 256
MAX_SECONDS = 60.0
_LIST = re.compile(r"[\d\s.,;eE+\-]{1,20000}")
_TIME = re.compile(r"(\d{1,5}(?:\.\d{1,4})?)(ms|s)?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_MOVED = frozenset(
    "x y x1 y1 x2 y2 cx cy r rx ry width height opacity fill-opacity stroke-opacity stroke-width stroke-dashoffset "
    "offset stop-opacity font-size".split()
)
_TURNED = ("translate", "scale", "rotate", "skewX", "skewY")
_WORDS = {
    "calcMode": ("linear", "discrete"),
    "additive": ("sum", "replace"),
    "fill": ("freeze", "remove"),
}


def kept_animation(node: Node) -> dict[str, str] | None:
    """The allowed attributes of an animation, or None where it is none that is allowed."""
    moved = node.get("attributeName") or ""
    if node.tag == "animateTransform":
        if moved != "transform" or node.get("type", "translate") not in _TURNED:
            return None
    elif moved not in _MOVED:
        return None
    kept = {"attributeName": moved}
    if node.tag == "animateTransform":
        kept["type"] = node.get("type", "translate") or ""
    for key in ("values", "from", "to", "keyTimes"):
        if _LIST.fullmatch(node.get(key) or ""):
            kept[key] = node.attributes[key]
    for key in ("dur", "begin"):
        if _TIME.fullmatch(node.get(key) or ""):
            kept[key] = node.attributes[key]
    for key, words in _WORDS.items():
        if key == "additive" and node.tag == "animate":
            continue
        if node.get(key) in words:
            kept[key] = node.attributes[key]
    count = node.get("repeatCount") or ""
    if count == "indefinite" or re.fullmatch(r"\d{1,4}(\.\d+)?", count):
        kept["repeatCount"] = count
    if _seconds(kept.get("dur"), 0) <= 0 or not ("values" in kept or {"from", "to"} <= set(kept)):
        return None
    if "keyTimes" in kept and kept["keyTimes"].count(";") != _values(kept).count(";"):
        return None
    return kept


def animated(svg: str | bytes) -> bool:
    """Whether an SVG holds an allowed animation."""
    return duration(svg) > 0


def duration(svg: str | bytes) -> float:
    """Seconds until every allowed animation has run once; 0 for a still drawing."""
    ends = [0.0]

    def look(node: Node) -> None:
        kept = kept_animation(node) if node.tag in ANIMATIONS else None
        if kept is not None:
            ends.append(_seconds(kept.get("begin"), 0) + _seconds(kept["dur"], 0))
        for child in node:
            look(child)

    look(load_tree(svg))
    return min(MAX_SECONDS, max(ends))


def freeze(node: Node, seconds: float) -> None:
    """Put what the allowed animations below a node show at a time into its attributes, and take them away."""
    still = []
    for child in node:
        if child.tag in ANIMATIONS:
            _apply(node, child.attributes, child.tag == "animateTransform", seconds)
        else:
            freeze(child, seconds)
            still.append(child)
    node.children = still


def _apply(node: Node, kept: dict[str, str], transform: bool, seconds: float) -> None:
    along = _progress(kept, seconds)
    if along is None:
        return
    numbers = _between(_values(kept), along, kept.get("keyTimes"), kept.get("calcMode") == "discrete")
    text = " ".join(f"{number:.6g}" for number in numbers)
    if not transform:
        node.attributes[kept["attributeName"]] = text
        return
    before = node.get("transform") if kept.get("additive") == "sum" else None
    node.attributes["transform"] = " ".join(filter(None, [before, f"{kept['type']}({text})"]))


def _progress(kept: dict[str, str], seconds: float) -> float | None:
    """How far a run is, 0 to 1, or None while nothing shows."""
    since = seconds - _seconds(kept.get("begin"), 0)
    if since < 0:
        return None
    runs = since / _seconds(kept["dur"], 1)
    count = kept.get("repeatCount", "1")
    limit = float("inf") if count == "indefinite" else float(count)
    if runs < limit:
        return runs % 1.0
    return ((limit % 1.0) or 1.0) if kept.get("fill") == "freeze" else None


def _between(values: str, along: float, key_times: str | None, steps: bool) -> list[float]:
    rows = [[float(number) for number in _NUMBER.findall(row)] for row in values.split(";") if row.strip()]
    if len(rows) == 1:
        return rows[0]
    last = len(rows) if steps else len(rows) - 1
    if key_times:
        times = [float(number) for number in _NUMBER.findall(key_times)]
    else:
        times = [place / last for place in range(len(rows))]
    place = max([index for index, time in enumerate(times) if time <= along + 1e-12], default=0)
    if steps or place >= len(rows) - 1:
        return rows[min(place, len(rows) - 1)]
    span = times[place + 1] - times[place]
    share = (along - times[place]) / span if span > 0 else 1.0
    return [a + share * (b - a) for a, b in zip(rows[place], rows[place + 1], strict=False)]


def _values(kept: dict[str, str]) -> str:
    return kept["values"].strip().rstrip(";") if "values" in kept else f"{kept['from']};{kept['to']}"


def _seconds(text: str | None, default: float) -> float:
    found = _TIME.fullmatch(text or "")
    if found is None:
        return default
    return float(found[1]) / (1000 if found[2] == "ms" else 1)
