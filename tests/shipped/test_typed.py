"""The shipped model is asked what was meant: by every verb, alone and together, in talk, and not where told so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as pil

from dsv4 import InputError, Studio, image
from dsv4._parts import part
from dsv4.batch import run_batch
from dsv4.batch.jobs import index_rows
from dsv4.batch.work import shape_for
from dsv4.messages import Message


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio.load("nano")


def test_an_answer_is_that_of_what_was_meant_and_says_so(studio):
    meant, reply = studio.chat("What is a heron?").reply, studio.chat("What is a herno?").reply
    assert reply.text == meant.text and "wading bird" in reply.text
    assert (reply.corrected, meant.corrected) == ({"herno": "heron"}, {})
    assert reply.provenance == {**meant.provenance, "corrected": {"herno": "heron"}}


def test_a_meaning_that_was_never_taught_is_said_to_be_made_up(studio):
    reply = studio.chat("What is a lighthouse?", max_tokens=8).reply
    assert reply.untaught == ("lighthouse",) and reply.provenance["untaught"] == ["lighthouse"]
    assert not studio.chat("What is a heron?", max_tokens=8).reply.untaught


@pytest.mark.parametrize("more", [{"correct": False}, {"prompt": 'What is a "herno"?'}])
def test_it_can_be_switched_off(studio, more):
    reply = studio.chat(**{"prompt": "What is a herno?", "max_tokens": 4, **more}).reply
    assert not reply.corrected and "corrected" not in reply.provenance
    with pytest.raises(InputError, match="correct must be true or false, got 'no'"):
        studio.svg("a tiger", correct="no")


def test_what_is_made_is_that_of_what_was_meant_and_its_file_says_so(studio, tmp_path):
    drawn, meant = studio.svg("red haert icon"), studio.svg("red heart icon")
    assert drawn.text == meant.text and drawn.corrected == {"haert": "heart"}
    path = drawn.save(tmp_path / "a.svg")
    assert part("generation.files").read_provenance(path)["corrected"] == {"haert": "heart"}
    painted, meant = studio.image("a tigre", steps=1), studio.image("a tiger", steps=1)
    assert np.array_equal(painted.array, meant.array) and painted.corrected == {"tigre": "tiger"}
    assert not np.array_equal(painted.array, studio.image("a tigre", steps=1, correct=False).array)
    moved = studio.video("a tigre bouncing", steps=1, seconds=0.25)
    assert np.array_equal(moved.frames, studio.video("a tiger bouncing", steps=1, seconds=0.25).frames)
    moving = studio.svg("red heart icon bouncign")  # a motion is no word of the model, and may be mistyped as well
    assert moving.text == studio.svg("red heart icon bouncing").text and "animate" in moving.text


def test_rows_of_a_batch_are_those_of_single_requests(studio):
    asks = [{"prompt": prompt} for prompt in ("What is a herno?", "What is a heron?", "What is a spoon?")]
    asks += [{"prompt": "What is a herno?", "correct": False, "max_tokens": 8}]
    for ask, reply in zip(asks, studio.together.make("chat", asks), strict=True):
        alone = studio.chat(**ask).reply
        assert (reply.text, reply.provenance) == (alone.text, alone.provenance)
    asks = [{"prompt": prompt} for prompt in ("red haert icon", "red heart icon")]
    for ask, drawing in zip(asks, studio.together.make("svg", asks), strict=True):
        assert drawing == studio.svg(**ask)
    asks = [{"prompt": prompt, "steps": 1} for prompt in ("a tigre", "a tiger")]
    for ask, picture in zip(asks, studio.together.make("image", asks), strict=True):
        alone = studio.image(**ask)
        assert np.array_equal(picture.array, alone.array) and picture.provenance == alone.provenance
    (wrong,) = studio.together.make("svg", [{"prompt": "a tiger", "correct": 1}])
    assert isinstance(wrong, InputError)


def test_rows_that_are_read_alike_share_a_pass(studio):
    rows = [{"id": prompt, "task": "svg", "prompt": prompt} for prompt in ("red haert icon", "red heart icon")]
    one, other = (entry.kind for entry in index_rows(rows, shape=shape_for(studio)).entries)
    assert one == other


def test_lines_of_a_batch_say_it(studio, tmp_path):
    body = {"prompt": "red haert icon", "output_format": "svg"}
    rows = [
        {"id": "a", "task": "chat", "prompt": "What is a herno?"},
        {"custom_id": "b", "method": "POST", "url": "/v1/images/generations", "body": body},
        {"custom_id": "c", "method": "POST", "url": "/v1/images/generations", "body": {**body, "correct": False}},
        {"id": "d", "task": "chat", "prompt": "What is a heron?", "correct": True},
    ]
    run_batch(studio, rows, out=tmp_path)
    plain, drawn, typed, good = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert plain["corrected"] == {"herno": "heron"} and plain["text"] == good["text"] and "corrected" not in good
    assert drawn["response"]["body"]["warnings"][0].startswith("I read “haert” as “heart”.")
    assert "warnings" not in typed["response"]["body"]


def test_a_conversation_stays_as_it_was_read_and_what_is_remembered_fits(studio):
    said = Message.said
    first = studio.chat("what is a herno").reply
    history = (said("user", "what is a herno"), said("assistant", first.text))
    meant = (said("user", "what is a heron"), said("assistant", first.text))
    reply = studio.chat("draw it as an icon", history=history).reply
    assert not reply.corrected, "only the newest turn is told"
    alike = Studio.load("nano").chat("draw it as an icon", history=meant).reply
    assert (reply.text, reply.usage.read) == (alike.text, alike.usage.read)
    assert reply.usage.cached > 0, "the first turn is read again, although it was read just so before"
    (batched,) = studio.together.make("chat", [{"prompt": "draw it as an icon", "history": history}])
    assert batched.text == reply.text


def test_a_call_of_the_hands_is_made_as_it_was_said(studio):
    reply = studio.chat("draw a red haert icon").reply
    assert reply.corrected == {"haert": "heart"} and reply.call.prompt == "red heart icon"
    assert studio.perform(reply.call).text == studio.svg("red heart icon").text


def test_words_for_a_picture_that_is_redrawn_are_read_too(studio):
    shown = image(pil.new("RGB", (64, 64), "red"))
    made = studio.svg("a red circel", picture=shown, trace="never", max_tokens=60)
    assert made.corrected == {"circel": "circle"} and made.provenance["prompt"] == "a red circle"
    plain = studio.svg("a red circel", picture=shown, trace="never", max_tokens=60, correct=False)
    assert not plain.corrected and plain.provenance["prompt"] == "a red circel"
