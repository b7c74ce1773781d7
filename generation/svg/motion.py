"""Set a still drawing in motion: its parts inside groups that shift, turn and grow, as poses over time say.

F poses at even times. Source: SVG 2 section 8 (the order of transforms); SMIL 3 `animateTransform`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .safe import rebuild, write_tree
from .tree import Node, load_tree

if TYPE_CHECKING:
    import numpy as np

_CLOSE = 1e-3  # of a unit: a value that is this near a straight line lies on it
_BESIDE = ("title", "desc", "metadata", "defs")


def moving(svg: str, poses_F4: np.ndarray | Sequence[Sequence[float]], seconds: float = 2.0) -> str:
    """Return a safe SVG that plays a drawing's motion again and again; the drawing shrinks so that it stays inside.

    Args:
        svg: the drawing; it is rebuilt, so any origin is allowed.
        poses_F4: shift right and down (in canvas sides), size (times), turn (radians, clockwise), at even times.
        seconds: how long one run takes.

    Raises ValueError for fewer than two poses or a time out of 0.1 to 60 seconds, and as `rebuild` does.
    """
    poses = [tuple(map(float, pose)) for pose in poses_F4]
    if len(poses) < 2 or any(len(pose) != 4 for pose in poses) or not 0.1 <= seconds <= 60:
        raise ValueError(
            f"a motion is two poses or more, of four numbers, in 0.1 to 60 seconds; got {len(poses)} in {seconds:g}"
        )
    root = load_tree(rebuild(svg))
    left, top, width, height = _canvas(root)
    middle = (left + width / 2, top + height / 2)
    shifts = [(middle[0] + pose[0] * width, middle[1] + pose[1] * height) for pose in poses]
    turns = [(math.degrees(pose[3]),) for pose in poses]
    sizes = [(pose[2],) for pose in poses]
    still = " ".join([f"scale({_room(poses):.4g})", f"translate({-middle[0]:.6g} {-middle[1]:.6g})"])
    inner = Node("g", {"transform": still}, [child for child in root if child.tag not in _BESIDE])
    for kind, values, neutral in (("scale", sizes, 1), ("rotate", turns, 0)):
        if any(abs(value[0] - neutral) > _CLOSE for value in values):
            inner = Node("g", {}, [_animation(kind, values, seconds), inner])
    if len(set(shifts)) > 1:
        inner = Node("g", {}, [_animation("translate", shifts, seconds), inner])
    else:
        inner = Node("g", {"transform": f"translate({shifts[0][0]:.6g} {shifts[0][1]:.6g})"}, [inner])
    root.children = [*(child for child in root if child.tag in _BESIDE), inner]
    return write_tree(root)


def _canvas(root: Node) -> tuple[float, float, float, float]:
    box = [float(number) for number in (root.get("viewBox") or "").replace(",", " ").split()]
    if len(box) != 4 or min(box[2:]) <= 0:
        raise ValueError("a drawing needs a viewBox before it can move")
    return box[0], box[1], box[2], box[3]


def _room(poses: list[tuple[float, ...]]) -> float:
    """The largest size, 1 at most, at which the canvas's square stays inside it in every pose."""
    room = 1.0
    for right, down, size, turn in poses:
        reach = size * (abs(math.cos(turn)) + abs(math.sin(turn)))
        room = min(room, (1 - 2 * max(abs(right), abs(down))) / max(reach, 1e-6))
    return max(0.1, room)


def _animation(kind: str, values: list[tuple[float, ...]], seconds: float) -> Node:
    """One `animateTransform`; its times are left out when the values are even, as two ends of a straight way are."""
    kept = _corners(values)
    text = ";".join(" ".join(f"{number:.5g}" for number in values[place]) for place in kept)
    attributes = {"attributeName": "transform", "type": kind, "values": text}
    if len(kept) > 2 and len(kept) < len(values):
        last = len(values) - 1
        attributes["keyTimes"] = ";".join(f"{place / last:.5g}" for place in kept)
    attributes |= {"dur": f"{seconds:g}s", "repeatCount": "indefinite"}
    return Node("animateTransform", attributes)


def _corners(values: list[tuple[float, ...]]) -> list[int]:
    """Places that must be written: those between lie on a straight line in time."""
    kept, start = [0], 0
    for end in range(2, len(values)):
        if not all(_between(values, start, end, place) for place in range(start + 1, end)):
            start = end - 1
            kept.append(start)
    return [*kept, len(values) - 1]


def _between(values: list[tuple[float, ...]], start: int, end: int, place: int) -> bool:
    share = (place - start) / (end - start)
    straight = [a + share * (b - a) for a, b in zip(values[start], values[end], strict=True)]
    scale = max(1.0, *map(abs, values[end]))
    return all(abs(a - b) <= _CLOSE * scale for a, b in zip(straight, values[place], strict=True))
