"""Builds the data folder of nano's text side from the source files, the same bytes for the same sources.

Writes tokenizer.json, icons.npz, things.npz, words.npz, facts.npz, spelling.txt.gz, and the picture side's atlas.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.data import icons as icon_side
from dsv4.data.captions import random_clip, random_picture
from dsv4.data.facts import Fact, manners, read_facts
from dsv4.data.icons import Icon, read_icons
from dsv4.data.language import sentence
from dsv4.data.sources import check_sources, read_rows
from dsv4.data.spelling_list import write_spelling
from dsv4.data.store import save_table
from dsv4.data.things import Thing, read_things, scene_names
from dsv4.data.words import Entry, read_words
from dsv4.errors import InputError
from dsv4.tokenizer import Tokenizer

VOCAB_SIZE = 8192
# A drawing longer than this would not fit into a training row beside its request.
LONGEST_DRAWING = 990
# How much room, in square units of the canvas of 96 by 96, left-out details may take together.
DETAIL = 600.0


def build(sources: Path, out: Path, *, tell: Callable[[str], None] = print) -> None:
    """Make the whole data folder `out` from the folder `sources`: text side first, then the pictures' atlas.

    tell: takes the lines of the summary. Raises InputError for sources that cannot be used.
    """
    from dsv4.data.atlas import build_atlas

    sources, out = Path(sources), Path(out)
    build_text(sources, out, tell=tell)
    build_atlas(sources, out)
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}
    tell(
        f"{sum(sizes.values()) / 1e6:.1f} MB: " + ", ".join(f"{name} {size / 1e6:.2f}" for name, size in sizes.items())
    )


def build_text(sources: Path, out: Path, *, vocab_size: int = VOCAB_SIZE, tell: Callable[[str], None] = print) -> None:
    """Make the text side of the data folder.

    vocab_size: all tokens together, controls and SVG tokens included. Raises InputError as `build` does.
    """
    check_sources(sources)
    icons = read_icons(read_rows(sources, "icons.jsonl.zst"))
    things = read_things(read_rows(sources, "things.jsonl.zst"))
    dictionary = read_rows(sources, "words.jsonl.zst")
    words = read_words(dictionary)
    facts = read_facts(read_rows(sources, "lists.jsonl.zst"))
    if not (icons and things and words):
        raise InputError(f"'{sources}' has no {'icons' if not icons else 'things' if not things else 'words'} to learn")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to '{out}': {error}") from error
    svg = part("generation.svg").vocabulary()
    corpus = training_texts(icons, things, words, facts)
    tokenizer = Tokenizer.train(corpus, vocab_size=vocab_size, svg_tokens=svg.tokens)
    tokenizer.save(out / "tokenizer.json")
    tell(f"tokenizer: {tokenizer.vocab_size} tokens, {tokenizer.svg_size} of them for SVG")
    tell(_write_icons(out, icons))
    tell(_write_things(out, things))
    tell(_write_words(out, words, tokenizer))
    tell(_write_facts(out, facts))
    tell(write_spelling(out, dictionary))


def training_texts(
    icons: Sequence[Icon], things: Sequence[Thing], words: Sequence[Entry], facts: Sequence[Fact]
) -> Iterator[str]:
    """What the tokenizer learns its merges from: names often, meanings once, captions and questions as they occur."""
    rng = random.Random(0)
    names = scene_names(thing.name for thing in things)
    yield from (f" {icon.full}" for icon in icons)
    for thing in things:
        yield from (f" {name}" for name in (thing.name, *thing.aliases) for _ in range(12))
    yield from (f"What is {entry.asked}?\n{entry.answer}" for entry in words)
    for fact in (*facts, *manners(later=False)):
        yield from (f"{question}\n{fact.answer}" for question in fact.trained)
    for _ in range(20_000):
        make = random_picture if rng.random() < 0.7 else random_clip
        yield sentence(make(rng, names).text()) if rng.random() < 0.3 else make(rng, names).text()


def encode_drawing(svg: str) -> list[int] | None:
    """Token ids of a drawing, or None when it has no canonical form or stays too long without its smallest shapes."""
    form = part("generation.svg")
    vocabulary = form.vocabulary()
    try:
        ids = vocabulary.encode(form.canonical(svg))
        return ids if len(ids) <= LONGEST_DRAWING else _without_details(vocabulary, ids)
    except ValueError:
        return None


def _without_details(vocabulary: Any, ids: list[int]) -> list[int] | None:
    """The drawing without as few of its smallest shapes as make it fit, None when that would be seen too much."""
    drawing = vocabulary.decode_drawing(ids)
    extents = [_extent(item) for item in drawing.items]
    sizes = sorted(range(len(extents)), key=extents.__getitem__)
    for count in range(1, len(sizes)):
        dropped = set(sizes[:count])
        if sum(extents[place] for place in dropped) > DETAIL:
            return None
        items = tuple(item for place, item in enumerate(drawing.items) if place not in dropped)
        shorter = vocabulary.encode_drawing(replace(drawing, items=items))
        if len(shorter) <= LONGEST_DRAWING:
            return shorter
    return None


def _extent(item: Any) -> float:
    """Roughly how much room a shape takes, in square units; a group counts as the whole canvas."""
    if not hasattr(item, "kind"):
        return 96.0 * 96.0
    if item.kind == "path":
        ends = [segment[-2:] for segment in item.data if len(segment) > 2]
        across, down = ([point[axis] for point in ends] for axis in (0, 1))
        return float((max(across) - min(across)) * (max(down) - min(down)))
    return float(item.data[2] * item.data[-1] if item.kind == "ellipse" else item.data[2] ** 2)


def _encode_all(svgs: Iterable[str | None]) -> list[list[int] | None]:
    return [encode_drawing(svg) if svg else None for svg in svgs]


def _write_icons(out: Path, icons: Sequence[Icon]) -> str:
    encoded = _encode_all(icon.svg for icon in icons)
    kept = [(icon, ids) for icon, ids in zip(icons, encoded, strict=True) if ids is not None]
    if not kept:
        raise InputError("not one icon of the sources can be written in SVG tokens")
    chosen = [icon for icon, _ in kept]
    meant = icon_side.requests(chosen)
    forms = [[meant[text] == index for text in icon.shorter()] for index, icon in enumerate(chosen)]
    words = icon_side.synonyms(chosen)
    save_table(
        out / "icons.npz",
        {
            "name": [icon.name for icon in chosen],
            "set": [icon.set for icon in chosen],
            "style": [icon.style for icon in chosen],
            "shorter": np.array(forms, np.bool_),
            "drawing": [ids for _, ids in kept],
            "synonym": list(words),
            "synonym_icon": np.array(list(words.values()), np.int32),
        },
    )
    lengths = [len(ids) for _, ids in kept]
    lost = len(icons) - len(kept)
    return f"icons: {len(kept)}, {lost} dropped, {len(words)} synonyms, {_spread(lengths)}"


def _write_things(out: Path, things: Sequence[Thing]) -> str:
    encoded = _encode_all(thing.svg for thing in things)
    drawn = [(thing, ids) for thing, ids in zip(things, encoded, strict=True) if ids is not None]
    if not drawn:
        raise InputError("not one thing of the sources has a drawing that SVG tokens can write")
    aliases = [(alias, thing) for thing in things for alias in thing.aliases]
    save_table(
        out / "things.npz",
        {
            "name": [thing.name for thing in things],
            "alias": [alias for alias, _ in aliases],
            "alias_thing": np.array([thing.index for _, thing in aliases], np.int32),
            "drawn": np.array([thing.index for thing, _ in drawn], np.int32),
            "drawing": [ids for _, ids in drawn],
        },
    )
    lengths = [len(ids) for _, ids in drawn]
    lost = sum(thing.svg is not None for thing in things) - len(drawn)
    return f"things: {len(things)}, {len(drawn)} drawings, {lost} dropped, {_spread(lengths)}"


def _write_words(out: Path, words: Sequence[Entry], tokenizer: Tokenizer) -> str:
    answers = tokenizer.encode_batch([entry.answer for entry in words])
    save_table(
        out / "words.npz",
        {
            "word": [entry.word for entry in words],
            "asked": [entry.asked for entry in words],
            "part": [entry.part for entry in words],
            "broader": [entry.broader for entry in words],
            "opposite": [entry.opposite for entry in words],
            "categories": ["|".join(entry.categories) for entry in words],
            "parts": ["|".join(entry.parts) for entry in words],
            "example": [entry.example for entry in words],
            "answer": answers,
        },
    )
    return f"words: {len(words)}, {_spread([len(ids) for ids in answers])}"


def _write_facts(out: Path, facts: Sequence[Fact]) -> str:
    table: dict[str, Any] = {
        "questions": ["|".join(fact.questions) for fact in facts],
        "answer": [fact.answer for fact in facts],
    }
    save_table(out / "facts.npz", table)
    return f"facts: {len(facts)}"


def _spread(lengths: Sequence[int]) -> str:
    """Token counts in a few numbers."""
    low, middle, high, top = np.percentile(lengths, [5, 50, 95, 99]).astype(int)
    return f"{sum(lengths)} tokens (5 % {low}, half {middle}, 95 % {high}, 99 % {top}, most {max(lengths)})"
