"""Figures as SVG text: a page, words, an axis, and a line chart with intervals, borders and a legend.

Every figure lies on a white card with dark words of its own, so that a dark viewer shows it as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#0a7ea4", "#bf3989", "#57606a", "#d4a72c", "#116329")
INK, FAINT, GRID = "#1f2328", "#656d76", "#e5e5e5"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 70, 20, 40, 50
LEGEND = 130  # width of a legend that stands beside the chart


@dataclass(frozen=True)
class Line:
    """A name and its points (x, y); `spread` has the lowest and highest y of each point where these are known.

    faint: drawn thin and pale, without points and without a place in the legend, as where `named` is False.
    colour: by its number without.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float], ...] = ()
    faint: bool = False
    dots: bool = True
    colour: str = ""
    named: bool = True


@dataclass(frozen=True, kw_only=True)
class Border:
    """A vertical line at `x` where something named begins; the name stands at its right, above the chart."""

    x: float
    name: str


def page(body: list[str], *, width: float, height: float) -> str:
    """One SVG document on a white card; sides in its own units."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" '
    card = f'<rect width="{width:g}" height="{height:g}" rx="6" fill="white"/>'
    return f'{head}font-size="11" fill="{INK}">\n{card}\n' + "\n".join(body) + "\n</svg>\n"


def words(x: float, y: float, said: str, *, anchor: str = "start", more: str = "") -> str:
    """A text at a place; `anchor` is start, middle or end, `more` are further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{" " * bool(more)}{more}>{escape(said)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, *, colour: str = GRID, more: str = "") -> str:
    """A straight line."""
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}"{" " * bool(more)}{more}/>'


def box(x: float, y: float, width: float, height: float, colour: str, *, more: str = "", told: str = "") -> str:
    """A filled rectangle; `told` is what a pointer over it shows."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    end = f"><title>{escape(told)}</title></rect>" if told else "/>"
    return f'<rect {place} fill="{colour}"{" " * bool(more)}{more}{end}'


def dot(x: float, y: float, colour: str, *, radius: float = 3, more: str = "") -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"{" " * bool(more)}{more}/>'


def chart(
    lines: list[Line],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    borders: tuple[Border, ...] = (),
    legend: str = "top",
    bounds_y: tuple[float, ...] = (),
    width: float = WIDTH,
) -> str:
    """One SVG document; ValueError without points, or where a logarithm is asked of what is not above zero.

    legend: "top" or "bottom" of the chart, at the left, or "beside" it.
    bounds_y: numbers that the y axis holds at least.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a chart needs at least one point")
    ends = [
        (px, bound) for line in lines for (px, _), pair in zip(line.points, line.spread, strict=False) for bound in pair
    ]
    if any((log_x and px <= 0) or (log_y and py <= 0) for px, py in points + ends):
        raise ValueError("a logarithmic axis holds only numbers above zero")
    stop = width - RIGHT - LEGEND * (legend == "beside")
    across = Axis([px for px, _ in points], LEFT, stop, log=log_x)
    up = Axis([py for _, py in points + ends] + list(bounds_y), HEIGHT - BOTTOM, TOP, log=log_y)
    body = [words(width / 2, 18, title, anchor="middle", more='font-size="14"')]
    for value in across.ticks():
        at = across.place(value)
        body.append(rule(at, TOP, at, HEIGHT - BOTTOM))
        body.append(words(at, HEIGHT - BOTTOM + 16, short(value), anchor="middle"))
    for value in up.ticks():
        at = up.place(value)
        body += [rule(LEFT, at, stop, at), words(LEFT - 6, at + 4, short(value), anchor="end")]
    body += _borders(borders, across)
    for number, line in enumerate(lines):
        body += _drawn(line, across, up, line.colour or COLOURS[number % len(COLOURS)])
    body += _legend(lines, stop + 2 if legend == "beside" else LEFT, low=legend == "bottom")
    body.append(words((LEFT + stop) / 2, HEIGHT - 12, x, anchor="middle"))
    body.append(words(16, HEIGHT / 2, y, anchor="middle", more=f'transform="rotate(-90 16 {HEIGHT / 2})"'))
    return page(body, width=width, height=HEIGHT)


def _borders(borders: tuple[Border, ...], across: Axis) -> list[str]:
    body, free = [], [0.0, 0.0, 0.0]  # where the names on each of three heights end
    for border in borders:
        at = across.place(border.x)
        height = next((place for place, end in enumerate(free) if end <= at), 0)
        free[height] = at + 8 + 6.2 * len(border.name)
        body.append(rule(at, TOP - 10, at, HEIGHT - BOTTOM, colour=FAINT, more='stroke-dasharray="3 3"'))
        body.append(words(at + 3, TOP - 2 + 11 * height, border.name, more=f'fill="{FAINT}"'))
    return body


def _drawn(line: Line, across: Axis, up: Axis, colour: str) -> list[str]:
    places = [(across.place(px), up.place(py)) for px, py in line.points]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    style = 'stroke-width="1" opacity="0.25"' if line.faint else 'stroke-width="2"'
    body = [f'<polyline points="{path}" fill="none" stroke="{colour}" {style}/>']
    for (px, _), (low, high) in zip(places, line.spread, strict=False):
        body.append(rule(px, up.place(low), px, up.place(high), colour=colour, more='stroke-width="1.2"'))
        body += [rule(px - 4, up.place(end), px + 4, up.place(end), colour=colour) for end in (low, high)]
    return body + [dot(px, py, colour) for px, py in places] * (line.dots and not line.faint)


def _legend(lines: list[Line], left: float, *, low: bool) -> list[str]:
    named = sum(line.named and not line.faint for line in lines)
    body, height = [], HEIGHT - BOTTOM - 16 * named if low else TOP + 12
    for number, line in enumerate(lines):
        if line.named and not line.faint:
            body.append(box(left + 10, height - 8, 10, 10, line.colour or COLOURS[number % len(COLOURS)]))
            body.append(words(left + 26, height + 1, line.name))
            height += 16
    return body


class Axis:
    """Where numbers lie between two ends of a figure, and which of them are written beside it."""

    def __init__(self, values: list[float], start: float, stop: float, *, log: bool = False, pad: float = 0.04) -> None:
        self.log, self.start, self.stop = log, start, stop
        self.low, self.high = (self._in(end) for end in (min(values), max(values)))
        if self.low == self.high:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        pad *= self.high - self.low
        self.low, self.high = self.low - pad, self.high + pad

    def _in(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def place(self, value: float) -> float:
        """The place of a number, in units of the figure."""
        return self.start + (self._in(value) - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round numbers, about five of them."""
        if self.log and self.high - self.low > 1.2:
            return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            found = [digit * 10.0**power for power in decades for digit in (1, 2, 4, 8)]
            found = [value for value in found if self.low <= math.log10(value) <= self.high]
            if len(found) > 1:
                return found
        step = (self.high - self.low) / 5
        size = 10 ** math.floor(math.log10(step))
        step = min((factor * size for factor in (1, 2, 5, 10)), key=lambda one: abs(one - step))
        found = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [10**value for value in found] if self.log else found


def short(value: float) -> str:
    """A number in a few characters."""
    if value and (abs(value) >= 1e4 or abs(value) < 1e-2):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.3g}"
