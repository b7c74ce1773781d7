"""Any SVG file as tokens, with an account of what was lost on the way: parts left out, colours moved, pixels changed.

Shape letters: H, W pixels. Source: the loss is measured on renderings, as picture-to-SVG work does (SSIM, MSE).
"""

from __future__ import annotations

import collections
import copy
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .drawing import write
from .normalise import canonical_drawing
from .palette import lab, nearest_paint, rgb_of
from .render import rasterise
from .safe import rebuild, write_tree
from .simplify import shortened
from .tokens import vocabulary
from .tree import Node, load_tree

if TYPE_CHECKING:
    import numpy as np

SIDE = 96  # pixels at which the loss is measured
_KEPT = frozenset(
    "svg g a switch title desc metadata defs rect circle ellipse line polyline polygon path use symbol".split()
)
_HIDDEN = ("defs", "symbol", "clipPath", "mask", "pattern", "marker", "linearGradient", "radialGradient", "metadata")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenised:
    """An SVG as token ids and canonical text, and what the way there cost.

    `left_out`: elements by tag that have no tokens. `colours`: paints that moved, with their distance in Lab.
    `pixels`: mean difference of the two renderings, 0..1. `ssim`: their likeness, 1 for the same.
    """

    ids: tuple[int, ...]
    text: str
    left_out: dict[str, int]
    colours: dict[str, float]
    shortened: bool
    pixels: float
    ssim: float

    def report(self) -> str:
        """The loss in one line for people."""
        parts = [f"{len(self.ids)} tokens", f"likeness {self.ssim:.3f}", f"pixels differ by {self.pixels:.1%}"]
        if self.left_out:
            parts.append("left out " + ", ".join(f"{count} <{tag}>" for tag, count in self.left_out.items()))
        if self.colours:
            paint, gap = max(self.colours.items(), key=lambda pair: pair[1])
            parts.append(f"{len(self.colours)} colours moved, {paint} the farthest ({gap:.0f} Lab)")
        if self.shortened:
            parts.append("simplified to fit")
        return "; ".join(parts)


def tokenise(svg: str | bytes, max_tokens: int = 1200) -> Tokenised:
    """Normalise, quantise and encode an SVG from anywhere, and measure the loss.

    Raises ValueError for what `load_tree` refuses, for nothing drawable, and where even the simplified drawing has
    more than `max_tokens` tokens.
    """
    root = load_tree(svg)
    plain = load_tree(rebuild(svg))
    _resolve(plain)
    vocab = vocabulary()
    drawing = canonical_drawing(write_tree(plain))
    canonical = write(drawing)
    ids = vocab.encode_drawing(drawing)
    simpler = len(ids) > max_tokens
    if simpler:
        canonical = shortened(canonical, max_tokens)
        ids = vocab.encode(canonical)
    before, after = _shown(svg), _shown(canonical)
    return Tokenised(
        ids=tuple(ids),
        text=canonical,
        left_out=_left_out(root),
        colours=_moved(root),
        shortened=simpler,
        pixels=float(abs(before - after).mean()) if before is not None else 1.0,
        ssim=likeness(before, after) if before is not None else 0.0,
    )


def likeness(one_HW3: np.ndarray, other_HW3: np.ndarray) -> float:
    """Structural similarity (SSIM) of two pictures in 0..1, over blocks of 8 by 8 pixels; 1 means the same."""
    import numpy as np

    def blocks(picture_HW3: np.ndarray) -> np.ndarray:
        grey_HW = picture_HW3.mean(-1)
        height, width = (side // 8 * 8 for side in grey_HW.shape)
        cut = grey_HW[:height, :width].reshape(height // 8, 8, width // 8, 8)
        return cut.transpose(0, 2, 1, 3).reshape(-1, 64)

    a, b = blocks(one_HW3), blocks(other_HW3)
    mean_a, mean_b = a.mean(1), b.mean(1)
    both = ((a - mean_a[:, None]) * (b - mean_b[:, None])).mean(1)
    steady, contrast = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + steady) * (2 * both + contrast)
    bottom = (mean_a**2 + mean_b**2 + steady) * (a.var(1) + b.var(1) + contrast)
    return float(np.mean(top / bottom))


def _shown(svg: str | bytes) -> np.ndarray | None:
    """The drawing in 0..1 on white, whole in a square as tokens have one; None where it cannot be drawn."""
    import numpy as np

    root = load_tree(rebuild(svg))
    sides = [(root.get(key) or "").removesuffix("px") for key in ("width", "height")]
    if "viewBox" not in root.attributes and all(sides):
        root.attributes["viewBox"] = f"0 0 {' '.join(sides)}"
    root.attributes |= {"width": str(SIDE), "height": str(SIDE)}
    try:
        return rasterise(_squared(root), SIDE).astype(np.float64) / 255
    except ValueError:
        return None


def _squared(root: Node) -> str:
    """The drawing with its view box grown to a square around its middle, so that its rendering is one."""
    box = [float(number) for number in (root.get("viewBox") or "").replace(",", " ").split()]
    if len(box) == 4 and min(box[2:]) > 0:
        side = max(box[2:])
        left, top = box[0] - (side - box[2]) / 2, box[1] - (side - box[3]) / 2
        root.attributes["viewBox"] = f"{left:g} {top:g} {side:g} {side:g}"
    return write_tree(root)


def _resolve(root: Node) -> None:
    """Put the used parts where they are used, and a gradient's mean colour where it paints."""
    named = {name: node for node in _everyone(root) if (name := node.get("id"))}
    means = {name: mean for name, node in named.items() if (mean := _mean(node))}

    def visit(node: Node) -> None:
        for key in ("fill", "stroke"):
            value = node.get(key) or ""
            if value.startswith("url(#") and value[5:].partition(")")[0] in means:
                node.attributes[key] = means[value[5:].partition(")")[0]]
        node.children = [_placed(child, named) for child in node.children if child.tag not in _HIDDEN]
        for child in node.children:
            visit(child)

    visit(root)


def _placed(node: Node, named: dict[str, Node]) -> Node:
    target = named.get((node.get("href") or "").removeprefix("#"))
    if node.tag != "use" or target is None:
        return node
    place = f"translate({node.get('x', '0')} {node.get('y', '0')})"
    style = {key: value for key, value in node.attributes.items() if key not in ("href", "x", "y", "width", "height")}
    style["transform"] = f"{style.get('transform', '')} {place}".strip()
    drawn = copy.deepcopy(target)
    if drawn.tag == "symbol":
        drawn.tag = "g"
    return Node("g", style, [drawn])


def _mean(node: Node) -> str | None:
    """A gradient's mean colour over its stops."""
    if node.tag not in ("linearGradient", "radialGradient"):
        return None
    stops = [child for child in node if child.tag == "stop"]
    colours = []
    for stop in stops:
        try:
            colours.append(rgb_of(stop.get("stop-color") or "black"))
        except ValueError:
            continue
    if not colours:
        return None
    red, green, blue = (round(sum(part) / len(colours)) for part in zip(*colours, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _everyone(node: Node) -> Iterator[Node]:
    yield node
    for child in node:
        yield from _everyone(child)


def _left_out(root: Node) -> dict[str, int]:
    counts: collections.Counter[str] = collections.Counter()

    def look(node: Node) -> None:
        if node.tag not in _KEPT:
            counts[node.tag] += 1
        if node.tag not in _HIDDEN:
            for child in node:
                look(child)

    look(root)
    return dict(counts)


def _moved(root: Node) -> dict[str, float]:
    """Paints of the source that the palette does not hold, with their distance to the one that stands for them."""
    import numpy as np

    found: dict[str, float] = {}

    def look(node: Node) -> None:
        for key in ("fill", "stroke"):
            paint = (node.get(key) or "none").strip()
            if paint.lower() in ("none", "inherit", "currentcolor", "transparent") or paint.startswith("url("):
                continue
            try:
                pair = lab(np.array([rgb_of(paint), rgb_of(nearest_paint(paint))]))
            except ValueError:
                continue
            gap = float(np.linalg.norm(pair[0] - pair[1]))
            if gap > 0.5:
                found[paint] = round(gap, 1)
        for child in node:
            look(child)

    look(root)
    return found
