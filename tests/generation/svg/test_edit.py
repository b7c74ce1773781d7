"""Edits by words: 200 generated cases against drawings written from the changed specification, with a minimal diff."""

from __future__ import annotations

import difflib
import random

import pytest

from generation.svg import edit, rebuild

COLOURS = ("red", "green", "blue", "purple", "orange", "brown")
KINDS = ("circle", "ellipse", "rect", "path")
WORDS = {"circle": "circle", "ellipse": "oval", "rect": "square", "path": "path"}
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def written(shapes: list[dict]) -> str:
    """A drawing from its specification; `shift` is what a path carries instead of a place."""
    lines = []
    for one in shapes:
        x, y, paint = one["x"], one["y"], f'fill="{one["colour"]}"'
        if one["kind"] == "circle":
            lines.append(f'<circle cx="{x}" cy="{y}" r="{one["size"]:g}" {paint}/>')
        elif one["kind"] == "ellipse":
            lines.append(f'<ellipse cx="{x}" cy="{y}" rx="{one["size"]:g}" ry="{one["size"] / 2:g}" {paint}/>')
        elif one["kind"] == "rect":
            lines.append(f'<rect x="{x}" y="{y}" width="{one["size"]:g}" height="{one["size"]:g}" {paint}/>')
        else:
            shift = one.get("shift")
            moved = f' transform="translate({shift[0]} {shift[1]})"' if shift else ""
            lines.append(f'<path d="M {one["left"]} {one["top"]}h 9v 9z" {paint}{moved}/>')
    return rebuild(f'<svg viewBox="0 0 96 96">{"".join(lines)}</svg>')


def scene(rng: random.Random) -> list[dict]:
    """Two to four shapes of different kinds and colours."""
    kinds = rng.sample(KINDS, rng.randint(2, 4))
    colours = rng.sample(COLOURS, len(kinds))
    shapes = []
    for kind, colour in zip(kinds, colours, strict=True):
        x, y, size = rng.randint(20, 70), rng.randint(20, 70), rng.choice((8, 12, 16))
        shapes.append({"kind": kind, "colour": colour, "x": x, "y": y, "size": size, "left": x, "top": y})
    return shapes


def case(seed: int) -> tuple[list[dict], str, list[dict], int]:
    """A scene, a request, the scene as it should be, and how many lines that changes."""
    rng = random.Random(seed)
    before = scene(rng)
    after = [dict(one) for one in before]
    place = rng.randrange(len(before))
    one = after[place]
    name = rng.choice((WORDS[one["kind"]], f"{one['colour']} {WORDS[one['kind']]}", f"{one['colour']} shape"))
    verb = rng.choice(("colour", "remove", "move", "move all", "size"))
    if verb == "colour":
        one["colour"] = rng.choice([colour for colour in ("cyan", "gold", "navy")])
        return before, f"make the {name} {one['colour']}", after, 1
    if verb == "remove":
        del after[place]
        return before, f"{rng.choice(('remove', 'delete'))} the {name}", after, 1
    if verb == "size" and one["kind"] in ("circle", "ellipse"):
        one["size"] *= 1.25
        return before, f"make the {name} bigger", after, 1
    way, length = rng.choice(list(WAYS)), rng.choice((4, 10, 12))
    moved = after if verb == "move all" else [one]
    for each in moved:
        each["x"] += WAYS[way][0] * length
        each["y"] += WAYS[way][1] * length
        each["shift"] = (WAYS[way][0] * length, WAYS[way][1] * length)
    tail = "" if length == 12 else f" by {length}"
    return before, f"move {'it' if verb == 'move all' else f'the {name}'} {way}{tail}", after, len(moved)


@pytest.mark.parametrize("seed", range(200))
def test_an_edit_does_exactly_what_was_said_and_nothing_else(seed):
    before, request, after, lines = case(seed)
    source = written(before)
    result = edit(source, request)
    assert result == written(after), request
    changed = [line for line in difflib.ndiff(source.splitlines(), result.splitlines()) if line.startswith("- ")]
    assert len(changed) == lines


def test_it_is_the_whole_drawing():
    head = '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor">'
    icon = f'{head}<path d="M 2 2h 9"/><circle cx="9" cy="9" r="4"/></svg>'
    blue = edit(icon, "Make it blue.")
    assert blue == rebuild(icon).replace("currentColor", "blue")
    plain = '<svg viewBox="0 0 24 24"><path d="M 2 2h 9v 4z"/><path d="M 4 9h 2v 2z"/></svg>'
    assert edit(plain, "make it #ff8800") == rebuild(plain.replace("24 24", '24 24" fill="#ff8800'))
    reds = '<circle r="1" fill="red"/><circle r="2" fill="red"/>'
    two = f'<svg viewBox="0 0 9 9">{reds}<rect width="1" height="1"/></svg>'
    assert edit(two, "make it green").count("green") == 2
    assert "scale(0.8)" in edit(plain, "make it smaller")


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("make it nicer", "'nicer' is no colour"),
        ("make it bleu", "did you mean 'blue'"),
        ("remove the triangle", "no part that can be named"),
        ("remove the blue circle", "there is no 'blue circle' in this drawing; it has 2 <circle>"),
        ("remove the circles", "remove all there is"),
        ("sing a song", "examples: 'make it blue'"),
        ("", "examples"),
    ],
)
def test_what_cannot_be_done_is_said(request_, says):
    svg = '<svg viewBox="0 0 9 9"><circle r="1" fill="red"/><circle r="2" fill="red"/></svg>'
    with pytest.raises(ValueError, match=says):
        edit(svg, request_)
