"""Closed rows of points as few lines and cubic curves: corners are found and sharpened, the rest is fitted.

Shape letters: P points, 2 x and y. Source: Schneider's fitting of digitised curves (Graphics Gems, 1990): least squares
for the lengths of the end tangents, Newton steps for the places along the curve, a split where it is farthest off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

_CORNER = np.radians(36)  # turn of the direction over _REACH samples to each side that makes a corner
_REACH = 4
_CUT = 2.2  # samples that a corner may be moved by where its sides are prolonged: pixels cut it off
_TURNS = 4  # Newton steps before a curve is split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outline:
    """A closed outline: where it starts, and its pieces: rows of one point (a line) or three (a cubic curve)."""

    start_2: np.ndarray
    pieces: tuple[np.ndarray, ...]


def outline(points_P2: np.ndarray, tolerance: float) -> Outline | None:
    """The outline through a closed row of points (about one unit apart), off by `tolerance` units at most.

    None where it is too small to enclose anything.
    """
    even_P2 = _even(points_P2)
    if even_P2 is None:
        return None
    corners = _corners(even_P2)
    if corners:
        spans = list(_between_corners(even_P2, corners))
    else:
        spans = list(_between_extremes(even_P2))
    pieces: list[np.ndarray] = []
    for span_P2, first_2, last_2 in spans:
        pieces += _fitted(span_P2, first_2, last_2, tolerance)
    return Outline(start_2=spans[0][0][0], pieces=tuple(pieces))


def _even(points_P2: np.ndarray) -> np.ndarray | None:
    """The same closed line with points at even distances of about one unit."""
    closed = np.concatenate([points_P2, points_P2[:1]])
    steps = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(8, round(float(along[-1])))
    if along[-1] < 2:
        return None
    places = np.linspace(0, along[-1], count, endpoint=False)
    return np.stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)], -1)


def _corners(points_P2: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Places of corners, in order, and where each lies once its sides are prolonged."""
    count = len(points_P2)
    reach = int(np.clip(count // 16, 2, _REACH))
    before = points_P2 - np.roll(points_P2, reach, 0)
    after = np.roll(points_P2, -reach, 0) - points_P2
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turn = np.abs(np.arctan2(cross, (before * after).sum(1)))
    found: list[tuple[int, np.ndarray]] = []
    for place in np.argsort(-turn, kind="stable"):
        if turn[place] < _CORNER:
            break
        if all(min((place - other) % count, (other - place) % count) > reach for other, _ in found):
            found.append((int(place), _sharpened(points_P2, int(place), reach)))
    return sorted(found, key=lambda corner: corner[0])


def _sharpened(points_P2: np.ndarray, place: int, reach: int) -> np.ndarray:
    """Where the two sides of a corner meet when they go on as they come, or the corner itself."""

    def at(shift: int) -> np.ndarray:
        return points_P2[(place + shift) % len(points_P2)]

    corner = at(0)
    start, way = at(-2), at(-2) - at(-2 - reach)
    other, back = at(2), at(2) - at(2 + reach)
    cross = way[0] * back[1] - way[1] * back[0]
    if abs(cross) < 0.2 * np.linalg.norm(way) * np.linalg.norm(back):
        return corner
    gap = other - start
    met = start + way * (gap[0] * back[1] - gap[1] * back[0]) / cross
    return met if np.linalg.norm(met - corner) <= _CUT else corner


Span = tuple[np.ndarray, np.ndarray, np.ndarray]  # points, unit tangent at the first, unit tangent back at the last


def _between_corners(points_P2: np.ndarray, corners: list[tuple[int, np.ndarray]]) -> Iterator[Span]:
    count = len(points_P2)
    for number, (place, corner) in enumerate(corners):
        until, end = corners[(number + 1) % len(corners)]
        length = (until - place) % count or count
        inner = points_P2[np.arange(place + 1, place + length) % count]
        inner = inner[1:-1] if len(inner) > 4 else inner[:0] if len(inner) < 3 else inner[1:-1]
        span = np.concatenate([corner[None], inner, end[None]])
        yield span, _unit(span[min(2, len(span) - 1)] - span[0]), _unit(span[-min(3, len(span))] - span[-1])


def _between_extremes(points_P2: np.ndarray) -> Iterator[Span]:
    """A smooth outline, cut where it is highest, rightmost, lowest and leftmost."""
    count = len(points_P2)
    x, y = points_P2.T
    cuts: list[int] = []
    for place in sorted({int(y.argmin()), int(x.argmax()), int(y.argmax()), int(x.argmin())}):
        if not cuts or (place - cuts[-1] >= 3 and (cuts[0] - place) % count >= 3):
            cuts.append(place)
    for number, place in enumerate(cuts):
        until = cuts[(number + 1) % len(cuts)]
        length = (until - place) % count or count
        span = points_P2[np.arange(place, place + length + 1) % count]
        yield span, _unit(_way(points_P2, place)), -_unit(_way(points_P2, until))


def _way(points_P2: np.ndarray, place: int, reach: int = 2) -> np.ndarray:
    return points_P2[(place + reach) % len(points_P2)] - points_P2[place - reach]


def _unit(way_2: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(way_2))
    return way_2 / length if length > 1e-9 else np.array([1.0, 0.0])


def _fitted(points_P2: np.ndarray, first_2: np.ndarray, last_2: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """Pieces from the first point to the last, with these directions at the ends."""
    todo, pieces = [(points_P2, first_2, last_2)], []
    while todo:
        points, first, last = todo.pop()
        if len(points) == 2 or _straight(points, tolerance):
            pieces.append(points[-1:])
            continue
        curve, worst = _curve(points, first, last, tolerance)
        if curve is not None:
            pieces.append(curve)
            continue
        worst = int(np.clip(worst, 1, len(points) - 2))
        reach = min(2, worst, len(points) - 1 - worst)
        way = _unit(points[worst + reach] - points[worst - reach])
        todo += [(points[worst:], way, last), (points[: worst + 1], first, -way)]
    return pieces


def _straight(points_P2: np.ndarray, tolerance: float) -> bool:
    way = points_P2[-1] - points_P2[0]
    length = float(np.linalg.norm(way))
    if length < 1e-9:
        return False
    off = points_P2 - points_P2[0]
    return bool((np.abs(off[:, 0] * way[1] - off[:, 1] * way[0]) / length <= 0.8 * tolerance).all())


def _curve(
    points_P2: np.ndarray, first_2: np.ndarray, last_2: np.ndarray, tolerance: float
) -> tuple[np.ndarray | None, int]:
    """One cubic curve as its last three points, or None and the place where it is farthest off."""
    steps = np.linalg.norm(np.diff(points_P2, axis=0), axis=1)
    part_P = np.concatenate([[0.0], np.cumsum(steps)])
    part_P /= max(part_P[-1], 1e-9)
    worst = len(points_P2) // 2
    for _ in range(_TURNS):
        curve_42 = _least_squares(points_P2, part_P, first_2, last_2)
        off_P2 = _weights(part_P) @ curve_42 - points_P2
        square_P = (off_P2**2).sum(1)
        worst = int(square_P.argmax())
        if square_P[worst] <= tolerance**2:
            return curve_42[1:], worst
        if square_P[worst] > 16 * tolerance**2:
            break
        part_P = _nearer(curve_42, off_P2, part_P)
    return None, worst


def _weights(part_P: np.ndarray) -> np.ndarray:
    rest = 1 - part_P
    return np.stack([rest**3, 3 * part_P * rest**2, 3 * part_P**2 * rest, part_P**3], -1)


def _least_squares(points_P2: np.ndarray, part_P: np.ndarray, first_2: np.ndarray, last_2: np.ndarray) -> np.ndarray:
    """The four points of the curve whose tangents at the ends are these and which is nearest to the points."""
    start, end = points_P2[0], points_P2[-1]
    weights_P4 = _weights(part_P)
    one, two = weights_P4[:, 1:2] * first_2, weights_P4[:, 2:3] * last_2
    rest = points_P2 - (weights_P4[:, :2].sum(1, keepdims=True) * start + weights_P4[:, 2:].sum(1, keepdims=True) * end)
    a, b, c = float((one * one).sum()), float((one * two).sum()), float((two * two).sum())
    x, y = float((one * rest).sum()), float((two * rest).sum())
    whole = a * c - b * b
    chord = float(np.linalg.norm(end - start))
    lengths = ((x * c - y * b) / whole, (a * y - b * x) / whole) if abs(whole) > 1e-9 else (0.0, 0.0)
    if min(lengths) < 0.05 * chord or max(lengths) > 3 * max(chord, 1.0):
        lengths = (chord / 3, chord / 3)
    return np.stack([start, start + lengths[0] * first_2, end + lengths[1] * last_2, end])


def _nearer(curve_42: np.ndarray, off_P2: np.ndarray, part_P: np.ndarray) -> np.ndarray:
    """Places along the curve that lie nearer to the points, by one Newton step."""
    speed_32, bend_22 = 3 * np.diff(curve_42, axis=0), 6 * np.diff(curve_42, n=2, axis=0)
    rest, part = 1 - part_P[:, None], part_P[:, None]
    speed = rest**2 * speed_32[0] + 2 * part * rest * speed_32[1] + part**2 * speed_32[2]
    bend = rest * bend_22[0] + part * bend_22[1]
    below = (speed**2).sum(1) + (off_P2 * bend).sum(1)
    step = np.where(np.abs(below) > 1e-9, (off_P2 * speed).sum(1) / np.where(below == 0, 1, below), 0)
    return np.clip(part_P - step, 0, 1)
