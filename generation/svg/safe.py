"""Rebuild any SVG from an allow-list: nothing is passed through, only known elements and values are written anew.

Source: SVG 2; OWASP guidance on untrusted SVG (allow-list, never strip).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from .animation import ANIMATIONS, MAX_ANIMATIONS, kept_animation
from .tree import SVG_NAMESPACE, Node, load_tree

MAX_USES = 64
_TAGS = frozenset(
    "svg g defs title desc rect circle ellipse line polyline polygon path linearGradient radialGradient stop clipPath "
    "text tspan use symbol".split()
)
_DRAWN = frozenset("rect circle ellipse line polyline polygon path text use".split())
_TEXT = frozenset(("title", "desc", "text", "tspan"))
_PAINTS = frozenset(("fill", "stroke", "stop-color", "color", "clip-path"))
_ATTRIBUTES = frozenset(
    "x y x1 y1 x2 y2 cx cy r rx ry fx fy width height d points viewBox preserveAspectRatio transform "
    "gradientTransform gradientUnits spreadMethod offset clipPathUnits stroke-width stroke-linecap stroke-linejoin "
    "stroke-miterlimit stroke-dasharray stroke-dashoffset fill-rule clip-rule fill-opacity stroke-opacity "
    "stop-opacity opacity font-size font-family font-weight font-style text-anchor dominant-baseline".split()
)
_PAINT = re.compile(
    r"none|currentColor|transparent|inherit|#[0-9a-fA-F]{3,8}|[a-zA-Z]{3,24}"
    r"|(?:rgb|hsl)a?\([\d\s.,%/a-z+-]{1,60}\)|url\(#[\w.-]{1,64}\)(?:\s+(?:none|#[0-9a-fA-F]{3,8}))?"
)
_VALUE = re.compile(r"[\w\s.,#%()+\-]*")
_ID = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_NOT_XML = re.compile("[^\\t\\n\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_LINK = re.compile(r"#[A-Za-z_][\w.-]{0,63}")


def rebuild(
    svg: str | bytes,
    title: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> str:
    """Return a safe, pretty, editable SVG built anew from the allowed parts of another.

    Scripts, event handlers, foreign content, images, style sheets and every address that is not `#id` have no place
    in the result; of animation, what `animation` allows: numbers that change with time, and nothing else. Title and
    description, when given, replace those of the source.

    Args:
        svg: the SVG text or bytes, at most 512,000 bytes, 5,000 elements, 32 levels, 64 uses.
        title: short name for readers and screen readers.
        description: what the drawing shows.
        metadata: plain data written as JSON in `<metadata>`.

    Raises ValueError: larger than a limit, a document type or entities, not SVG, uses inside uses, nothing drawable.
    """
    root = load_tree(svg)
    _check_uses(root)
    if not _draws(root):
        raise ValueError("nothing drawable is left of this SVG once only allowed elements stay")
    return write_tree(root, title, description, metadata)


def write_tree(
    root: Node,
    title: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> str:
    """As `rebuild`, from a tree within the limits."""
    lines = [f"<svg xmlns={quoteattr(SVG_NAMESPACE)}{_attributes_text(root)}>"]
    own = {"title": title, "desc": description}
    for tag, text in own.items():
        if text:
            lines.append(f"  <{tag}>{escape(_clean(text))}</{tag}>")
    if metadata:
        lines.append(
            f"  <metadata>{escape(_clean(json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)))}</metadata>"
        )
    for child in root:
        if not (child.tag in own and own[child.tag]):
            _write(child, 1, lines)
    return "\n".join([*lines, "</svg>", ""])


def _write(node: Node, depth: int, lines: list[str]) -> None:
    if node.tag in ANIMATIONS:
        kept = kept_animation(node)
        if kept is not None:
            text = "".join(f" {key}={quoteattr(value)}" for key, value in kept.items())
            lines.append(f"{'  ' * depth}<{node.tag}{text}/>")
        return
    if (
        node.tag not in _TAGS
        or node.tag == "svg"
        or (node.tag == "use" and not _LINK.fullmatch(node.get("href") or ""))
    ):
        return
    pad, head = "  " * depth, f"<{node.tag}{_attributes_text(node)}"
    if node.tag in _TEXT:
        parts = escape(_clean(node.text.strip()))
        inner: list[str] = []
        for child in node:
            if child.tag == "tspan":
                _write(child, 0, inner)
        lines.append(f"{pad}{head}>{parts}{''.join(inner)}</{node.tag}>")
        return
    inner = []
    for child in node:
        _write(child, depth + 1, inner)
    lines.extend([f"{pad}{head}>", *inner, f"{pad}</{node.tag}>"] if inner else [f"{pad}{head}/>"])


def _attributes_text(node: Node) -> str:
    kept = []
    for key, value in node.attributes.items():
        if _keep(node.tag, key, value):
            kept.append(f" {key}={quoteattr(value)}")
        elif key in ("fill", "stroke"):
            # A refused paint must not fall back to black over the whole drawing.
            kept.append(f' {key}="none"')
    return "".join(kept)


def _keep(tag: str, key: str, value: str) -> bool:
    if key == "href":
        return tag == "use" and _LINK.fullmatch(value) is not None
    if key == "id":
        return _ID.fullmatch(value) is not None
    if key in _PAINTS:
        return _PAINT.fullmatch(value) is not None
    return key in _ATTRIBUTES and _VALUE.fullmatch(value) is not None and "url" not in value.lower()


def _clean(text: str) -> str:
    """Drop characters that XML cannot carry."""
    return _NOT_XML.sub("", text)


def _everyone(node: Node):
    yield node
    for child in node:
        yield from _everyone(child)


def _draws(root: Node) -> bool:
    def inside(node: Node) -> bool:
        return any(child.tag in _DRAWN or (child.tag == "g" and inside(child)) for child in node)

    return inside(root)


def _check_uses(root: Node) -> None:
    """Refuse many animations, many uses, and uses whose target uses again: they multiply."""
    nodes = list(_everyone(root))
    uses = [node for node in nodes if node.tag == "use"]
    if len(uses) > MAX_USES:
        raise ValueError(f"the SVG has {len(uses)} <use> elements; the limit is {MAX_USES}")
    moving = sum(node.tag in ANIMATIONS for node in nodes)
    if moving > MAX_ANIMATIONS:
        raise ValueError(f"the SVG has {moving} animations; the limit is {MAX_ANIMATIONS}")
    targets = {(use.get("href") or "").removeprefix("#") for use in uses}
    for node in nodes:
        if node.get("id") in targets and any(inner.tag == "use" for inner in _everyone(node)):
            raise ValueError("a <use> of something that itself uses is not allowed")
