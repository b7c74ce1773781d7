"""Scenes of things as SVG are put together of drawings of each; all other requests are drawn whole."""

from __future__ import annotations

import re

import pytest

from dsv4 import Studio
from dsv4.data.drawings import Drawings
from dsv4.errors import InputError
from dsv4.instructions import scene_of
from dsv4.limits import PROMPT_CHARACTERS
from dsv4.scene_parts import planned


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
        ("draw me a cat and a dog please", ("cat", "dog"), None, "white"),
        ("an SVG of a cat below a dog on a mint background, please", ("cat", "dog"), "below", "mint"),
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


def test_many_at_once_are_drawn_as_each_alone(studio):
    prompts = ("a whale below a moon", "a whale", "a moon and a whale on a mint background")
    asked = [{"prompt": prompt} for prompt in prompts]
    for prompt, made in zip(prompts, studio.together.svg(asked), strict=True):
        alone = studio.svg(prompt)
        assert (made.text, made.provenance, made.usage) == (alone.text, alone.provenance, alone.usage)


def test_a_thing_that_comes_twice_is_drawn_once():
    plan = planned("a cat above a cat", 1)
    assert plan.prompts == ("a cat",)
    ids = Drawings().words("svg", "none", "circle", 48, 48, 20, "/svg")
    assert plan.together([ids]).count(ids[2]) == 2


def test_a_scene_too_long_is_refused_though_its_things_are_not(studio):
    noun = "x" * (PROMPT_CHARACTERS // 2)
    with pytest.raises(InputError):
        studio.svg(f"a {noun} above a {noun}")
    assert isinstance(studio.together.svg([{"prompt": f"a {noun} above a {noun}"}])[0], InputError)


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
