"""Edit a drawing by words: a colour, a removal, a move or a size, done on the tree so that nothing else changes.

Shape letters: none; lengths are in the drawing's own units. Source: SVG 2; the words are ours, and closed.
"""

from __future__ import annotations

import collections
import difflib
import re
from collections.abc import Callable, Iterator

from .palette import NAMED, lab, rgb_of
from .safe import rebuild, write_tree
from .tree import Node, load_tree

_KINDS = {
    "circle": ("circle",), "dot": ("circle",), "oval": ("ellipse",), "ellipse": ("ellipse",), "square": ("rect",),
    "rectangle": ("rect",), "box": ("rect",), "line": ("line", "polyline"), "path": ("path",), "polygon": ("polygon",),
    "group": ("g",), "text": ("text",), "shape": ("circle", "ellipse", "rect", "line", "polyline", "path", "polygon"),
}  # fmt: skip
_WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_SIZES = {"bigger": 1.25, "larger": 1.25, "smaller": 0.8}
_PLACES = {"circle": ("cx", "cy"), "ellipse": ("cx", "cy"), "rect": ("x", "y"), "text": ("x", "y")}
_DRAWN = frozenset("g circle ellipse rect line polyline polygon path text use".split())
_STEP = 8  # a move without a number goes one part in so many of the canvas
EXAMPLES = "'make it blue', 'make the circle red', 'remove the red circle', 'move it left by 10', 'make it bigger'"


def edit(svg: str, request: str) -> str:
    """Return the drawing with one edit done; everything else keeps its text, line by line.

    'make X COLOUR', 'remove X', 'move X left|right|up|down [by N]', 'make X bigger|smaller'. X is 'it', or 'the' with a
    colour, a kind of shape, or both. A colour of several-coloured 'it' replaces the colour that is used most.

    Raises ValueError for words that are none of these, for an X that is not there, and for removing all there is.
    """
    words = re.sub(r"\s+", " ", request.strip().rstrip(".!").lower())
    root = load_tree(rebuild(svg))
    for pattern, act in _REQUESTS:
        found = re.fullmatch(pattern, words)
        if found:
            act(root, *found.groups())
            return write_tree(root)
    raise ValueError(f"'{request.strip()}' is no edit that is known; examples: {EXAMPLES}")


def _recolour(root: Node, what: str, colour: str) -> None:
    try:
        rgb_of(colour)
    except ValueError:
        near = difflib.get_close_matches(colour, [*NAMED, *_KINDS], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"'{colour}' is no colour{hint} Named ones are {', '.join(NAMED)}") from None
    chosen = [root] if what == "it" else _chosen(root, what)
    counts: collections.Counter[str] = collections.Counter()
    for node in chosen:
        for one, inherited in _painted(root, node):
            counts.update(inherited if one.tag in _DRAWN - {"g"} else ())
    if not counts:
        raise ValueError(f"'{what}' has no colour that could be changed")
    old = counts.most_common(1)[0][0]
    for node in chosen:
        own = [one for one, _ in _painted(root, node)]
        changed = False
        for one in own:
            for key in ("fill", "stroke"):
                if one.get(key) == old:
                    one.attributes[key] = colour
                    changed = True
        if not changed:  # the colour comes from further out, or is SVG's own black
            stroke = _inherited(root, node, "stroke", "none") == old
            node.attributes["stroke" if stroke else "fill"] = colour


def _remove(root: Node, what: str) -> None:
    chosen = _chosen(root, what)
    left = sum(node.tag in _DRAWN - {"g"} for node in _everyone(root))
    gone = sum(node.tag in _DRAWN - {"g"} for one in chosen for node in _everyone(one))
    if gone >= left:
        raise ValueError("that would remove all there is")
    for parent in list(_everyone(root)):
        parent.children = [child for child in parent.children if not any(child is one for one in chosen)]


def _move(root: Node, what: str, way: str, by: str | None) -> None:
    right, down = _WAYS[way]
    length = float(by) if by else _canvas(root)[2] / _STEP
    for node in _parts(root, what):
        names = _PLACES.get(node.tag)
        if names and not node.get("transform") and not any("anim" in child.tag for child in node):
            for name, step in zip(names, (right * length, down * length), strict=True):
                if step:
                    node.attributes[name] = f"{float(node.get(name) or 0) + step:g}"
        else:
            place = f"translate({right * length:g} {down * length:g})"
            node.attributes["transform"] = f"{place} {node.get('transform') or ''}".strip()


def _resize(root: Node, what: str, size: str) -> None:
    times = _SIZES[size]
    left, top, width, height = _canvas(root)
    for node in _parts(root, what):
        names = _PLACES.get(node.tag)
        round_one = what != "it" and node.tag in ("circle", "ellipse") and not node.get("transform")
        if round_one:
            for key in ("r", "rx", "ry"):
                if node.get(key):
                    node.attributes[key] = f"{float(node.attributes[key]) * times:g}"
            continue
        x, y = left + width / 2, top + height / 2
        if what != "it" and names and node.tag == "rect":
            x, y = (
                float(node.get(name) or 0) + float(node.get(side) or 0) / 2
                for name, side in zip(names, ("width", "height"), strict=True)
            )
        place = f"translate({x * (1 - times):g} {y * (1 - times):g}) scale({times:g})"
        node.attributes["transform"] = f"{place} {node.get('transform') or ''}".strip()


_REQUESTS: tuple[tuple[str, Callable[..., None]], ...] = (
    (rf"(?:make|paint|colou?r) (it|the .+?) ({'|'.join(_SIZES)})", _resize),
    (r"(?:make|paint|colou?r|turn) (it|the .+?) ([a-z]+|#[0-9a-f]{3,6})", _recolour),
    (r"(?:remove|delete|take away|erase) (the .+)", _remove),
    (rf"(?:move|shift) (it|the .+?) (?:to the )?({'|'.join(_WAYS)})(?: by (\d+(?:\.\d+)?))?", _move),
)


def _chosen(root: Node, what: str) -> list[Node]:
    """The shapes that 'the red circle' means, in order; 'circles' means the same as 'circle'."""
    *colours, kind = what.removeprefix("the ").split(" ")
    kind = kind if kind in _KINDS else kind.removesuffix("es" if kind == "boxes" else "s")
    if kind not in _KINDS or len(colours) > 1:
        near = difflib.get_close_matches(what.split(" ")[-1], _KINDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"'{what}' is no part that can be named{hint} Parts are {', '.join(_KINDS)}")
    found = [node for node in _everyone(root) if node.tag in _KINDS[kind]]
    if colours:
        found = [node for node in found if colours[0] in _colour_names(root, node)]
    if not found:
        raise ValueError(f"there is no '{what.removeprefix('the ')}' in this drawing; {_inventory(root)}")
    return found


def _parts(root: Node, what: str) -> list[Node]:
    return [child for child in root if child.tag in _DRAWN] if what == "it" else _chosen(root, what)


def _painted(root: Node, node: Node) -> Iterator[tuple[Node, list[str]]]:
    """Every node from `node` on, with the paints it shows."""
    for one in _everyone(node):
        paints = [_inherited(root, one, "fill", "black"), _inherited(root, one, "stroke", "none")]
        yield one, [paint for paint in paints if paint != "none"]


def _inherited(root: Node, node: Node, key: str, default: str) -> str:
    trail = _trail(root, node)
    return next((value for one in reversed(trail) if (value := one.get(key))), default)


def _trail(root: Node, node: Node) -> list[Node]:
    """The nodes from the root down to `node`."""
    if root is node:
        return [root]
    for child in root:
        below = _trail(child, node)
        if below:
            return [root, *below]
    return []


def _colour_names(root: Node, node: Node) -> set[str]:
    """The palette's names for what a shape shows."""
    import numpy as np

    names = set()
    for paint in next(_painted(root, node))[1]:
        try:
            wanted = lab(np.array([rgb_of(paint)]))
        except ValueError:
            continue
        table = lab(np.array([rgb_of(name) for name in NAMED]))
        names |= {paint, NAMED[int(np.linalg.norm(table - wanted, axis=-1).argmin())]}
    return names


def _inventory(root: Node) -> str:
    counts = collections.Counter(node.tag for node in _everyone(root) if node.tag in _DRAWN)
    return "it has " + ", ".join(f"{count} <{tag}>" for tag, count in counts.items())


def _everyone(node: Node) -> Iterator[Node]:
    yield node
    for child in node:
        yield from _everyone(child)


def _canvas(root: Node) -> tuple[float, float, float, float]:
    box = [float(number) for number in (root.get("viewBox") or "0 0 96 96").replace(",", " ").split()]
    return (box[0], box[1], box[2], box[3]) if len(box) == 4 else (0, 0, 96, 96)
