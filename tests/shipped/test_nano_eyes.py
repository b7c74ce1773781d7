"""The shipped eyes give what an independent encoder gives with the same weights, in every side of the modes."""

from __future__ import annotations

import pytest
import torch

from dsv4.bench.eyes_peer import peer_of
from dsv4.studio import Studio

LIMIT = 3e-6


@pytest.fixture(scope="module")
def eyes():
    return Studio.load("nano").model.eyes


@torch.inference_mode()
def test_features_equal_the_independent_encoders(eyes):
    oracle = peer_of(eyes)
    for side in (512, 640, 1024):
        pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(side)) * 2 - 1
        wanted = oracle(pixels).last_hidden_state
        assert (eyes.features(pixels) - wanted).norm() / wanted.norm() <= LIMIT, side


def test_a_page_is_read_to_a_value(tmp_path):
    """What nano says about a page is not judged here; that the way there is whole, is."""
    from PIL import Image

    from dsv4 import document

    pages = [Image.new("RGB", (60, 80), colour) for colour in ("white", "red")]
    pages[0].save(tmp_path / "paper.pdf", save_all=True, append_images=pages[1:])
    stream = Studio.load("nano").read(document(tmp_path / "paper.pdf"), mode="tiny", max_tokens=12)
    streamed = "".join(stream)
    reading = stream.reading
    assert [page.number for page in reading.pages] == [1, 2]
    assert all(page.usage.pictures == 73 and page.stopped in ("end", "length") for page in reading.pages)
    assert all(page.text in streamed and page.size == (120, 160) for page in reading.pages)
