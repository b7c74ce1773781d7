"""Chunked cross entropy against torch's, values and gradients."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops.loss import cross_entropy


@pytest.mark.parametrize("chunk", [1, 7, 30, 1000])
def test_equals_whole(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(30, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(50, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (30,), generator=generator)
    targets[::4] = -100
    whole = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    ours = cross_entropy(hidden, weight, targets, chunk=chunk)
    assert ours.item() == pytest.approx(whole.item(), rel=1e-12)
    for found, expected in zip(
        torch.autograd.grad(ours * 3, (hidden, weight)), torch.autograd.grad(whole * 3, (hidden, weight)), strict=True
    ):
        assert (found - expected).abs().max() < 1e-12


def test_only_what_is_asked_for() -> None:
    hidden, weight = torch.randn(6, 4), torch.randn(9, 4, requires_grad=True)
    targets = torch.arange(6)
    cross_entropy(hidden, weight, targets, chunk=2).backward()
    assert hidden.grad is None and weight.grad.shape == (9, 4)
    with torch.no_grad():
        assert not cross_entropy(hidden, weight, targets).requires_grad
    assert cross_entropy(hidden, weight, torch.full((6,), -100)).item() == 0
