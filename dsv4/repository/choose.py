"""What is shown of each file within a budget: all of it, parts, heads only, or nothing but its name.

First what the question asks for, then the README, then heads of the files that rank highest, then more of them whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dsv4.repository.facts import Symbol
from dsv4.repository.find import Match
from dsv4.repository.graph import Graph
from dsv4.repository.skeleton import skeleton
from dsv4.repository.vocabulary import FILE, FILE_END, NAME, NAME_END, Vocabulary, inert

FULL, PARTS, HEADS = "full", "parts", "heads"
FRONT = ("readme.md", "readme.rst", "readme.txt", "readme", "pyproject.toml", "package.json", "cargo.toml", "go.mod")
ASKED = 24  # symbols that a question brings in whole
SHARE_ASKED, SHARE_FRONT, SHARE_HEADS = 0.5, 0.1, 0.4  # of the budget, at most
MISSES = 60  # files in a row that no longer fit, then it is full
LETTERS = 8  # code has about 4 letters a token; a text with more than this many for its room is not even counted


@dataclass
class Chooser:
    """Counts files once and fills a budget; `shown` maps paths to (level, text as it is packed)."""

    graph: Graph
    counts: Vocabulary
    budget: int
    left: int = 0
    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)
    _known: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = self.budget
        self._marks = sum(len(self.counts.mark(name)) for name in (NAME, NAME_END, FILE, FILE_END))

    def fill(self, rank: Mapping[str, float], asked: Sequence[Match]) -> None:
        """Choose; what was chosen is in `shown`, what it took in `paid`."""
        self._asked(asked)
        front = [p for p in sorted(self.graph.files) if p.lower() in FRONT]
        for path in front:
            self._show(path, FULL, self.graph.files[path].text, most=int(self.budget * SHARE_FRONT))
        order = sorted(self.graph.files, key=lambda path: (-rank[path], path))
        floor = self.left - int(self.budget * SHARE_HEADS)
        misses = 0
        for path in order:
            if misses >= MISSES or self.left <= max(0, floor):
                break
            text = skeleton(self.graph.files[path].text, self.graph.facts[path])
            if path not in self.shown and text and len(text) < len(self.graph.files[path].text):
                misses = 0 if self._show(path, HEADS, text, most=self.left - max(0, floor)) else misses + 1
        self._more(order, FULL)
        self._more(order, HEADS)  # what is too large to be shown whole may still fit in part

    def more(self, rank: Mapping[str, float], tokens: int) -> None:
        """Show more with so many tokens more."""
        self.left += tokens
        order = sorted(self.graph.files, key=lambda path: (-rank[path], path))
        self._more(order, FULL)
        self._more(order, HEADS)

    def _more(self, order: Sequence[str], level: str) -> None:
        misses = 0
        for path in order:
            if misses >= MISSES or self.left <= 0:
                return
            if self.shown.get(path, ("",))[0] == FULL or (level == HEADS and path in self.shown):
                continue
            text = self.graph.files[path].text
            text = text if level == FULL else skeleton(text, self.graph.facts[path])
            if text or level == FULL:
                misses = 0 if self._show(path, level, text) else misses + 1

    def _asked(self, asked: Sequence[Match]) -> None:
        """The files of the best matches: whole when small, otherwise heads with the matches whole."""
        room = int(self.budget * SHARE_ASKED)
        picked: dict[str, list[Symbol]] = {}
        for match in asked[:ASKED]:
            before = dict(self.shown), dict(self.paid), self.left
            symbols = [*picked.get(match.path, ()), match.symbol]
            if self.shown.get(match.path, ("",))[0] == FULL:
                continue
            spent = self.budget - self.left
            file = self.graph.files[match.path]
            text = skeleton(file.text, self.graph.facts[match.path], symbols)
            least = self.budget // 8 if match is not asked[0] else room
            if self._show(match.path, FULL, file.text, most=min(least, room - spent)) or self._show(
                match.path, PARTS, text, most=room - spent
            ):
                picked[match.path] = symbols
            else:
                # The heads of a huge file may be too much; the function alone is still an answer.
                self.shown, self.paid, self.left = before
                lines = file.text.split("\n")
                alone = "\n".join("\n".join(lines[one.first - 1 : one.last]) for one in symbols)
                if self._show(match.path, PARTS, f"[only what was asked for]\n{alone}\n", most=room - spent):
                    picked[match.path] = symbols

    def _show(self, path: str, level: str, text: str, most: int | None = None) -> bool:
        """Show `text` for `path`, in place of what was shown of it, if that takes at most `most` more tokens."""
        room = self.left + self.paid.get(path, 0)
        if most is not None:
            room = min(room, most + self.paid.get(path, 0))
        text = inert(text)
        if room <= 0 or len(text) > room * LETTERS:
            return False
        cost = self._cost(path, level, text)
        if cost > room:
            return False
        self.left += self.paid.get(path, 0) - cost
        self.shown[path], self.paid[path] = (level, text), cost
        return True

    def _cost(self, path: str, level: str, text: str) -> int:
        key = (path, text if level == PARTS else level)
        if key not in self._known:
            name, body = self.counts.encode([inert(path), text])
            self._known[key] = len(name) + len(body) + self._marks
        return self._known[key]
