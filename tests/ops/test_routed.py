"""Experts sorted on the device are the experts token by token: a few, many, none for some; results and gradients."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from dsv4.core.moe import Experts, gated
from dsv4.core.presets import micro
from dsv4.ops import routed, routed_triton


def by_hand(x, first, last, places, weights, limit):
    rows = []
    for x_W, experts, shares in zip(x, places.tolist(), weights, strict=True):
        parts = []
        for expert, share in zip(experts, shares, strict=True):
            gate, up = (first[expert] @ x_W).chunk(2)
            if limit is not None:
                gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
            parts.append(share * (last[expert] @ (F.silu(gate) * up)))
        rows.append(sum(parts))
    return torch.stack(rows)


def drawn(tokens, chosen=2, count=5, used=5):
    torch.manual_seed(tokens)
    x, first, last = torch.randn(tokens, 12), torch.randn(count, 14, 12) / 3, torch.randn(count, 12, 7) / 3
    places = torch.stack([torch.randperm(used)[:chosen] for _ in range(tokens)])
    kept = [t.double().requires_grad_() for t in (x, first, last, torch.rand(tokens, chosen))]
    return kept[0], kept[1], kept[2], places, kept[3]


@pytest.mark.parametrize("limit", [None, 0.4])
@pytest.mark.parametrize(("tokens", "used"), [(1, 5), (3, 2), (40, 5), (40, 2)])
def test_forms_are_the_loop_with_its_gradients(tokens, used, limit):
    x, first, last, places, weights = drawn(tokens, used=used)
    leaves = (x, first, last, weights)
    slope = torch.randn(tokens, 12, dtype=torch.float64)
    wanted = by_hand(x, first, last, places, weights, limit)
    slopes = torch.autograd.grad(wanted, leaves, slope)
    unit = partial(gated, limit=limit)
    for found in (
        routed.grouped(x, first, last, places, weights, unit),
        routed.few(x, first, last, places, weights, unit, limit),
    ):
        assert (found - wanted).abs().max() < 1e-12
        for one, other in zip(torch.autograd.grad(found, leaves, slope), slopes, strict=True):
            assert (one - other).abs().max() < 1e-12


def test_groups_begin_at_multiples_of_eight_and_cover_every_row():
    places = torch.tensor([[3, 1], [3, 0], [1, 3]])
    rows, tokens, ends = routed.sort_by_expert(places, 5)
    assert ends.tolist() == [8, 16, 16, 24, 48] and tokens.shape == (48,)  # 6 slots and 5 groups of at most 7 more
    assert rows.tolist() == [[16, 8], [17, 0], [9, 18]]
    assert torch.equal(tokens[rows], torch.arange(3)[:, None].expand(3, 2))


def test_a_whole_layer_in_every_form(monkeypatch):
    torch.manual_seed(0)
    config = micro()
    config = dataclasses.replace(config, experts=dataclasses.replace(config.experts, count=20, chosen=3, limit=1.0))
    module = Experts(config, 0).double()
    for weight in (module.experts_in, module.experts_out):
        torch.nn.init.normal_(weight, std=0.3)
    x = torch.randn(2, 30, config.hidden, dtype=torch.float64)
    weights, chosen, _ = module.router(x)
    assert routed.form_of(x[0], module.experts_in) == "loop"
    wanted = module._routed(x, weights, chosen)
    for form in ("few", "grouped"):
        monkeypatch.setattr(routed, "form_of", lambda *given, form=form: form)
        assert (module._routed(x, weights, chosen) - wanted).abs().max() < 1e-12 * wanted.abs().max()


INTERPRETED = """
import torch
from functools import partial
from dsv4.core.moe import gated
from dsv4.ops import routed, routed_triton
torch.manual_seed(0)
cases = ((1, 2, None, torch.float32, 1e-5), (3, 3, 0.5, torch.float32, 1e-5), (2, 1, None, torch.bfloat16, 2e-2))
for tokens, chosen, limit, dtype, most in cases:
    x, first, last = torch.randn(tokens, 270), torch.randn(4, 40, 270) / 17, torch.randn(4, 270, 20) / 6
    x, first, last = x.to(dtype), first.to(dtype), last.to(dtype)
    places = torch.stack([torch.randperm(4)[:chosen] for _ in range(tokens)])
    weights, unit = torch.rand(tokens, chosen), partial(gated, limit=limit)
    wide = (x.double(), first.double(), last.double(), places, weights.double())
    wanted = routed.grouped(*wide, unit)
    with torch.no_grad():
        assert routed_triton.applies(x, first)
        found = routed.few(x, first, last, places, weights, unit, limit)
    assert found.dtype == dtype and (found - wanted).abs().max() < most * wanted.abs().max(), (tokens, dtype)
print("equal")
"""


def test_kernels_in_the_interpreter():
    if importlib.util.find_spec("triton") is None:  # not built for every platform; the gathered form is used there
        assert not routed_triton.AVAILABLE
        return
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
