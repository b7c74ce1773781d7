"""A repository as one prompt: overview and graph, then files with V4's own tokens, within a budget to the token.

Layout: repository name; what is not shown and who imports whom; then each file after those that it imports, what the
question asks for last. The same folder and arguments give the same bytes, so a prefix cache hits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.limits import check_mode
from dsv4.messages import Image, image
from dsv4.repository import vocabulary as words
from dsv4.repository.choose import HEADS, PARTS, Chooser
from dsv4.repository.find import matches
from dsv4.repository.graph import Graph, read_graph
from dsv4.repository.vocabulary import Vocabulary, inert

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

SMALLEST, LARGEST = 64, 1 << 21
SHARE_OVERVIEW, MOST_OVERVIEW = 0.12, 20_000  # of the budget, and in tokens
GROWTH = 128  # tokens kept for what more shown files add to the overview
BEST = 5  # matches whose files come last, nearest to the question


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A mark, a text, or the places of a picture."""

    kind: str  # mark, text or picture
    text: str = ""
    places: int = 0


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A file in the pack: full, parts or heads, and its tokens, marks included."""

    path: str
    level: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Pack:
    """What to send: `text` for an engine that reads the family's marks, or `ids` for one vocabulary."""

    name: str
    budget: int
    tokens: int
    pieces: tuple[Piece, ...]
    shown: tuple[Shown, ...]
    left_out: int
    graph: Graph
    vocabulary: Vocabulary
    pictures: tuple[Pixels, ...] = ()

    @property
    def text(self) -> str:
        """All of it with the V4 family's marks; a picture is one `<｜image｜>`, which an engine widens."""
        return "".join(words.PICTURE if piece.kind == "picture" else piece.text for piece in self.pieces)

    @property
    def ids(self) -> list[int]:
        """All of it as token ids, `tokens` of them, with every place of every picture."""
        texts = [piece.text for piece in self.pieces if piece.kind == "text"]
        encoded = iter(self.vocabulary.encode(texts))
        ids: list[int] = []
        for piece in self.pieces:
            if piece.kind == "text":
                ids += next(encoded)
            else:
                picture = piece.kind == "picture"
                ids += [self.vocabulary.picture] * piece.places if picture else self.vocabulary.mark(piece.text)
        return ids

    def report(self) -> dict[str, Any]:
        """Plain values: what is shown how, what is left out, what was found on the way."""
        levels = {level: sum(one.level == level for one in self.shown) for level in ("full", PARTS, HEADS)}
        return {
            "name": self.name, "tokens": self.tokens, "budget": self.budget, "vocabulary": self.vocabulary.name,
            "files": len(self.graph.files), **levels, "left_out": self.left_out,
            "edges": len(self.graph.imports), "pictures": len(self.pictures),
            "shown": [{"path": one.path, "level": one.level, "tokens": one.tokens} for one in self.shown],
            "notes": [{"path": note.path, "why": note.why} for note in self.graph.notes],
        }  # fmt: skip


def pack(
    root: str | os.PathLike[str] | Graph,
    *,
    budget: int,
    query: str = "",
    pictures: Sequence[str | os.PathLike[str] | Image] = (),
    mode: str = "base",
    counts: str | Vocabulary = "v4",
    ignore: Sequence[str] = (),
) -> Pack:
    """Pack a folder (or a graph that was read before) into at most `budget` tokens.

    query: what will be asked, which brings the functions in question in whole. pictures: those inside the folder stand
    before the file that names them or lies beside them, others after all files. mode: how closely pictures are looked
    at, which says what they cost. Raises InputError for a budget that cannot hold the frame and the pictures.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or not SMALLEST <= budget <= LARGEST:
        raise InputError(f"budget must be a whole number from {SMALLEST} to {LARGEST:,} tokens, got {budget!r}")
    graph = root if isinstance(root, Graph) else read_graph(root, ignore=ignore)
    known = words.vocabulary(counts) if isinstance(counts, str) else counts
    folder = None if isinstance(root, Graph) else Path(root)
    frames = [_frame(one, folder, mode) for one in pictures]
    base = _count(known, [*_head(graph.name), *(piece for _, _, frame in frames for piece in frame)])
    overview_room = max(16, min(int(budget * SHARE_OVERVIEW), MOST_OVERVIEW))
    if budget - base < overview_room:
        raise InputError(f"a budget of {budget:,} tokens is too small: the frame and the pictures take {base:,}")
    asked = matches(graph, query)
    wanted: dict[str, float] = {}
    for match in asked[:200]:
        wanted[match.path] = max(wanted.get(match.path, 0.0), match.score)
    rank = graph.rank(wanted)
    chooser = Chooser(graph=graph, counts=known, budget=budget - base - overview_room)
    chooser.fill(rank, asked)
    # What a small repository's overview leaves of its room goes to files.
    spare = overview_room - known.count(_overview(graph, chooser, rank, known, overview_room)) - GROWTH
    if spare > 0:
        chooser.more(rank, spare)
    overview = _overview(graph, chooser, rank, known, budget - base - sum(chooser.paid.values()))
    order = _order(graph, chooser, rank, [match.path for match in asked[:BEST]])
    pieces = _head(graph.name, overview)
    anchors = {index: _anchor(frames[index][0], order, chooser) for index in range(len(frames))}
    seen: list[int] = []
    for number, path in enumerate([*order, None]):
        here = [index for index in anchors if anchors[index] == number]
        for index in sorted(here, key=lambda index: (not frames[index][0], frames[index][0], index)):
            pieces += frames[index][2]
            seen.append(index)
        pieces += [] if path is None else _file(path, chooser.shown[path][1])
    return Pack(
        name=graph.name, budget=budget, tokens=_count(known, pieces), pieces=tuple(pieces),
        shown=tuple(Shown(path=p, level=chooser.shown[p][0], tokens=chooser.paid[p]) for p in order),
        left_out=len(graph.files) - len(order), graph=graph, vocabulary=known,
        pictures=tuple(frames[index][1] for index in seen),
    )  # fmt: skip


def _anchor(path: str, order: list[str], chooser: Chooser) -> int:
    """Where a picture stands: before the first file that names it, or that lies beside it; else after all files."""
    folder, _, name = path.rpartition("/")
    for number, other in enumerate(order):
        if path and name in chooser.shown[other][1]:
            return number
    for number, other in enumerate(order):
        if path and other.rpartition("/")[0] == folder:
            return number
    return len(order)


def _head(name: str, overview: str = "") -> list[Piece]:
    told = [Piece(kind="text", text=overview)] if overview else []
    return [Piece(kind="mark", text=words.REPO), Piece(kind="text", text=inert(name)),
            Piece(kind="mark", text=words.REPO_END), *told]  # fmt: skip


def _file(path: str, text: str) -> list[Piece]:
    return [
        Piece(kind="mark", text=words.NAME), Piece(kind="text", text=inert(path)),
        Piece(kind="mark", text=words.NAME_END), Piece(kind="mark", text=words.FILE),
        Piece(kind="text", text=text), Piece(kind="mark", text=words.FILE_END),
    ]  # fmt: skip


def _frame(given: Any, folder: Path | None, mode: str) -> tuple[str, Pixels, list[Piece]]:
    """(path inside the repository or '', the picture, its pieces)."""
    from dsv4.pictures_in import open_pictures

    shown = given if isinstance(given, Image) else image(given)
    (opened,) = open_pictures([shown])
    path, caption = "", "picture"
    if isinstance(shown.source, Path):
        caption = shown.source.name
        if folder is not None and shown.source.resolve().is_relative_to(folder.resolve()):
            path = caption = shown.source.resolve().relative_to(folder.resolve()).as_posix()
    places = part("vision").MODES[check_mode(mode)].num_tokens(*opened.size).sequence
    frame = _file(caption, "")
    frame[4] = Piece(kind="picture", places=places[-1] if isinstance(places, tuple) else places)
    return path, opened, frame


def _count(known: Vocabulary, pieces: Sequence[Piece]) -> int:
    texts = [piece.text for piece in pieces if piece.kind == "text"]
    marks = sum(len(known.mark(piece.text)) for piece in pieces if piece.kind == "mark")
    return sum(map(len, known.encode(texts))) + marks + sum(piece.places for piece in pieces)


def _order(graph: Graph, chooser: Chooser, rank: dict[str, float], best: list[str]) -> list[str]:
    """README first, what is imported before what imports it, and the best matches last with the best at the end."""
    from dsv4.repository.choose import FRONT

    last = [path for path in dict.fromkeys(best) if path in chooser.shown][::-1]
    front = [path for path in sorted(chooser.shown) if path.lower() in FRONT and path not in last]
    taken = {*front, *last}
    middle = [path for path in graph.reading_order(rank) if path in chooser.shown and path not in taken]
    return [*front, *middle, *last]


def _overview(graph: Graph, chooser: Chooser, rank: dict[str, float], known: Vocabulary, room: int) -> str:
    """As many lines as fit: how much there is, who imports whom among what is shown, what is not shown."""
    shown = chooser.shown
    lines = [f"{len(graph.files):,} files, {len(shown):,} shown; {len(graph.imports):,} imports among them"]
    by_source: dict[str, list[str]] = {}
    for edge in graph.imports:
        if edge.source in shown and edge.target in shown:
            names = f" ({', '.join(edge.names)})" if edge.names else ""
            by_source.setdefault(edge.source, []).append(edge.target + names)
    hidden = sorted((path for path in graph.files if path not in shown), key=lambda path: (-rank[path], path))
    told = [f"{source} -> {'; '.join(targets)}" for source, targets in by_source.items()]
    told.sort(key=lambda line: (-rank[line.split(" -> ")[0]], line))
    # Links first up to half of the room, then names of what is hidden, then the links that are left.
    half = _fitting(["imports:", *told], known, room // 2)
    rest = ["not shown:", *hidden] if hidden else []
    lines += half if len(half) > 1 else []
    lines = _fitting([*lines, *rest], known, room)
    return "\n".join(lines) + "\n" if lines else ""


def _fitting(lines: list[str], known: Vocabulary, room: int) -> list[str]:
    """The longest beginning of `lines` whose text takes at most `room` tokens."""
    lines = [inert(line) for line in lines]
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high + 1) // 2
        if known.count("\n".join(lines[:middle]) + "\n") <= room:
            low = middle
        else:
            high = middle - 1
    return lines[:low]
