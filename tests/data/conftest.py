"""A tiny world for the text side's tests: sources written by hand, and the data folder built from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

STROKE = '<svg viewBox="0 0 96 96" fill="none" stroke="currentColor" stroke-width="8" stroke-linecap="round" '
LINE = STROKE + 'stroke-linejoin="round"><path d="M {} 38L 46 23L 20 60"/></svg>'
SOLID = '<svg viewBox="0 0 96 96" fill="currentColor"><circle cx="{}" cy="48" r="20"/></svg>'
TWO_TONE = '<svg viewBox="0 0 96 96" fill="#55acee"><circle cx="48" cy="48" r="{}"/></svg>'
ICONS = ("heart", "star", "house", "bell", "key", "sun", "moon", "cat", "dog", "fish", "leaf", "boat")
THINGS = ("tiger", "ant", "grapes", "bow and arrow", "umbrella on ground", "apple", "blue circle", "cloud")


def icon(name: str, source: str, style: str, svg: str, *, brand: bool = False, tags: tuple[str, ...] = ()) -> dict:
    return {"src": source, "name": name, "style": style, "tags": list(tags), "brand": brand, "svg": svg}


def icons() -> list[dict[str, Any]]:
    """Twelve names in two styles, one key twice, a brand's mark, and one that is no drawing."""
    rows = [icon(name, "mdi", "solid", SOLID.format(30 + n), tags=(f"my-{name}",)) for n, name in enumerate(ICONS)]
    rows += [icon(name, "lucide", "outline", LINE.format(5 + n)) for n, name in enumerate(ICONS)]
    rows.append(icon("heart", "mdi", "solid", SOLID.format(70), tags=("love", "star")))
    rows.append(icon("maker", "mdi", "solid", SOLID.format(71), brand=True))
    rows.append(icon("broken", "mdi", "solid", "<svg>", tags=()))
    return rows


def things() -> list[dict[str, Any]]:
    rows = [{"index": n, "name": name, "aliases": [], "svg": TWO_TONE.format(10 + n)} for n, name in enumerate(THINGS)]
    rows[0]["aliases"] = ["big cat", "tiger2", "ant"]
    return [*rows, {"index": len(rows), "name": "fog", "aliases": [], "svg": None}]


def words() -> list[dict[str, Any]]:
    bird = {"id": "1", "kind": "noun.animal", "words": ["bird"], "definition": "warm-blooded egg-laying animal"}
    heron = {"id": "2", "kind": "noun.animal", "words": ["heron"], "definition": "grey wading bird", "kind_of": ["1"]}
    more = [  # of one kind with a heron, from which the wren is kept apart by hash
        {"id": f"{9 + at}", "kind": "noun.animal", "words": [name], "definition": f"{said} bird", "kind_of": ["1"]}
        for at, (name, said) in enumerate((("wren", "small brown"), ("stork", "white long-legged")))
    ]
    other = {"id": "3", "kind": "noun.person", "words": ["hero", "heron"], "definition": "a person of that name"}
    verb = {"id": "4", "kind": "verb.motion", "words": ["run"], "definition": "move fast; hurry", "kind_of": []}
    able = {"id": "5", "kind": "adj.all", "words": ["able"], "definition": "having the skill"}
    able["opposites"] = {"able": ["unable"]}
    return [bird, heron, other, verb, able, *more]


def lists() -> list[dict[str, Any]]:
    countries = [{"name": "France", "capital": "Paris"}, {"name": "Chad", "capital": "N'Djamena"}]
    return [
        {"list": "countries with capitals", "data": {"countries": countries}},
        {"list": "fruits", "data": {"fruits": ["apple", "apricot", "avocado", "banana"]}},
    ]


def write_sources(folder: Path) -> Path:
    """Write the four source files into a new folder."""
    folder.mkdir()
    rows = {"icons": icons(), "things": things(), "words": words(), "lists": lists()}
    for name, records in rows.items():
        lines = [json.dumps(record) for record in ({"_about": name}, *records)]
        packed = zstandard.ZstdCompressor().compress("\n".join(lines).encode())
        (folder / f"{name}.jsonl.zst").write_bytes(packed)
    return folder


@pytest.fixture(scope="session")
def text_sources(tmp_path_factory) -> Path:
    """A folder with the four source files of the tiny world."""
    return write_sources(tmp_path_factory.mktemp("text") / "sources")


@pytest.fixture(scope="session")
def text_world(text_sources) -> Path:
    """The tiny world's data folder, text side only."""
    from dsv4.data.builder import build_text

    out = text_sources.parent / "data"
    build_text(text_sources, out, vocab_size=1100, tell=lambda line: None)
    return out
