"""The head: padding and neighbours never matter, it equals diffusers' Wan, and everything in it learns."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from generation import JointHead, JointHeadConfig
from generation.head import coordinate_ramps
from generation.wan import LEARNT_FRAMES, rotary_table


@pytest.fixture(scope="module")
def head() -> JointHead:
    """A micro head that is no longer blank: a fresh one answers grey whatever it is told."""
    torch.manual_seed(0)
    made = JointHead(JointHeadConfig.micro()).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def prompt(rows: int, length: int, seed: int = 1) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    taps = tuple(torch.randn(rows, length, 16, generator=generator) for _ in range(3))
    return taps, torch.ones(rows, length, dtype=torch.bool)


def test_padding_never_changes_a_pixel(head):
    taps, mask_BT = prompt(2, 5)
    noisy = torch.randn(2, 3, 2, 16, 16)
    sigma = torch.tensor([0.9, 0.4])
    alone = head(noisy, sigma, *head.condition(taps, mask_BT))
    padded = tuple(torch.cat([tap, torch.full((2, 7, 16), 1e3)], dim=1) for tap in taps)
    longer = torch.cat([mask_BT, torch.zeros(2, 7, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(head(noisy, sigma, *head.condition(padded, longer)), alone, atol=2e-6, rtol=1e-5)
    open_to_it = head(noisy, sigma, *head.condition(padded, torch.ones_like(longer)))
    assert (open_to_it - alone).abs().max() > 1e-3


def test_a_row_does_not_know_its_neighbours(head):
    taps, mask_BT = prompt(3, 4)
    mask_BT[1, 2:] = False
    noisy, sigma = torch.randn(3, 3, 1, 16, 24), torch.tensor([0.9, 0.5, 0.1])
    together = head(noisy, sigma, *head.condition(taps, mask_BT))
    for row in range(3):
        own = head.condition(tuple(tap[row : row + 1] for tap in taps), mask_BT[row : row + 1])
        alone = head(noisy[row : row + 1], sigma[row : row + 1], *own)
        torch.testing.assert_close(alone[0], together[row], atol=2e-6, rtol=1e-5)


def test_outputs_and_gradients_equal_those_of_diffusers(head):
    from diffusers import WanTransformer3DModel

    shape = dataclasses.asdict(head.config.wan)
    patch = shape.pop("patch_size")
    theirs = WanTransformer3DModel(
        **shape, patch_size=(1, patch, patch), cross_attn_norm=True, qk_norm="rms_norm_across_heads"
    ).eval()
    theirs.load_state_dict(head.wan.state_dict())
    ours = JointHead(head.config, connector=head.connector)
    ours.wan.load_state_dict(head.wan.state_dict())
    # Clips of other lengths are stretched over the time of so many frames, which theirs are not.
    noisy, sigma, cond = torch.randn(2, 3, LEARNT_FRAMES, 16, 24), torch.tensor([0.8, 0.3]), torch.randn(2, 6, 32)
    out = ours(noisy, sigma, cond, torch.ones(2, 6, dtype=torch.bool))
    given = torch.cat([noisy, coordinate_ramps(noisy)], dim=1)
    wanted = theirs(given, sigma * 1000, cond, return_dict=False)[0]
    torch.testing.assert_close(out, wanted, atol=2e-6, rtol=1e-5)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (wanted * weight).sum().backward()
    other = dict(theirs.named_parameters())
    for name, parameter in ours.wan.named_parameters():
        gap = (parameter.grad - other[name].grad).norm() / other[name].grad.norm()
        assert gap < 1e-4, name


def test_a_diffusers_transformer_can_stand_in(head):
    from diffusers import WanTransformer3DModel

    from generation.pipeline import _wan_arguments

    theirs = WanTransformer3DModel(**_wan_arguments(head.config)).eval()
    theirs.load_state_dict(head.wan.state_dict())
    joined = JointHead(head.config, connector=head.connector, wan=theirs)
    taps, mask_BT = prompt(1, 4)
    condition = head.condition(taps, mask_BT)
    noisy, sigma = torch.randn(1, 3, 2, 16, 16), torch.tensor([0.7])
    with torch.inference_mode():
        there, here = joined(noisy, sigma, *condition, True), head(noisy, sigma, *condition, True)
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize("frames", [2, 8, 17, 48])
def test_clips_of_any_length_take_the_time_that_was_learnt(head, frames):
    def table(count: int) -> torch.Tensor:
        cos, sin = rotary_table(head.config.wan, count, 1, 1, torch.device("cpu"))
        return torch.cat([cos, sin], dim=-1)[:, 0]

    learnt, made = table(LEARNT_FRAMES), table(frames)
    torch.testing.assert_close(made[[0, -1]], learnt[[0, -1]], atol=1e-6, rtol=0)
    if (frames - 1) % 15 == 0 or 15 % (frames - 1) == 0:
        torch.testing.assert_close(made, learnt[:: 15 // (frames - 1)], atol=1e-6, rtol=0)
    assert torch.equal(table(1), learnt[:1])  # a picture is where a clip begins


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    head = JointHead(JointHeadConfig.micro())
    with torch.no_grad():
        head.wan.proj_out.weight.normal_(std=0.02)
    taps, mask_BT = prompt(2, 4)
    condition = head.condition(taps, mask_BT, torch.tensor([True, False]))
    head(torch.randn(2, 3, 2, 16, 16), torch.tensor([0.9, 0.5]), *condition).square().sum().backward()
    still = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_a_dropped_row_is_the_null_condition_and_hides_its_prompt(head):
    taps, mask_BT = prompt(2, 4)
    other, _ = prompt(2, 4, seed=9)
    noisy, sigma = torch.randn(2, 3, 1, 16, 16), torch.tensor([0.9, 0.9])
    gone = torch.tensor([True, False])
    first = head(noisy, sigma, *head.condition(taps, mask_BT, gone))
    second = head(noisy, sigma, *head.condition(other, mask_BT, gone))
    untold = head(noisy, sigma, *head.connector.null(2))
    torch.testing.assert_close(first[0], second[0])
    torch.testing.assert_close(first[0], untold[0], atol=2e-6, rtol=1e-5)
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_ramps_run_from_edge_to_edge():
    ramps = coordinate_ramps(torch.zeros(2, 3, 5, 8, 16))
    assert ramps.shape == (2, 3, 5, 8, 16)
    for axis in range(3):
        line = ramps[1, axis].movedim(axis, 0)
        assert line[0].eq(-1).all() and line[-1].eq(1).all()
        assert (line.flatten(1).std(dim=1) == 0).all()
    assert coordinate_ramps(torch.zeros(1, 3, 1, 8, 8))[:, 0].eq(0).all()


def test_the_clean_first_frames_level_is_its_own(head):
    taps, mask_BT = prompt(2, 4)
    condition = head.condition(taps, mask_BT)
    noisy, sigma = torch.randn(2, 3, 3, 16, 16), torch.tensor([0.8, 0.8])
    plain, kept = head(noisy, sigma, *condition), head(noisy, sigma, *condition, clean_first=True)
    by_row = head(noisy, sigma, *condition, clean_first=torch.tensor([True, False]))
    torch.testing.assert_close(by_row[0], kept[0])
    torch.testing.assert_close(by_row[1], plain[1])
    assert (kept - plain).abs().max() > 1e-4
    with pytest.raises(ValueError, match="two frames or more"):
        head(noisy[:, :, :1], sigma, *condition, clean_first=True)


def test_half_precision_stays_close(head):
    torch.manual_seed(0)
    half = JointHead(head.config)
    half.load_state_dict(head.state_dict())
    half.half_precision()
    assert half.wan.blocks[0].ffn.net[2].weight.dtype is torch.bfloat16
    assert half.wan.proj_out.weight.dtype is torch.float32
    taps, mask_BT = prompt(1, 4)
    noisy, sigma = torch.randn(1, 3, 1, 16, 16), torch.tensor([0.6])
    with torch.inference_mode():
        exact, close = (one(noisy, sigma, *one.condition(taps, mask_BT)) for one in (head, half))
    assert 0 < (exact - close).norm() / exact.norm() < 0.02


def test_sizes_that_cannot_be_are_said(head):
    condition = head.condition(*prompt(1, 4))
    with pytest.raises(ValueError, match="width 20 must be a multiple of 8.*nearest: 16|nearest: 24"):
        head(torch.zeros(1, 3, 1, 16, 20), torch.ones(1), *condition)
    with pytest.raises(ValueError, match="49 frames asked; this head makes 1 to 48"):
        head(torch.zeros(1, 3, 49, 8, 8), torch.ones(1), *condition)
    with pytest.raises(ValueError, match="reads 3 tapped layers, got 1"):
        head.condition((torch.zeros(1, 4, 16),), torch.ones(1, 4))


def test_configs_and_weights_come_back(head, tmp_path):
    config = JointHeadConfig.nano(tap_dim=96)
    assert JointHeadConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="did you mean 'layers'"):
        JointHeadConfig.from_dict({"layer": 3})
    head.save(tmp_path)
    again = JointHead.load(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in head.state_dict().items())
    with pytest.raises(FileNotFoundError, match="config.json"):
        JointHead.load(tmp_path / "none")


def test_nano_has_its_size():
    with torch.device("meta"):
        assert JointHead(JointHeadConfig.nano()).num_parameters() == 16_320_195


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, generation; generation.save_png; generation.read_provenance; generation.save_svg; "
        "print([name for name in ('torch', 'diffusers', 'av', 'PIL') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
