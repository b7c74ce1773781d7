"""The k best by one number of score and place are those of the rule: higher first, of equal ones the later."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops.rank import ranked_places
from dsv4.ops.select import choose, chosen_places


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("levels", [0, 2])
def test_as_the_rule_chooses(k, levels):
    torch.manual_seed(k)
    scores = torch.randn(2, 3, 40) * 3
    scores = scores if not levels else (scores * levels).round() / levels  # many zeros, of both signs
    seen = torch.rand(2, 3, 40) < 0.5
    seen[0, 0] = torch.arange(40) < 3  # fewer than k
    for mask in (seen, torch.ones_like(seen)):
        places, real = ranked_places(scores, mask, k)
        wanted, valid = chosen_places(choose(scores, mask, k), k)
        assert torch.equal(real, valid) and torch.equal(places[real], wanted[valid])
        assert (places[~real] == 39).all()
    if levels:
        assert (torch.signbit(scores) & (scores == 0)).any()
    everything, real = ranked_places(scores, None, k)
    assert real.all() and torch.equal(everything, ranked_places(scores, torch.ones(1, 1, 40, dtype=torch.bool), k)[0])


def test_scores_of_all_sizes_and_too_few_keys():
    scores = torch.tensor([[[-1e38, 1e-38, 0.0, -0.0, 3.0, -1e-38, float("inf"), -2.0]]])
    order = [6, 4, 1, 3, 2, 5, 7, 0]
    for k in range(1, 9):
        assert ranked_places(scores, None, k)[0].flatten().tolist() == sorted(order[:k])
    with pytest.raises(ValueError, match="cannot choose 9 of 8"):
        ranked_places(scores, None, 9)
