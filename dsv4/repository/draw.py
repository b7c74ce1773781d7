"""The import graph as SVG: files on a circle in the order of their folders, imports as curves through the middle.

Sides in pixels. The same graph gives the same bytes.
"""

from __future__ import annotations

import math
import posixpath
from html import escape

from dsv4.errors import InputError
from dsv4.repository.graph import Graph

SIDE, RADIUS = 1000, 300
MOST = 120  # names around the circle that can still be read
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#edc948", "#ff9da7", "#79706e")


def draw(graph: Graph, *, files: int = 60) -> str:
    """The `files` of highest rank with the imports among them; InputError outside 2 to MOST."""
    if isinstance(files, bool) or not isinstance(files, int) or not 2 <= files <= MOST:
        raise InputError(f"from 2 to {MOST} files can be drawn, got {files!r}")
    rank = graph.rank()
    code = [path for path in graph.files if graph.files[path].language] or list(graph.files)
    best = sorted(sorted(code, key=lambda path: (-rank[path], path))[:files], key=_folders)
    angle = {path: 2 * math.pi * index / max(1, len(best)) for index, path in enumerate(best)}
    edges = [edge for edge in graph.imports if edge.source in angle and edge.target in angle]
    folders = sorted({posixpath.dirname(path) for path in best})
    colour = {folder: COLOURS[index % len(COLOURS)] for index, folder in enumerate(folders)}
    top = max((rank[path] for path in best), default=1.0)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" font-family="sans-serif" font-size="9">',
        f"<title>{escape(_drawable(graph.name))}: {len(best)} of {len(graph.files)} files</title>",
        f'<rect width="{SIDE}" height="{SIDE}" fill="#ffffff"/>',
    ]
    for edge in edges:
        (x0, y0), (x1, y1) = _at(angle[edge.source]), _at(angle[edge.target])
        told = escape(_drawable(f"{edge.source} imports {edge.target}: {', '.join(edge.names)}".rstrip(": ")))
        line = colour[posixpath.dirname(edge.source)]
        middle = f"{SIDE / 2:g} {SIDE / 2:g}"
        out.append(
            f'<path d="M{x0:.1f} {y0:.1f}Q{middle} {x1:.1f} {y1:.1f}" fill="none" stroke="{line}" '
            f'stroke-opacity="0.35"><title>{told}</title></path>'
        )
    for path in best:
        out.append(_node(path, angle[path], colour[posixpath.dirname(path)], 3 + 6 * math.sqrt(rank[path] / top)))
    return "\n".join([*out, "</svg>", ""])


def _node(path: str, angle: float, colour: str, radius: float) -> str:
    x, y = _at(angle)
    turn = math.degrees(angle)
    left = 90 < turn < 270
    place, anchor = (-12, "end") if left else (12, "start")
    name = path if len(path) <= 38 else f"…{path[-37:]}"
    return (
        f'<g transform="translate({x:.1f} {y:.1f})"><circle r="{radius:.1f}" fill="{colour}"/>'
        f'<text transform="rotate({turn - 180 * left:.1f})" x="{place}" y="3" text-anchor="{anchor}">'
        f"{escape(_drawable(name))}</text></g>"
    )


def _folders(path: str) -> tuple[str, str]:
    folder, name = posixpath.split(path)
    return folder, name


def _at(angle: float) -> tuple[float, float]:
    return SIDE / 2 + RADIUS * math.cos(angle), SIDE / 2 + RADIUS * math.sin(angle)


def _drawable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)
