"""The flow: levels, the weight of the loss, and sampling that repeats, guides, stops and keeps a first frame."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from generation import JointHead, JointHeadConfig, flow_loss, noise_levels, sample_flow, train_loss
from generation.connector import Condition
from generation.flow import add_noise


@pytest.fixture(scope="module")
def head() -> JointHead:
    torch.manual_seed(0)
    made = JointHead(JointHeadConfig.micro()).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.fixture(scope="module")
def condition(head) -> Condition:
    return head.condition(tuple(torch.randn(2, 5, 16) for _ in range(3)), torch.ones(2, 5, dtype=torch.bool))


class _Seer(nn.Module):
    """A head that answers `answer` whatever it sees, and keeps what it saw."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, noisy, sigma, cond, mask, clean_first=False):
        self.seen.append((noisy, sigma, clean_first))
        return self.answer.expand_as(noisy)


@pytest.mark.parametrize(("kind", "mean", "spread"), [("picture", 0.8, 0.8), ("clip", 1.8, 1.0)])
def test_levels_are_drawn_as_measured_best(kind, mean, spread):
    levels = noise_levels(kind, 20_000, generator=torch.Generator().manual_seed(0))
    odds = torch.logit(levels)
    assert float(odds.mean()) == pytest.approx(mean, abs=0.03)
    assert float(odds.std()) == pytest.approx(spread, abs=0.03)
    with pytest.raises(ValueError, match="did you mean 'clip'"):
        noise_levels("clips", 3)


def test_the_loss_is_that_of_the_velocity():
    clean, noise = torch.randn(3, 3, 2, 8, 8), torch.randn(3, 3, 2, 8, 8)
    sigma = torch.tensor([0.9, 0.5, 0.2])
    answer = torch.zeros(1)
    loss = flow_loss(_Seer(answer), clean, Condition(answer, answer), sigma_B=sigma, noise_B3FHW=noise)
    noisy = add_noise(clean, noise, sigma)
    velocity = (noisy - answer) / sigma.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(loss, (velocity - (noise - clean)).square().mean())


def test_a_clean_first_frame_is_given_and_not_asked_for():
    clean, noise = torch.randn(2, 3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
    sigma, first = torch.tensor([0.9, 0.5]), torch.tensor([True, False])
    seer = _Seer(clean + torch.tensor([1.0, 0, 0]).view(1, 1, 3, 1, 1))  # wrong by one, at frame 0 only
    nothing = Condition(noise, noise)
    loss = flow_loss(seer, clean, nothing, sigma_B=sigma, noise_B3FHW=noise, clean_first_B=first)
    noisy = seer.seen[0][0]
    assert torch.equal(noisy[0, :, 0], clean[0, :, 0]) and not torch.equal(noisy[1, :, 0], clean[1, :, 0])
    torch.testing.assert_close(loss, torch.tensor(1 / 3 / 0.5**2 / 2))


def test_training_draws_by_its_generator_and_learns():
    torch.manual_seed(0)
    head = JointHead(JointHeadConfig.micro())
    clean = torch.ones(8, 3, 1, 16, 16) * torch.linspace(-1, 1, 8).view(-1, 1, 1, 1, 1)
    taps = tuple(torch.linspace(-1, 1, 8).view(-1, 1, 1).expand(-1, 2, 16) * 3 for _ in range(3))
    mask_BT = torch.ones(8, 2, dtype=torch.bool)

    def loss(seed: int) -> torch.Tensor:
        return train_loss(head, clean, taps, mask_BT, generator=torch.Generator().manual_seed(seed))

    assert loss(1) == loss(1) and loss(1) != loss(2)
    clips = clean.expand(-1, -1, 3, -1, -1)
    assert train_loss(head, clips, taps, mask_BT, generator=torch.Generator().manual_seed(1)).isfinite()
    with torch.no_grad():
        before = sum(float(loss(seed)) for seed in range(5))
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for step in range(40):
        optimizer.zero_grad()
        loss(100 + step).backward()
        optimizer.step()
    with torch.no_grad():
        assert sum(float(loss(seed)) for seed in range(5)) < 0.6 * before


def test_the_same_seed_is_the_same_picture_and_rows_are_alone(head, condition):
    made = sample_flow(head, condition, shape=(1, 16, 24), steps=3, seeds=[3, 4])
    assert made.shape == (2, 3, 1, 16, 24)
    assert torch.equal(made, sample_flow(head, condition, shape=(1, 16, 24), steps=3, seeds=[3, 4]))
    second = Condition(condition.tokens_BSC[1:], condition.mask_BS[1:])
    alone = sample_flow(head, second, shape=(1, 16, 24), steps=3, seeds=[4])
    torch.testing.assert_close(alone[0], made[1], atol=1e-5, rtol=1e-4)
    other = sample_flow(head, second, shape=(1, 16, 24), steps=3, seeds=[5])
    assert (other - alone).abs().max() > 1e-3


def test_steps_follow_the_straight_line_to_what_is_predicted():
    answer = torch.full((1,), 0.25)
    seer = _Seer(answer)
    seer.config = JointHeadConfig.micro()
    noise = torch.randn(1, 3, 1, 8, 8)
    nothing = Condition(torch.zeros(1, 4, 32), torch.ones(1, 4, dtype=torch.bool))
    made = sample_flow(seer, nothing, shape=(1, 8, 8), steps=4, guidance=1, noise_B3FHW=noise)
    torch.testing.assert_close(made, torch.full_like(made, 0.25))
    levels = [float(sigma) for _, sigma, _ in seer.seen]
    assert levels == [1.0, 0.75, 0.5, 0.25]
    for (state, _, _), level in zip(seer.seen, levels, strict=True):
        torch.testing.assert_close(state, 0.25 + level * (noise - 0.25))


def test_guidance_moves_away_from_no_prompt(head, condition):
    noise = torch.randn(2, 3, 1, 16, 16)

    def made(guidance: float, given: Condition = condition) -> torch.Tensor:
        return sample_flow(head, given, shape=(1, 16, 16), steps=1, guidance=guidance, noise_B3FHW=noise)

    untold = made(1, head.connector.null(2))
    torch.testing.assert_close(made(3), untold + 3 * (made(1) - untold), atol=1e-5, rtol=1e-4)


def test_every_step_is_shown_and_any_can_be_the_last(head, condition):
    shown = []
    made = sample_flow(
        head, condition, shape=(1, 16, 16), steps=5, seeds=[0, 1], on_step=lambda *told: shown.append(told),
        cancelled=lambda: len(shown) == 2,
    )  # fmt: skip
    assert [told[:2] for told in shown] == [(1, 5), (2, 5)]
    assert torch.equal(made, shown[-1][2])
    grey = sample_flow(head, condition, shape=(1, 16, 16), steps=5, seeds=[0, 1], cancelled=lambda: True)
    assert not grey.any()


def test_a_first_frame_is_kept_exactly(head, condition):
    first = torch.rand(2, 3, 16, 16) * 2 - 1
    shown = []
    made = sample_flow(
        head, condition, shape=(3, 16, 16), steps=3, seeds=[0, 1], first_frame=first,
        on_step=lambda step, total, frames: shown.append(frames),
    )  # fmt: skip
    assert all(torch.equal(frames[:, :, 0], first) for frames in [made, *shown])
    free = sample_flow(head, condition, shape=(3, 16, 16), steps=3, seeds=[0, 1])
    assert (free[:, :, 1:] - made[:, :, 1:]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": (1, 16, 20)}, "multiple of 8"),
        ({"steps": 0}, "at least 1"),
        ({"guidance": 0.5}, "at least 1"),
        ({"seeds": [1]}, "2 rows, but there are 1 seeds"),
        ({"noise_B3FHW": torch.zeros(2, 3, 1, 16, 16)}, "either seeds or"),
        ({"seeds": None, "noise_B3FHW": torch.zeros(2, 3, 1, 8, 8)}, "must have shape"),
        ({"first_frame": torch.zeros(2, 3, 16, 16)}, "two frames"),
        ({"shape": (2, 16, 16), "first_frame": torch.zeros(1, 3, 16, 16)}, "first_frame must have shape"),
    ],
)
def test_what_cannot_be_is_said(head, condition, change, says):
    with pytest.raises(ValueError, match=says):
        sample_flow(head, condition, **{"shape": (1, 16, 16), "steps": 2, "seeds": [1, 2], **change})
