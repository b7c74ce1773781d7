"""Boxes in what a model writes: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>`, numbers of 0 to 999.

A box's numbers are thousandths of the page's width and height. They are found by searching, never by running what was
written: the text comes from a model that read somebody's page.
Source: DeepSeek-OCR (arXiv 2510.18234), section 3.4; `<|det|>label [x1, y1, x2, y2]<|/det|>` is Unlimited-OCR's form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 999
MOST_BOXES = 2000  # of one page
MOST_LABEL = 400  # characters
PICTURE_LABELS = ("image", "figure", "picture", "chart")

_REF, _REF_END, _DET, _DET_END = "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>"
_TOKENS = (_REF, _REF_END, _DET, _DET_END)
_NUMBERS = re.compile(r"\[\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Where something is on its page, in thousandths: 0 is the left or upper edge, 999 the right or lower one."""

    label: str
    left: int
    top: int
    right: int
    bottom: int

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) on a page of this size in pixels."""
        across, down = width / LARGEST, height / LARGEST
        return self.left * across, self.top * down, self.right * across, self.bottom * down


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mark:
    """One mark in the text: from `start` to `end`, with its label and what stands between the det tokens."""

    start: int
    end: int
    label: str
    inside: str


def parse_boxes(text: str) -> list[Box]:
    """All boxes in the order written; one with a number outside 0..999 or without area is left out."""
    boxes: list[Box] = []
    for mark in _marks(text):
        for found in _NUMBERS.finditer(mark.inside):
            x1, y1, x2, y2 = (int(number) for number in found.groups())
            if not all(0 <= number <= LARGEST for number in (x1, y1, x2, y2)) or x1 == x2 or y1 == y2:
                continue
            left, right = sorted((x1, x2))
            top, bottom = sorted((y1, y2))
            boxes.append(Box(label=mark.label, left=left, top=top, right=right, bottom=bottom))
            if len(boxes) == MOST_BOXES:
                return boxes
    return boxes


def without_boxes(text: str) -> str:
    """The text for people: marks taken out, a picture's replaced by a comment that says where it is."""
    parts, place = [], 0
    for mark in _marks(text):
        parts.append(_plain(text[place : mark.start]))
        found = _NUMBERS.search(mark.inside)
        if mark.label.lower() in PICTURE_LABELS and found:
            parts.append(f"<!-- {mark.label.lower()} at {', '.join(found.groups())} -->")
        place = mark.end
    return "".join(parts) + _plain(text[place:])


def settled(text: str) -> int:
    """How many characters of a text that is still being written can no longer change their meaning."""
    last = text.rfind(_DET_END)
    last = 0 if last < 0 else last + len(_DET_END)
    opened = [place for token in (_REF, _DET) if (place := text.find(token, last)) >= 0]
    end = min([len(text), *opened])
    tail = text.rfind("<", max(0, end - len(_REF_END)), end)
    begun = text[tail:end] if tail >= 0 else ""
    return tail if begun and any(token.startswith(begun) and token != begun for token in _TOKENS) else end


def _plain(text: str) -> str:
    for token in _TOKENS:
        text = text.replace(token, "")
    return text


def _marks(text: str) -> Iterator[_Mark]:
    """Every closed mark, found by walking from one end token to the next: time grows with the text, not its square."""
    place = 0
    while True:
        end = text.find(_DET_END, place)
        if end < 0:
            return
        opening = text.rfind(_DET, place, end)
        if opening < 0:
            place = end + len(_DET_END)
            continue
        inside = text[opening + len(_DET) : end]
        start, label = opening, inside.split("[", 1)[0].strip()
        before = text[place:opening].rstrip()
        if before.endswith(_REF_END):
            close = place + len(before) - len(_REF_END)
            named = text.rfind(_REF, place, close)
            if named >= 0:
                start, label = named, text[named + len(_REF) : close].strip()
        place = end + len(_DET_END)
        yield _Mark(start=start, end=place, label=label[:MOST_LABEL], inside=inside)
