"""Scenes of things as SVG are put together of drawings of each; all other requests are drawn whole."""

from __future__ import annotations

import re

import pytest

from dsv4 import Studio
from dsv4.instructions import scene_of


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio.load("nano")


@pytest.mark.parametrize(
    ("prompt", "nouns", "relation", "ground"),
    [
        ("a cat to the left of a dog", ("cat", "dog"), "to the left of", "white"),
        ("A cat, a dog and an owl on a mint background.", ("cat", "dog", "owl"), None, "mint"),
        ("the cup of tea above  the teapot", ("cup of tea", "teapot"), "above", "white"),
        ("an owl and a whale on a sky blue background", ("owl", "whale"), None, "sky blue"),
    ],
)
def test_scenes_of_things_are_known(prompt, nouns, relation, ground):
    scene = scene_of(prompt)
    assert scene is not None
    assert (scene.nouns, scene.relation, scene.ground) == (nouns, relation, ground)


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat", "cat and dog", "a fork and knife", "a blue circle above a red square", "an owl above a red circle",
        "a heart icon and a star icon", "three heart icons", "", "and", "a an the",
        "a cat above a dog on a plaid background", "a cat above a dog below an owl",
    ],
)  # fmt: skip
def test_other_requests_are_drawn_whole(prompt):
    assert scene_of(prompt) is None


def test_a_scene_holds_the_drawings_of_its_things_word_for_word(studio):
    made = studio.svg("a whale below a moon on a navy background")
    assert made.provenance["settings"]["made_by"] == "parts"
    for name in ("a whale", "a moon"):
        shapes = re.findall(r' d="[^"]+"', studio.svg(name).text)
        assert shapes and all(shape in made.text for shape in shapes)
    assert made.usage.written > 100


def test_shapes_motions_and_several_candidates_are_drawn_whole(studio):
    for prompt, more in (
        ("a blue circle above a red square", {}),
        ("a whale and a moon bouncing", {}),
        ("a whale below a moon", {"candidates": 2, "temperature": 0.5}),
    ):
        assert "made_by" not in studio.svg(prompt, max_tokens=400, **more).provenance["settings"]


def test_what_is_cancelled_on_the_way_is_still_a_drawing(studio):
    steps = iter(range(10_000))
    made = studio.svg("a whale below a moon", cancelled=lambda: next(steps) > 60)
    assert made.text.startswith("<svg") and made.usage.written < 80
