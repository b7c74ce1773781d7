"""Sinkhorn: vector form, scalar form and the Triton kernels are one formula."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from dsv4.ops import sinkhorn_triton
from dsv4.ops.sinkhorn import reference, scalar, sinkhorn


def by_hand(logits: torch.Tensor, iterations: int, eps: float) -> torch.Tensor:
    c = torch.softmax(logits, -1) + eps
    c = c / (c.sum(-2, keepdim=True) + eps)
    for _ in range(iterations - 1):
        c = c / (c.sum(-1, keepdim=True) + eps)
        c = c / (c.sum(-2, keepdim=True) + eps)
    return c


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
@pytest.mark.parametrize("iterations", [1, 20])
def test_three_forms_agree(lanes: int, iterations: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3, lanes, lanes, dtype=torch.float64) * 2
    expected = by_hand(logits, iterations, 1e-6)
    assert (sinkhorn(logits, iterations=iterations) - expected).abs().max() < 1e-12
    one = scalar(logits[4, 1].tolist(), iterations=iterations, eps=1e-6)
    assert (torch.tensor(one, dtype=torch.float64) - expected[4, 1]).abs().max() < 1e-12


def test_rows_and_columns_sum_to_one() -> None:
    torch.manual_seed(0)
    found = sinkhorn(torch.randn(1000, 4, 4, dtype=torch.float64))
    assert (found.sum(-2) - 1).abs().max() < 5e-6
    assert (found.sum(-1) - 1).abs().quantile(0.99) < 1e-4
    assert (sinkhorn(torch.zeros(1, 4, 4)) - 0.25).abs().max() < 1e-6


def test_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: reference(x, iterations=5, eps=1e-6), (logits,))


INTERPRETED = """
import torch
from dsv4.ops import sinkhorn_triton as fast
from dsv4.ops import sinkhorn_triton
from dsv4.ops.sinkhorn import reference
torch.manual_seed(0)
for lanes in (2, 4):
    x, g = torch.randn(130, lanes, lanes), torch.randn(130, lanes, lanes)
    y = x.double().requires_grad_()
    out = reference(y, iterations=4, eps=1e-6)
    out.backward(g.double())
    found, slope = fast.sinkhorn(x, 4, 1e-6), fast.sinkhorn_backward(x, g, 4, 1e-6)
    assert (found - out).abs().max() < 1e-5 and (slope - y.grad).abs().max() < 1e-5, lanes
print("equal")
"""


def test_kernels_in_the_interpreter() -> None:
    if importlib.util.find_spec("triton") is None:  # not built for every platform; the vector form is used there
        assert not sinkhorn_triton.AVAILABLE
        return
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
