"""The roofline of a run as SVG: operations a second over operations a byte, and the two ceilings of the card."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BELOW, RIGHT = 900, 560, 80, 60, 250
COLOURS = ("#3366cc", "#cc3311", "#228833", "#aa3377", "#cc8800", "#117788", "#666666", "#884400")


def roofline(data: dict[str, Any]) -> str:
    """Every row with both bytes and operations as a dot under the roof; ValueError where there is nothing to draw."""
    tops, rows = data["ceilings"], drawable(data)
    if not rows:
        raise ValueError("a roofline needs both ceilings and a row with bytes and operations; this run has none")
    dots = [(row["flops"] / row["bytes"], row["flops"] / row["ms"] * 1000, row) for row in rows]
    ridge = tops["products"] / tops["copy"]
    across = _powers([*(dot[0] for dot in dots), ridge * 10])
    up = _powers([*(dot[1] for dot in dots), tops["products"]])

    def at(x: float, y: float) -> tuple[float, float]:
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - BELOW - 40
        return (LEFT + wide * (math.log10(x) - across[0]) / (across[1] - across[0]),
                HEIGHT - BELOW - high * (math.log10(y) - up[0]) / (up[1] - up[0]))  # fmt: skip

    drawn = [*_axes(at, across, up, data), _roof(at, across, up, tops, ridge)]
    groups = list(dict.fromkeys(row["group"] for row in rows if "group" in row))
    for x, y, row in dots:
        place = groups.index(row["group"]) if "group" in row else 0
        left, top = at(x, y)
        title = escape(f"{row['what']}: {y / 1e12:.3g} TFLOP/s, {100 * row.get('share', 0):.0f} %")
        dot = f'cx="{left:.1f}" cy="{top:.1f}" r="4" fill="{COLOURS[place % len(COLOURS)]}" fill-opacity="0.75"'
        drawn.append(f"<circle {dot}><title>{title}</title></circle>")
    for place, group in enumerate(groups):
        top = 60 + 20 * place
        drawn.append(f'<circle cx="{WIDTH - RIGHT + 20}" cy="{top}" r="5" fill="{COLOURS[place % len(COLOURS)]}"/>')
        drawn.append(f'<text x="{WIDTH - RIGHT + 32}" y="{top + 4}">{escape(group)}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13"'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{ground}{"".join(drawn)}</svg>\n'


def drawable(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that have a place under the roof; none where a ceiling is missing."""
    if not {"copy", "products"} <= set(data["ceilings"]):
        return []
    return [row for row in data["rows"] if row.get("bytes") and row.get("flops") and "ms" in row]


def _powers(values: list[float]) -> tuple[int, int]:
    """The powers of ten that enclose all values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _axes(at: Any, across: tuple[int, int], up: tuple[int, int], data: dict[str, Any]) -> list[str]:
    middle = (LEFT + WIDTH - RIGHT) / 2, HEIGHT / 2
    drawn = [f'<text x="{LEFT}" y="24" font-size="15">{escape(str(data["meta"].get("card", "")))}</text>']
    for power in range(across[0], across[1] + 1):
        x, low = at(10.0**power, 10.0 ** up[0])
        _, high = at(10.0**power, 10.0 ** up[1])
        drawn.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="#ddd"/>'
                     f'<text x="{x:.1f}" y="{low + 18:.1f}" text-anchor="middle">{10.0**power:g}</text>')  # fmt: skip
    for power in range(up[0], up[1] + 1):
        left, y = at(10.0 ** across[0], 10.0**power)
        right, _ = at(10.0 ** across[1], 10.0**power)
        drawn.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0 ** (power - 12):g}</text>')
    drawn.append(f'<text x="{middle[0]}" y="{HEIGHT - 14}" text-anchor="middle">operations a byte</text>')
    turned = f'text-anchor="middle" transform="rotate(-90 20 {middle[1]})"'
    drawn.append(f'<text x="20" y="{middle[1]}" {turned}>TFLOP/s</text>')
    return drawn


def _roof(at: Any, across: tuple[int, int], up: tuple[int, int], tops: dict[str, float], ridge: float) -> str:
    least = max(10.0 ** across[0], 10.0 ** up[0] / tops["copy"])  # where the slope enters the drawing
    corners = [at(least, least * tops["copy"]), at(ridge, tops["products"]), at(10.0 ** across[1], tops["products"])]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    return f'<path d="M{line}" fill="none" stroke="#222" stroke-width="2"/>'
