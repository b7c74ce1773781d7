"""The shipped model itself: its paths agree with each other, its memory is what it says, and it answers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dsv4._parts import asset
from dsv4.chat_format import chat_ids, svg_ids
from dsv4.checkpoint.io import SHARD_BYTES
from dsv4.eval.nano import homes_apart
from dsv4.studio import Studio

MOST_BYTES = 44_000_000


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio.load("nano")


@pytest.fixture(scope="module")
def core(studio):
    return studio.model.core


def _icon(studio) -> torch.Tensor:
    """An icon's request and drawing, greedily written: ids [1, T]."""
    ids = svg_ids(studio.model.tokenizer, "a tiger")
    svg = studio.svg("a tiger")
    from generation.svg import vocabulary

    return torch.tensor([ids + [studio.model.tokenizer.svg_offset + i for i in vocabulary().encode(svg.raw)]])


@torch.inference_mode()
def test_decode_and_chunked_prefill_equal_the_whole_pass(studio, core):
    ids_BT = _icon(studio)[:, :120]
    whole_BTV = core(ids_BT).logits_BTV
    cache = core.new_cache(1, ids_BT.shape[1])
    parts = [core(ids_BT[:, :50], cache=cache).logits_BTV, core(ids_BT[:, 50:100], cache=cache).logits_BTV]
    parts += [core(ids_BT[:, place : place + 1], cache=cache).logits_BTV for place in range(100, ids_BT.shape[1])]
    torch.testing.assert_close(torch.cat(parts, 1), whole_BTV, rtol=0, atol=2e-3)


@torch.inference_mode()
def test_a_row_of_a_batch_equals_that_row_alone(studio, core):
    tokenizer = studio.model.tokenizer
    rows = [chat_ids(tokenizer, f"What is {word}?")[:9] for word in ("a heron", "an apple", "a piano", "a bridge")]
    width = min(map(len, rows))
    ids_BT = torch.tensor([row[:width] for row in rows])
    together_BTV = core(ids_BT).logits_BTV
    for row in range(len(rows)):
        torch.testing.assert_close(core(ids_BT[row : row + 1]).logits_BTV[0], together_BTV[row], rtol=0, atol=1e-3)


@torch.inference_mode()
def test_sparse_equals_dense_up_to_top_k_and_differs_beyond(studio, core):
    ids_BT = _icon(studio)
    ids_BT = torch.cat([ids_BT, ids_BT], 1)
    top_k = core.config.attention.top_k
    assert ids_BT.shape[1] > top_k
    short_BT = ids_BT[:, :top_k]
    torch.testing.assert_close(
        core(short_BT, sparse=True).logits_BTV, core(short_BT, sparse=False).logits_BTV, rtol=0, atol=1e-3
    )
    sparse, dense = (core(ids_BT, sparse=choice).logits_BTV[0, -1] for choice in (True, False))
    assert not torch.equal(sparse, dense)


def test_the_memory_has_the_same_answer_in_all_three_homes(studio):
    assert homes_apart(studio.model) == 0


def test_without_its_memory_the_model_forgets(studio, core):
    known = studio.svg("red heart icon").text
    with core.zero_memory():
        assert studio.svg("red heart icon").text != known
    assert studio.svg("red heart icon").text == known


def test_the_heart_is_red_and_the_circle_lies_above_the_square(studio):
    from generation.svg import rasterise_trusted

    heart_HW3 = rasterise_trusted(studio.svg("red heart icon").text, 64)[..., :3].astype(int)
    inked = heart_HW3.min(-1) < 128
    assert inked.mean() > 0.03
    assert (heart_HW3[inked][:, 0] > heart_HW3[inked][:, 1] + 80).mean() > 0.9
    picture_HW3 = studio.image("a blue circle above a red square", size=64).array.astype(int)
    red, _, blue = (picture_HW3[..., channel] for channel in range(3))
    rows_of_blue, rows_of_red = np.nonzero(blue > red + 80)[0], np.nonzero(red > blue + 80)[0]
    assert min(len(rows_of_blue), len(rows_of_red)) > 100
    assert rows_of_blue.mean() + 10 < rows_of_red.mean()


def test_a_clip_moves_and_one_seed_is_one_clip(studio):
    first, again = (studio.video("a red circle moving right", seed=5, steps=4).frames for _ in range(2))
    np.testing.assert_array_equal(first, again)
    across = [np.nonzero(frame[..., 0].astype(int) > frame[..., 2].astype(int) + 80)[1].mean() for frame in first]
    assert across[-1] > across[0] + 8


def test_weights_are_within_their_budget():
    folder = asset("nano")
    index = json.loads((folder / "model.json").read_text())
    sizes = [(Path(folder) / shard).stat().st_size for shard in index["shards"]]
    assert max(sizes) <= SHARD_BYTES
    assert sum(sizes) <= MOST_BYTES
