"""Line icons: which are taught, under which requests, and which of several drawings a short request means.

A full key "outline heart icon, lucide" is unique. A shorter request means the first icon in the order of STYLE_ORDER
that it fits: "heart icon" is lucide's outline. A synonym is a tag that is no icon's name; it means the icon, in the
same order, that lists the tag earliest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "navy", "purple", "pink", "brown", "gray")

STYLE_ORDER = (
    ("lucide", "outline"),
    ("phosphor", "light outline"),
    ("iconoir", "thin outline"),
    ("lucide-lab", "outline"),
    ("bootstrap", "glyph"),
    ("mdi", "glyph"),
    ("mdi", "solid"),
    ("phosphor", "solid"),
    ("bootstrap", "solid"),
    ("iconoir", "solid"),
    ("phosphor", "duotone"),
    ("flatcolor", "flat colour"),
)


@dataclass(frozen=True, kw_only=True)
class Icon:
    """One icon: its name is unique within its set and style."""

    name: str
    set: str
    style: str
    svg: str
    tags: tuple[str, ...] = ()

    @property
    def full(self) -> str:
        """The request that means this icon and no other."""
        return f"{self.style} {self.name} icon, {self.set}"

    def shorter(self) -> tuple[str, str, str]:
        """Requests by name alone, by style and name, by name and set."""
        return f"{self.name} icon", f"{self.style} {self.name} icon", f"{self.name} icon, {self.set}"


def read_icons(rows: Iterable[Mapping[str, Any]]) -> list[Icon]:
    """Every icon that is no brand's mark, in STYLE_ORDER; a second drawing of one key is called "NAME variant"."""
    order = {key: place for place, key in enumerate(STYLE_ORDER)}
    kept = [row for row in rows if not row["brand"]]
    kept.sort(key=lambda row: order.get((row["src"], row["style"]), len(order)))
    icons: list[Icon] = []
    taken: set[tuple[str, str, str]] = set()
    for row in kept:
        name, number = row["name"], 1
        while (row["src"], row["style"], name) in taken:
            number += 1
            name = f"{row['name']} variant" + (f" {number}" if number > 2 else "")
        taken.add((row["src"], row["style"], name))
        tags = tuple(tag.strip().lower().replace("-", " ") for tag in row["tags"])
        icons.append(Icon(name=name, set=row["src"], style=row["style"], svg=row["svg"], tags=tags))
    return icons


def requests(icons: list[Icon]) -> dict[str, int]:
    """Every request by name to the index of the icon that it means: full keys first, then ever shorter ones."""
    meant = {icon.full: index for index, icon in enumerate(icons)}
    for form in (0, 1, 2):
        for index, icon in enumerate(icons):
            meant.setdefault(icon.shorter()[form], index)
    return meant


def synonyms(icons: list[Icon], *, most: int = 40) -> dict[str, int]:
    """Tags that stand for an icon: no icon is called so, and at most `most` characters long."""
    names = {icon.name for icon in icons}
    taken = requests(icons).keys() | {f"{colour} {name} icon" for colour in COLOURS for name in names}
    best: dict[str, tuple[int, int]] = {}
    for index, icon in enumerate(icons):
        for place, tag in enumerate(icon.tags):
            if tag and f"{tag} icon" not in taken and len(tag) <= most and tag.replace(" ", "").isalnum():
                best[tag] = min(best.get(tag, (place, index)), (place, index))
    return {tag: index for tag, (_, index) in sorted(best.items())}


def colourable(icon_names: set[str], name: str, colour: str) -> bool:
    """Whether "COLOUR NAME icon" can only mean the recoloured icon."""
    return f"{colour} {name}" not in icon_names
