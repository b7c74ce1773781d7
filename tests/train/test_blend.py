"""A model between two: its ends are the two, its middle is between, and what cannot be blended is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dsv4.errors import InputError
from dsv4.train.blend import between, main


def pair() -> tuple[nn.Module, nn.Module]:
    made = [nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)) for _ in range(2)]
    made[1][1].num_batches_tracked += 7  # a count is no weight
    return made[0], made[1]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_weight_goes_so_far_on_a_straight_line(share):
    before, after = pair()
    old = {name: value.clone() for name, value in before.state_dict().items()}
    between(before, after, share)
    for name, value in before.state_dict().items():
        wanted = old[name]
        if value.is_floating_point():
            wanted = (old[name].double() * (1 - share) + after.state_dict()[name].double() * share).float()
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7)


def test_unlike_models_and_shares_beyond_the_two_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one shape"):
        between(nn.Linear(3, 5), nn.Linear(3, 4), 0.5)
    flags = ["--before", str(tmp_path), "--after", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="goes from 0"):
        main([*flags, "--share", "1.5"])
