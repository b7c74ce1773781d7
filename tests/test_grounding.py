"""Boxes are found by searching, whatever a model writes; what people read has no marks in it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4.grounding import Box, parse_boxes, settled, without_boxes

PAGE = (
    "<|ref|>title<|/ref|><|det|>[[10, 20, 500, 60]]<|/det|>\n# Heading\n\n"
    "<|ref|>image<|/ref|><|det|>[[0, 100, 999, 400], [5,5,9,9]]<|/det|>\nwords"
)


def test_boxes_of_a_page():
    assert parse_boxes(PAGE) == [
        Box(label="title", left=10, top=20, right=500, bottom=60),
        Box(label="image", left=0, top=100, right=999, bottom=400),
        Box(label="image", left=5, top=5, right=9, bottom=9),
    ]
    assert without_boxes(PAGE) == "\n# Heading\n\n<!-- image at 0, 100, 999, 400 -->\nwords"


def test_the_other_form_is_read_too():
    text = "<|det|>title [1, 2, 3, 4]<|/det|>Heading"
    assert parse_boxes(text) == [Box(label="title", left=1, top=2, right=3, bottom=4)]
    assert without_boxes(text) == "Heading"


def test_thousandths_become_pixels():
    assert Box(label="", left=0, top=0, right=999, bottom=999).pixels(640, 480) == (0, 0, 640, 480)
    assert Box(label="", left=333, top=666, right=999, bottom=999).pixels(300, 300)[:2] == pytest.approx((100, 200))


@pytest.mark.parametrize(
    "inside",
    [
        "__import__('os').system('true')", "[[1, 2, 3]]", "[[1, 2, 3, 1000]]", "[[-1, 2, 3, 4]]", "[[5, 5, 5, 9]]",
        "[[1.5, 2, 3, 4]]", "[[9999999999999999999999, 1, 2, 3]]", "", "[[", "[[a, b, c, d]]",
    ],
)  # fmt: skip
def test_what_is_no_box_is_left_out(inside):
    assert parse_boxes(f"<|ref|>x<|/ref|><|det|>{inside}<|/det|>") == []


def test_corners_in_the_wrong_order_are_put_right():
    (box,) = parse_boxes("<|ref|>x<|/ref|><|det|>[[500, 60, 10, 20]]<|/det|>")
    assert (box.left, box.top, box.right, box.bottom) == (10, 20, 500, 60)


TOKENS = ["<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "[[1, 2, 30, 40]]", "image", "word", "\n", "<", "<|", "[", "é"]


@given(st.lists(st.sampled_from(TOKENS), max_size=30))
@settings(max_examples=400, deadline=None)
def test_what_was_shown_while_it_was_written_is_what_there_is_at_the_end(pieces):
    """A stream only adds: no settled text is ever taken back, and no mark is left over."""
    text = "".join(pieces)
    final = without_boxes(text)
    assert not any(token in final for token in TOKENS[:4]) or "<|" in pieces or "<" in pieces
    for stop in range(len(text) + 1):
        assert final.startswith(without_boxes(text[: settled(text[:stop])]))
    for box in parse_boxes(text):
        assert 0 <= box.left < box.right <= 999 and 0 <= box.top < box.bottom <= 999


@pytest.mark.parametrize("token", ["<|det|>", "<|ref|>", "<|/det|>", "<|ref|><|det|>[[1,2,3,", "[" * 50])
def test_time_grows_with_the_text_and_not_its_square(token):
    started = time.process_time()
    text = token * 20_000
    parse_boxes(text), without_boxes(text), settled(text)
    assert time.process_time() - started < 1.0


def test_a_page_has_a_bound_of_boxes():
    assert len(parse_boxes("<|ref|>x<|/ref|><|det|>[" + "[1,2,3,4]," * 5000 + "]<|/det|>")) == 2000
