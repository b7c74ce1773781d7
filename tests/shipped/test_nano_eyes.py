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
