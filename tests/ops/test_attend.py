"""Shared-entry attention, visibility and rotation against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from dsv4.ops.attend import attend, attend_chosen, probabilities
from dsv4.ops.norm import RMSNorm, rms_norm
from dsv4.ops.rotary import angles, rotate
from dsv4.ops.visible import visible


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_attend_by_hand() -> None:
    q, entries, sink = normal(2, 5, 3, 8), normal(2, 7, 8, seed=1), normal(3, seed=2)
    seen = visible(torch.arange(2, 7), torch.arange(7), window=4).expand(2, -1, -1)
    found = attend(q, entries, sink, seen)
    for b in range(2):
        for t in range(5):
            for h in range(3):
                keys = [s for s in range(7) if seen[b, t, s]]
                powers = [math.exp(float(q[b, t, h] @ entries[b, s]) / math.sqrt(8)) for s in keys]
                whole = sum(powers) + math.exp(float(sink[h]))
                by_hand = sum(power / whole * entries[b, s] for power, s in zip(powers, keys, strict=True))
                assert (found[b, t, h] - by_hand).abs().max() < 1e-12
    weights = probabilities(q, entries, sink, seen)
    assert (weights.sum(-1) < 1).all() and (weights[:, 0, :, 3:] == 0).all()


def test_no_sink_is_torch_attention() -> None:
    q, entries = normal(2, 6, 3, 8), normal(2, 6, 8, seed=1)
    seen = visible(torch.arange(6), torch.arange(6))
    found = attend(q, entries, torch.full((3,), float("-inf"), dtype=torch.float64), seen)
    keys = entries[:, None].expand(-1, 3, -1, -1)
    peer = torch.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), keys, keys, is_causal=True)
    assert (found - peer.transpose(1, 2)).abs().max() < 1e-12


def test_attending_to_gathered_entries() -> None:
    q, entries, sink = normal(2, 4, 3, 8), normal(2, 9, 8, seed=1), normal(3, seed=2)
    places = torch.tensor([[[0, 3, 5]] * 4] * 2)
    valid = torch.tensor([True, True, False]).expand(2, 4, 3)
    chosen = torch.stack([entries[:, [0, 3, 5]]] * 4, 1)
    seen = torch.zeros(2, 4, 9, dtype=torch.bool)
    seen[..., [0, 3]] = True
    assert places.shape == valid.shape
    assert (attend_chosen(q, chosen, sink, valid) - attend(q, entries, sink, seen)).abs().max() < 1e-12


def test_visible_is_causal_windowed_and_in_one_document() -> None:
    segments = torch.tensor([[0, 0, 0, 1, 1, 1]])
    seen = visible(torch.arange(6), torch.arange(6), window=2, segments=(segments, segments))[0].int()
    assert seen.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_rotation_turns_pairs_by_position() -> None:
    x = normal(1, 4, 10)
    cos, sin = angles(torch.arange(4)[None], 6, theta=100.0)
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[..., :4], x[..., :4])
    for position in range(4):
        for pair in range(3):
            angle = position * 100.0 ** (-2 * pair / 6)
            a, b = x[0, position, 4 + 2 * pair], x[0, position, 5 + 2 * pair]
            assert turned[0, position, 4 + 2 * pair].item() == pytest.approx(
                float(a * math.cos(angle) - b * math.sin(angle)), abs=1e-6
            )
    assert (rotate(turned, cos, -sin) - x).abs().max() < 1e-6


def test_values_carry_distance() -> None:
    """Equal weights over equal contents: what comes out still depends on how far away they were."""
    content = normal(1, 1, 8)
    outs = []
    for distance in (1, 20):
        cos, sin = angles(torch.tensor([[50 - distance]]), 8)
        back_cos, back_sin = angles(torch.tensor([[50]]), 8)
        outs.append(rotate(rotate(content, cos, sin), back_cos, -back_sin))
    assert (outs[0] - outs[1]).norm() > 0.1 * content.norm()
    assert outs[0].norm().item() == pytest.approx(outs[1].norm().item(), rel=1e-5)


def test_norm_in_two_formats() -> None:
    x = normal(3, 16).float()
    module = RMSNorm(16, eps=1e-6)
    with torch.no_grad():
        module.weight.copy_(normal(16, seed=1))
    expected = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * module.weight
    assert (module(x) - expected).abs().max() < 1e-6
    mixed = module(x.bfloat16())
    assert mixed.dtype == torch.bfloat16 and (mixed.float() - expected).abs().max() < 0.05
    assert (rms_norm(torch.ones(4)) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("window", [None, 40])
def test_flex_equals_the_plain_form_outputs_and_gradients(monkeypatch, window) -> None:
    """The formula of the fast path in its eager form; the fused kernels themselves need a GPU."""
    from torch.nn.attention import flex_attention as flex

    from dsv4.ops import attend as module
    from dsv4.ops import visible as masks

    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)  # refuses gradients on a CPU
    monkeypatch.setattr(module, "AuxRequest", flex.AuxRequest, raising=False)
    monkeypatch.setattr(module, "flex_attention", flex.flex_attention, raising=False)
    monkeypatch.setattr(masks, "create_block_mask", flex.create_block_mask, raising=False)
    segments = (torch.arange(128) // 50).expand(2, -1)
    places = torch.arange(128)
    seen = visible(places, places, window=window, segments=(segments, segments))
    mask = masks.flex_mask(segments, batch=2, length=128, window=window, device=torch.device("cpu"))
    found = []
    for run in (lambda *given: attend(*given, seen), lambda *given: module.attend_flex(*given, mask)):
        given = [normal(2, 128, 3, 16).float(), normal(2, 128, 16, seed=1).float(), normal(3, seed=2).float()]
        given = [one.requires_grad_() for one in given]
        out = run(*given)
        (out * normal(2, 128, 3, 16, seed=4).float()).sum().backward()
        found.append([out.detach(), *(one.grad for one in given)])
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=0, atol=2e-4)
