"""The shipped model makes rows of a batch together as it makes them alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as pil

from dsv4 import InputError, Studio, image
from dsv4.batch import run_batch
from dsv4.batch.jobs import index_rows
from dsv4.batch.work import shape_for


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio.load("nano")


def test_answers_and_drawings_are_those_of_single_calls(studio):
    asks = [{"prompt": f"What is a {noun}?", "max_tokens": 24} for noun in ("heron", "spoon", "ladder", "cat", "tiger")]
    asks[3] |= {"temperature": 0.7, "seed": 5}
    for ask, reply in zip(asks, studio.together.make("chat", asks), strict=True):
        alone = studio.chat(**ask).reply
        assert (reply.text, reply.stopped, reply.usage) == (alone.text, alone.stopped, alone.usage)
        assert reply.provenance == alone.provenance
    asks = [{"prompt": prompt} for prompt in ("red heart icon", "blue star icon", "a circle", "green house icon")]
    for ask, drawing in zip(asks, studio.together.make("svg", asks), strict=True):
        assert drawing == studio.svg(**ask)


def test_pictures_have_the_bits_of_single_calls(studio):
    asks = [{"prompt": f"a {colour} circle above a blue square", "seed": 3, "steps": 2} for colour in ("red", "green")]
    asks += [{"prompt": "a tiger", "steps": 2, "size": 64}]
    for ask, picture in zip(asks, studio.together.make("image", asks), strict=True):
        alone = studio.image(**ask)
        assert np.array_equal(picture.array, alone.array) and picture.provenance == alone.provenance


def test_a_request_that_cannot_be_made_spoils_no_other(studio):
    asks = [{"prompt": "red heart icon"}, {"prompt": " "}, {"prompt": "red heart icon", "temperature": 9.0}]
    good, empty, hot = studio.together.make("svg", asks)
    assert good == studio.svg("red heart icon")
    assert isinstance(empty, InputError) and "temperature must be" in str(hot)
    picture, large = studio.together.make("image", [{"prompt": "x", "steps": 1}, {"prompt": "x", "size": 100}])
    assert picture.array.shape == (128, 128, 3) and "the nearest is 96" in str(large)


def test_questions_about_pictures_are_answered_as_alone(studio):
    shown = [image(pil.new("RGB", (40, 40), colour)) for colour in ("red", "blue")]
    asks = [{"prompt": "What is in this picture?", "pictures": (one,), "max_tokens": 12} for one in shown]
    texts = [reply.text for reply in studio.together.make("chat", asks)]
    alone = [studio.chat(ask["prompt"], *ask["pictures"], max_tokens=12).reply.text for ask in asks]
    assert texts == alone


def test_rows_of_one_shape_are_planned_together(studio):
    rows = [{"id": prompt, "task": "svg", "prompt": prompt} for prompt in ("red cat", "blue cat", "a b c d")]
    kinds = [entry.kind for entry in index_rows(rows, shape=shape_for(studio)).entries]
    assert kinds[0] == kinds[1] != kinds[2]


def test_the_number_of_threads_is_put_back_and_does_not_change_the_bytes(studio, tmp_path):
    import torch

    before = torch.get_num_threads()
    rows = [{"id": f"{n}", "task": "image", "prompt": "a red circle", "seed": n, "steps": 1} for n in range(2)]
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            run_batch(studio, rows, out=tmp_path / f"{threads}")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, two = ([path.read_bytes() for path in sorted((tmp_path / n / "files").iterdir())] for n in ("1", "2"))
    assert one == two


def test_a_batch_of_the_model_has_the_lines_of_single_rows(studio, tmp_path):
    rows = [{"id": f"c{n}", "task": "chat", "prompt": "What is a cat?", "max_tokens": 8} for n in range(3)]
    rows += [{"id": f"s{n}", "task": "svg", "prompt": p} for n, p in enumerate(("red star icon", "blue star icon"))]
    run_batch(studio, rows, out=tmp_path / "many")
    run_batch(studio, rows, out=tmp_path / "one", batch_size=1)
    many, one = ((tmp_path / name / "results.jsonl").read_text() for name in ("many", "one"))
    assert many == one and all(json.loads(line)["ok"] for line in many.splitlines())
