"""Lines of print: which words, strings and numbers stand on a picture, and where every column of it looks in a strip.

Shape letters: B rows, L lines, X and Y pixel columns and rows.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsv4.data.glyphs import EM, HEIGHT, PAD, Faces
from dsv4.data.language import held_out

SIDE = 512
LINES = 16  # of a whole page
FEW_LINES, FEW_CHARACTERS = 4, 56  # of a picture with some words on it
PAGE_CHARACTERS = (64, 512)  # one to eight a vision token of Tiny mode
ACROSS = (14, 36)  # characters of a page's line
SMALLEST, LARGEST = 24, 92  # font sizes in pixels
MARGIN = 8
PATCH = 16  # sides of the patches that eyes begin with
NO_LETTER = 95  # behind the 95 printable characters

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{0,12}")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def printable_words(words: Sequence[str]) -> list[str]:
    """Single words short enough for a line."""
    return sorted({word for word in words if _WORD.fullmatch(word)})


def held_line(text: str) -> bool:
    """Whether this line is never printed in training."""
    return held_out("line", text)


def random_page(
    rng: random.Random, words: Sequence[str], *, characters: int | None = None, held: bool = False
) -> list[str]:
    """The lines of a whole page of words and numbers: about so many characters, as many as chance says without.

    held: only pages whose first line training never begins a page with.
    """
    wanted = characters or round(math.exp(rng.uniform(*map(math.log, PAGE_CHARACTERS))))
    # At most as many lines as fit, and lines that are long enough for that.
    across = max(rng.randint(*ACROSS), -(-wanted // (LINES - 2)))
    while True:
        lines, line = [], ""
        while sum(map(len, lines)) + len(line) < wanted and len(lines) < LINES:
            word = _page_word(rng, words)
            if len(line) + 1 + len(word) > across and line:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        lines = [*lines, line][:LINES]
        if held_line(lines[0]) == held:
            return lines


def _page_word(rng: random.Random, words: Sequence[str]) -> str:
    draw = rng.random()
    if draw < 0.06:
        return str(rng.randrange(10 ** rng.randint(1, 4)))
    word = rng.choice(words)
    word = word.title() if draw < 0.18 else word
    return word + (rng.choice(",,.;:") if rng.random() < 0.12 else "")


def random_lines(rng: random.Random, words: Sequence[str], *, held: bool = False) -> list[str]:
    """One to four lines of words, random strings or numbers; `held` makes only lines that training never prints."""
    lines: list[str] = []
    room = FEW_CHARACTERS
    for _ in range(rng.choices(range(1, FEW_LINES + 1), (0.35, 0.3, 0.2, 0.15))[0]):
        for _attempt in range(64):
            text = _random_line(rng, words)
            if held_line(text) == held and len(text) <= room:
                lines.append(text)
                room -= len(text) + 1
                break
    return lines or random_lines(rng, words, held=held)


def _random_line(rng: random.Random, words: Sequence[str]) -> str:
    draw = rng.random()
    if draw < 0.64:
        text = " ".join(rng.choice(words) for _ in range(rng.choices((1, 2, 3), (0.45, 0.4, 0.15))[0]))
        cased = rng.random()
        text = text.upper() if cased < 0.15 else text.title() if cased < 0.3 else text
        text = text[:1].upper() + text[1:] if 0.3 <= cased < 0.5 else text
        return text + (rng.choice(".!?,:") if rng.random() < 0.2 else "")
    if draw < 0.82:
        return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 9)))
    number = str(rng.randrange(10 ** rng.randint(1, 6)))
    form = rng.random()
    if form < 0.4:
        return number
    if form < 0.55:
        return f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.{rng.randint(1900, 2099)}"
    if form < 0.7:
        return f"{rng.randint(0, 23)}:{rng.randrange(60):02}"
    return rng.choice(("${}", "{}%", "{} km", "No. {}", "{}!", "#{}", "+{}", "({})", "{} = {}", "{} / {}")).replace(
        "{}", number
    )


@dataclass(frozen=True, kw_only=True)
class Page:
    """Arrays of B printed pictures; what `glyphs.render_text` draws.

    columns: float32 [B, 2, L, X], the strip's column for each pixel column, even and odd letters apart, -1 for none;
    line: int32 [B, Y] and row: float32 [B, Y], which line a pixel row crosses and at which row of the strip;
    scale: float32 [B, L] pixels a strip pixel; face: int32 [B]; ink, paper: uint8 [B, 3];
    letters: int32 [B, L, X / PATCH], the character over the middle of each patch's columns, NO_LETTER for none.
    """

    columns: np.ndarray
    line: np.ndarray
    row: np.ndarray
    scale: np.ndarray
    face: np.ndarray
    ink: np.ndarray
    paper: np.ndarray
    letters: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> Page:
        """White pages without a line."""
        return cls(
            columns=np.full((rows, 2, LINES, SIDE), -1, np.float32),
            line=np.zeros((rows, SIDE), np.int32),
            row=np.full((rows, SIDE), -9, np.float32),
            scale=np.ones((rows, LINES), np.float32),
            face=np.zeros(rows, np.int32),
            ink=np.zeros((rows, 3), np.uint8),
            paper=np.full((rows, 3), 255, np.uint8),
            letters=np.full((rows, LINES, SIDE // PATCH), NO_LETTER, np.int32),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as a batch holds them."""
        names = ("columns", "line", "row", "scale", "face", "ink", "paper", "letters")
        return {name: getattr(self, name) for name in names}


def print_lines(page: Page, index: int, lines: Sequence[str], faces: Faces, face: int, rng: random.Random) -> None:
    """Put lines on row `index` of a page, in sizes and at places by chance; all of every line stays inside.

    Raises ValueError for more than LINES lines.
    """
    if not 1 <= len(lines) <= LINES:
        raise ValueError(f"a page holds 1 to {LINES} lines, got {len(lines)}")
    codes = [np.frombuffer(line.encode("ascii"), np.uint8) - 32 for line in lines]
    advances = [faces.advances_AG[face, code] for code in codes]
    widths = [float(advance.sum()) + 2 * PAD for advance in advances]
    common = rng.uniform(SMALLEST, LARGEST)
    mixed = rng.random() < 0.35
    sizes = [rng.uniform(SMALLEST, LARGEST) if mixed else common for _ in lines]
    room = SIDE - 2 * MARGIN
    sizes = [min(size, room / width * EM) for size, width in zip(sizes, widths, strict=True)]
    tall = sum(sizes) * HEIGHT / EM
    sizes = [size * min(1.0, room / tall) for size in sizes]
    tall = sum(sizes) * HEIGHT / EM
    leading = rng.random() * 0.5 * (room - tall) / len(lines)
    top = MARGIN + rng.random() * (room - tall - leading * (len(lines) - 1))
    aligned, indent = rng.random(), rng.random()
    page.face[index] = face
    for number, (code, advance, size) in enumerate(zip(codes, advances, sizes, strict=True)):
        scale = size / EM
        slack = room - widths[number] * scale
        left = MARGIN + slack * (0.5 if aligned < 0.3 else indent * 0.4 if aligned < 0.8 else rng.random())
        page.scale[index, number] = scale
        low, high = int(np.ceil(top - 0.5)), int(np.ceil(top + HEIGHT * scale - 0.5))
        page.line[index, low:high] = number
        page.row[index, low:high] = (np.arange(low, high) + 0.5 - top) / scale - 0.5
        pens = left + scale * (PAD + np.concatenate([[0.0], np.cumsum(advance)[:-1]]))
        _lay(page.columns[index, :, number], pens, faces.starts_AG[face, code], advance, scale)
        page.letters[index, number] = _letters(code, pens, pens[-1] + scale * advance[-1])
        top += HEIGHT * scale + leading
    page.ink[index], page.paper[index] = _colours(rng)


def _lay(columns_2X: np.ndarray, pens: np.ndarray, starts: np.ndarray, advances: np.ndarray, scale: float) -> None:
    """Write the strip's columns of one line; pens: where each letter's advance begins, in picture pixels."""
    lows = np.ceil(pens - PAD * scale - 0.5).astype(int).clip(0)
    highs = np.ceil(pens + (np.ceil(advances) + PAD) * scale - 0.5).astype(int).clip(None, SIDE)
    middle = np.arange(SIDE) + 0.5
    for letter, (low, high) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True)):
        at = starts[letter] + (middle[low:high] - pens[letter]) / scale - 0.5
        columns_2X[letter % 2, low:high] = np.maximum(at, 0)


def _letters(codes: np.ndarray, pens: np.ndarray, end: float) -> np.ndarray:
    """Which character stands over the middle of each patch's columns; spaces are none."""
    middle = (np.arange(SIDE // PATCH) + 0.5) * PATCH
    place = np.searchsorted(pens, middle, side="right") - 1
    found = codes[place.clip(0)].astype(np.int32)
    return np.where((place < 0) | (middle >= end) | (found == 0), NO_LETTER, found)


def _colours(rng: random.Random) -> tuple[list[int], list[int]]:
    """Ink and paper that stand apart: dark on light, in a quarter of pictures light on dark."""
    plain = rng.random() < 0.3
    dark = [rng.randrange(20 if plain else 110) for _ in range(3)]
    light = [255 if plain else rng.randrange(165, 256) for _ in range(3)]
    return (light, dark) if rng.random() < 0.25 else (dark, light)
