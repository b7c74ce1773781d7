"""Parse SVG text with hard limits into a small tree without namespaces, before anything looks at it.

Source: SVG 2; defusedxml refuses document types and entities, the limits on size, depth and nodes are ours.
"""

from __future__ import annotations

import dataclasses
from xml.etree.ElementTree import ParseError

MAX_BYTES = 512_000
MAX_NODES = 5_000
MAX_DEPTH = 32
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"


@dataclasses.dataclass(eq=False)
class Node:
    """One element of the SVG namespace: local tag, attributes (own names, style written out), children, text."""

    tag: str
    attributes: dict[str, str]
    children: list[Node] = dataclasses.field(default_factory=list)
    text: str = ""

    def get(self, key: str, default: str | None = None) -> str | None:
        return self.attributes.get(key, default)

    def __iter__(self):
        return iter(self.children)


class _Builder:
    """The parser's target: builds Nodes and stops at the first limit."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.stack: list[Node] = []
        self.count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise ValueError(f"the SVG has more than {MAX_NODES} elements")
        if len(self.stack) >= MAX_DEPTH:
            raise ValueError(f"the SVG nests deeper than {MAX_DEPTH} elements")
        node = Node(_local(tag), _attributes(attributes))
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.root = node
        self.stack.append(node)

    def end(self, tag: str) -> None:
        self.stack.pop()

    def data(self, text: str) -> None:
        if self.stack and len(self.stack[-1].text) < 2_000:
            self.stack[-1].text += text

    def close(self) -> Node | None:
        return self.root


def load_tree(svg: str | bytes) -> Node:
    """Parse SVG text. Raises ValueError for anything too large, too deep, with a DTD, broken, or not SVG."""
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    data = svg.encode() if isinstance(svg, str) else svg
    if len(data) > MAX_BYTES:
        raise ValueError(f"the SVG has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    try:
        parser.feed(data)
        parser.close()
    except DefusedXmlException:
        raise ValueError("the SVG carries a document type or entities; send it without <!DOCTYPE ...>") from None
    except (ParseError, LookupError, UnicodeError) as error:
        raise ValueError(f"not well-formed SVG: {error}") from None
    root = builder.root
    if root is None or root.tag != "svg":
        raise ValueError(f"the outermost element is <{root.tag if root else ''}>, not <svg>")
    return root


def _local(tag: str) -> str:
    """Return the local name in the SVG namespace or none; other namespaces get a name nothing allows."""
    if tag.startswith("{"):
        namespace, _, name = tag[1:].partition("}")
        return name if namespace == SVG_NAMESPACE else f"foreign:{name}"
    return tag


def _attributes(found: dict[str, str]) -> dict[str, str]:
    """Keep attributes without a namespace (and a link's target), and write a style attribute out as attributes."""
    kept = {key: value.strip() for key, value in found.items() if not key.startswith("{")}
    if _LINK in found:
        kept.setdefault("href", found[_LINK].strip())
    for declaration in kept.pop("style", "").split(";"):
        key, colon, value = declaration.partition(":")
        if colon:
            kept[key.strip().lower()] = value.replace("!important", "").strip()
    return kept
