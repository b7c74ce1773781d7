"""A line chart as SVG text: axes, ticks, lines with points, and a legend. Nothing else is needed for a few figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 70, 20, 40, 50


@dataclass(frozen=True)
class Line:
    """A name and its points (x, y)."""

    name: str
    points: tuple[tuple[float, float], ...]


def chart(lines: list[Line], *, title: str, x: str, y: str, log_x: bool = False, log_y: bool = False) -> str:
    """One SVG document; ValueError without points, or where a logarithm is asked of what is not above zero."""
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a chart needs at least one point")
    if any((log_x and px <= 0) or (log_y and py <= 0) for px, py in points):
        raise ValueError("a logarithmic axis holds only numbers above zero")
    across = _Axis([px for px, _ in points], LEFT, WIDTH - RIGHT, log=log_x)
    up = _Axis([py for _, py in points], HEIGHT - BOTTOM, TOP, log=log_y)
    body = [f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="14">{escape(title)}</text>']
    for value in across.ticks():
        at = across.place(value)
        body.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e5e5e5"/>')
        body.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(value)}</text>')
    for value in up.ticks():
        at = up.place(value)
        body.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#e5e5e5"/>')
        body.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [(across.place(px), up.place(py)) for px, py in line.points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in places]
        height = TOP + 12 + 16 * number
        body.append(f'<rect x="{LEFT + 10}" y="{height - 8}" width="10" height="10" fill="{colour}"/>')
        body.append(f'<text x="{LEFT + 26}" y="{height + 1}">{escape(line.name)}</text>')
    body.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x)}</text>')
    turned = f"rotate(-90 16 {HEIGHT / 2})"
    body.append(f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="{turned}">{escape(y)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
    return head + 'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"


class _Axis:
    def __init__(self, values: list[float], start: float, stop: float, *, log: bool) -> None:
        self.log, self.start, self.stop = log, start, stop
        self.low, self.high = (self._in(end) for end in (min(values), max(values)))
        if self.low == self.high:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        pad = 0.04 * (self.high - self.low)
        self.low, self.high = self.low - pad, self.high + pad

    def _in(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def place(self, value: float) -> float:
        return self.start + (self._in(value) - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        if self.log and self.high - self.low > 1.2:
            return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]
        step = (self.high - self.low) / 5
        size = 10 ** math.floor(math.log10(step))
        step = min((factor * size for factor in (1, 2, 5, 10)), key=lambda one: abs(one - step))
        found = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [10**value for value in found] if self.log else found


def _short(value: float) -> str:
    if value and (abs(value) >= 1e4 or abs(value) < 1e-2):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.3g}"
