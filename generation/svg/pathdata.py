"""Path data of any SVG: parse to absolute float segments, transform, split and round onto the grid.

Shape letters: none. A segment is a letter of M L C Q A Z with floats; an affine map is (a, b, c, d, e, f) as in SVG.
Source: SVG 2 section 9; SVG implementation notes B.2 (arc conversion).
"""

from __future__ import annotations

import math
import re

from .drawing import HIGH, LOW, RADII

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SPACE = re.compile(r"[\s,]*")
_FLAG = re.compile("[01]")
_COUNT = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
Affine = tuple[float, float, float, float, float, float]
IDENTITY: Affine = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def _skip(data: str, place: int) -> int:
    """Return the place behind any spaces and commas."""
    gap = _SPACE.match(data, place)
    return gap.end() if gap else place


def commands(data: str) -> list[tuple[str, list[float]]]:
    """Split path data into commands and their numbers, repeated letters filled in. Raises ValueError."""
    found, place, letter = [], _skip(data, 0), ""
    while place < len(data):
        if data[place].isalpha():
            letter = data[place]
            place = _skip(data, place + 1)
        if letter.upper() not in _COUNT or (not found and letter not in "Mm"):
            raise ValueError(f"path data is broken at {data[place : place + 16]!r}")
        numbers = []
        for position in range(_COUNT[letter.upper()]):
            flag = letter in "Aa" and position in (3, 4)
            match = _FLAG.match(data, place) if flag else _NUMBER.match(data, place)
            if match is None:
                raise ValueError(f"path command {letter} lacks a number at {data[place : place + 16]!r}")
            numbers.append(float(match.group()))
            place = _skip(data, match.end())
        found.append((letter, numbers))
        if letter in "Mm":
            letter = "L" if letter == "M" else "l"
        elif letter in "Zz":
            letter = ""
    return found


def absolute(data: str) -> list[tuple]:
    """Parse path data to absolute segments of M L C Q A Z; shorthands are written out. Raises ValueError."""
    segments: list[tuple] = []
    x = y = start_x = start_y = 0.0
    handle, last = (0.0, 0.0), ""
    for letter, numbers in commands(data):
        kind = letter.upper()
        ox, oy = (x, y) if letter.islower() else (0.0, 0.0)
        if kind == "Z":
            segments.append(("Z",))
            x, y = start_x, start_y
        elif kind == "A":
            segments.append(("A", *numbers[:5], numbers[5] + ox, numbers[6] + oy))
            x, y = segments[-1][6:]
        elif kind in "HV":
            x, y = (numbers[0] + ox, y) if kind == "H" else (x, numbers[0] + oy)
            segments.append(("L", x, y))
        else:
            points = [value + (oy if place % 2 else ox) for place, value in enumerate(numbers)]
            if kind in "ST":
                mirrored = last in ("CS" if kind == "S" else "QT")
                points = [*((2 * x - handle[0], 2 * y - handle[1]) if mirrored else (x, y)), *points]
            if kind in "CSQT":
                handle = (points[-4], points[-3])
            segments.append(({"S": "C", "T": "Q"}.get(kind, kind), *points))
            x, y = points[-2:]
            if kind == "M":
                start_x, start_y = x, y
        last = kind
    return segments


def apply(affine: Affine, x: float, y: float) -> tuple[float, float]:
    """Map one point."""
    a, b, c, d, e, f = affine
    return a * x + c * y + e, b * x + d * y + f


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the map that applies `inner` first, then `outer`."""
    a, b, c, d, _, _ = outer
    e, f = apply(outer, inner[4], inner[5])
    a2, b2, c2, d2 = inner[:4]
    return (a * a2 + c * b2, b * a2 + d * b2, a * c2 + c * d2, b * c2 + d * d2, e, f)


def uniform(affine: Affine) -> bool:
    """Say whether a map keeps circles round (rotation, mirror and one scale)."""
    a, b, c, d, _, _ = affine
    same = math.isclose(a * a + b * b, c * c + d * d, rel_tol=1e-3, abs_tol=1e-9)
    return same and math.isclose(a * c + b * d, 0, abs_tol=1e-3 * (a * a + b * b))


def transform(segments: list[tuple], affine: Affine) -> list[tuple]:
    """Map segments; arcs stay arcs where the map and the arc allow it, else they become cubics."""
    result: list[tuple] = []
    x = y = start_x = start_y = 0.0
    scale = math.sqrt(abs(affine[0] * affine[3] - affine[1] * affine[2]))
    upright = math.isclose(affine[1], 0, abs_tol=1e-9) and math.isclose(affine[2], 0, abs_tol=1e-9)
    mirrored = affine[0] * affine[3] - affine[1] * affine[2] < 0
    for segment in segments:
        kind, *numbers = segment
        if kind == "Z":
            result.append(segment)
            x, y = start_x, start_y
            continue
        if kind == "A":
            rx, ry, turn, large, sweep, to_x, to_y = numbers
            rx, ry = abs(rx), abs(ry)
            plain = (rx == ry and uniform(affine)) or (turn % 180 == 0 and upright)
            if plain and rx > 0 and ry > 0:
                sx, sy = (scale, scale) if rx == ry and uniform(affine) else (abs(affine[0]), abs(affine[3]))
                flag = 1 - int(sweep) if mirrored else int(sweep)
                result.append(("A", rx * sx, ry * sy, 0, int(large), flag, *apply(affine, to_x, to_y)))
            else:
                pieces = arc_to_cubics(x, y, segment)
                result += [(piece[0], *_map_points(piece[1:], affine)) for piece in pieces]
        else:
            result.append((kind, *_map_points(numbers, affine)))
        x, y = numbers[-2:]
        if kind == "M":
            start_x, start_y = x, y
    return result


def _map_points(numbers, affine: Affine) -> list[float]:
    return [value for place in range(0, len(numbers), 2) for value in apply(affine, *numbers[place : place + 2])]


def arc_to_cubics(x: float, y: float, segment: tuple) -> list[tuple]:
    """Turn an arc from (x, y) into cubics of at most a quarter turn each, or a line where a radius is 0."""
    _, rx, ry, turn, large, sweep, to_x, to_y = segment
    if rx == 0 or ry == 0 or (x == to_x and y == to_y):
        return [("L", to_x, to_y)]
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    hx, hy = (x - to_x) / 2, (y - to_y) / 2
    px, py = cos * hx + sin * hy, cos * hy - sin * hx
    grow = math.sqrt(max(1.0, (px / rx) ** 2 + (py / ry) ** 2))
    rx, ry = abs(rx) * grow, abs(ry) * grow
    rest = max(0.0, (rx * ry) ** 2 / ((rx * py) ** 2 + (ry * px) ** 2) - 1)
    factor = math.sqrt(rest) * (-1 if bool(large) == bool(sweep) else 1)
    cx, cy = factor * rx * py / ry, -factor * ry * px / rx
    first = math.atan2((py - cy) / ry, (px - cx) / rx)
    span = math.atan2((-py - cy) / ry, (-px - cx) / rx) - first
    span += (2 * math.pi if span < 0 else 0) if sweep else (-2 * math.pi if span > 0 else 0)
    count = max(1, math.ceil(abs(span) / (math.pi / 2) - 1e-9))
    step = span / count
    reach = 4 / 3 * math.tan(step / 4)
    mid_x, mid_y = (x + to_x) / 2, (y + to_y) / 2

    def place(u: float, v: float) -> tuple[float, float]:
        u, v = cx + rx * u, cy + ry * v
        return cos * u - sin * v + mid_x, sin * u + cos * v + mid_y

    pieces = []
    for number in range(count):
        a, b = first + number * step, first + (number + 1) * step
        one = place(math.cos(a) - reach * math.sin(a), math.sin(a) + reach * math.cos(a))
        two = place(math.cos(b) + reach * math.sin(b), math.sin(b) - reach * math.cos(b))
        pieces.append(("C", *one, *two, *place(math.cos(b), math.sin(b))))
    return pieces


def split_curve(x: float, y: float, points: list[float]) -> tuple[list[float], list[float]]:
    """Halve a Bezier curve from (x, y) with the given later points; each half again without its start."""
    level = [(x, y), *zip(points[::2], points[1::2], strict=True)]
    left, right = [level[0]], [level[-1]]
    while len(level) > 1:
        level = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(level, level[1:], strict=False)]
        left.append(level[0])
        right.append(level[-1])
    flat = [value for point in left[1:] for value in point]
    return flat, [value for point in right[::-1][1:] for value in point]


def round_half_up(value: float) -> int:
    """Round to the nearest integer, halves up, as the icon data were rounded."""
    return math.floor(value + 0.5)


def clamp(value: float) -> int:
    """Round a place and keep it within the grid's margin."""
    return min(HIGH, max(LOW, round_half_up(value)))


def fit_radius(value: float) -> int:
    """Round an arc radius to one that has a token."""
    whole = max(1, round_half_up(value))
    return whole if whole <= HIGH else min(RADII, key=lambda radius: (abs(radius / whole - 1), radius))
