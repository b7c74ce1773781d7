"""Judges reading: printed lines that training never showed, in faces it did and did not, and the character error.

Source: character error rate by Levenshtein 1966, edits over the length of what is printed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dsv4.data.glyphs import Faces, GlyphSheets, render_text
from dsv4.data.glyphs_layout import SIDE, Page, print_lines, printable_words, random_lines, random_page
from dsv4.data.store import load_table
from dsv4.errors import unknown

KINDS = ("seen fonts", "held-out fonts")
QUESTION = "What does it say?"


@dataclass(frozen=True, kw_only=True)
class ReadingCase:
    """One printed picture and what it says."""

    truth: str
    page: Page = field(repr=False)
    prompt: str = QUESTION


def cases(data_dir: Path, kind: str, *, limit: int, seed: int = 0) -> list[ReadingCase]:
    """`limit` pictures of lines that training never prints. Raises InputError for an unknown kind."""
    if kind not in KINDS:
        raise unknown("kind of reading case", kind, KINDS)
    rng = random.Random(f"reading {kind} {seed}")
    faces = Faces.load(data_dir)
    words = printable_words(load_table(Path(data_dir) / "words.npz")["word"])
    choices = faces.choices(held=kind == KINDS[1])
    found = []
    for _ in range(limit):
        lines, page = random_lines(rng, words, held=True), Page.empty(1)
        print_lines(page, 0, lines, faces, rng.choice(choices), rng)
        found.append(ReadingCase(truth="\n".join(lines), page=page))
    return found


def page_cases(data_dir: Path, *, characters: int, limit: int, seed: int = 0) -> list[ReadingCase]:
    """`limit` whole pages of about so many characters, each beginning as no page of training does, in seen faces."""
    rng = random.Random(f"page {characters} {seed}")
    faces = Faces.load(data_dir)
    words = printable_words(load_table(Path(data_dir) / "words.npz")["word"])
    found = []
    for _ in range(limit):
        lines, page = random_page(rng, words, characters=characters, held=True), Page.empty(1)
        print_lines(page, 0, lines, faces, rng.choice(faces.choices()), rng)
        found.append(ReadingCase(truth="\n".join(lines), page=page))
    return found


def pictures(found: Sequence[ReadingCase], sheets: GlyphSheets, *, side: int = SIDE) -> np.ndarray:
    """The printed pictures of some cases, uint8 [B, side, side, 3], laid out at 512 and printed at any side."""
    import torch

    from dsv4.data.compose import to_bytes

    pages = [(case.page if side == SIDE else enlarged(case.page, side)).arrays() for case in found]
    joined = {name: np.concatenate([page[name] for page in pages]) for name in pages[0]}
    batch = {name: torch.from_numpy(array).to(sheets.packed.device) for name, array in joined.items()}
    return to_bytes(render_text(batch, sheets, side)).permute(0, 2, 3, 1).cpu().numpy()


def enlarged(page: Page, side: int) -> Page:
    """The same page at another number of pixels a side: letters are printed anew at the larger size, not stretched."""
    at = (np.arange(side) + 0.5) * SIDE / side - 0.5
    nearest = np.rint(at).astype(int).clip(0, SIDE - 1)
    off = (at - nearest).astype(np.float32)  # how far beside the pixel that knows its place in the strip
    columns = page.columns[..., nearest]
    shift = off / page.scale[:, None, :, None]
    line = page.line[:, nearest]
    down = page.row[:, nearest] + off / np.take_along_axis(page.scale, line, axis=1)
    return replace(
        page,
        columns=np.where(columns < 0, columns, np.maximum(columns + shift, 0)).astype(np.float32),
        line=line,
        row=np.where(page.row[:, nearest] <= -9, page.row[:, nearest], down).astype(np.float32),
        scale=page.scale * np.float32(side / SIDE),
    )


def judge(case: ReadingCase, output: str) -> bool:
    """Whether every character is right; line breaks count as spaces."""
    return flatten(output) == flatten(case.truth)


def character_errors(case: ReadingCase, output: str) -> tuple[int, int]:
    """(edits, characters): how many single-character edits turn the answer into the truth, and the truth's length."""
    read, printed = flatten(output), flatten(case.truth)
    return edits(read, printed), len(printed)


def error_rate(found: Sequence[ReadingCase], outputs: Sequence[str]) -> float:
    """Edits over characters of all cases together."""
    counts = [character_errors(case, output) for case, output in zip(found, outputs, strict=True)]
    return sum(wrong for wrong, _ in counts) / max(1, sum(length for _, length in counts))


def edits(first: str, second: str) -> int:
    """The Levenshtein distance of two texts."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def flatten(text: str) -> str:
    """All white space as single spaces, none at the ends."""
    return " ".join(text.split())
