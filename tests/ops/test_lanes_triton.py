"""Kernels of residual lanes in the interpreter: a site's reading, its writing and all gradients, and a whole core."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import torch

from dsv4.ops import lanes_triton

INTERPRETED = """
import dataclasses, torch
from dsv4.core import presets
from dsv4.core.config import LanesConfig
from dsv4.core.hyper import HyperLanes
from dsv4.core.model import LanguageCore
from dsv4.ops import lanes_triton
lanes_triton.WIDE, lanes_triton.STEP = 32, 32  # so that passes take several steps
def site(lanes, hidden):
    torch.manual_seed(lanes)
    config = dataclasses.replace(presets.micro(), hidden=hidden, lanes=LanesConfig(count=lanes, iterations=3))
    module = HyperLanes(config, 1)
    with torch.no_grad():
        module.fn.normal_(std=0.2), module.scale.uniform_(0.5, 1.5), module.base.normal_()
    return module
def run(module, x, y, g):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    into, post, comb = module.read(x)
    out = module.write(x, y + into, post, comb)
    found = torch.autograd.grad(out, (x, y, module.fn, module.scale, module.base), g)
    return [into, post, comb, out, *found]
def far(found, wanted):
    return [float((a.double() - b.double()).abs().max() / b.double().abs().max()) for a, b in zip(found, wanted)]
for lanes, hidden, tokens in ((2, 36, 17), (4, 20, 2)):
    module = site(lanes, hidden)
    x, y, g = (torch.randn(1, tokens, *rest, hidden) for rest in ((lanes,), (), (lanes,)))
    assert lanes_triton.applies(x, lanes)
    wanted = run(site(lanes, hidden).double(), x.double(), y.double(), g.double())
    assert max(far(run(module, x, y, g), wanted)) < 2e-5, far(run(module, x, y, g), wanted)
    if lanes == 4:
        continue
    b = torch.bfloat16  # as trained: float32 weights, bfloat16 lanes
    with torch.autocast("cpu", dtype=b):
        assert max(far(run(module, x.to(b), y.to(b), g.to(b)), wanted)) < 6e-2
into, _, _ = module.read(x)  # only one of three is used
(slope,) = torch.autograd.grad(into, module.base, torch.ones_like(into))
assert slope[2 * module.lanes :].abs().max() == 0 and slope[: module.lanes].abs().min() > 0
torch.manual_seed(0)
core = LanguageCore.from_config(dataclasses.replace(presets.micro(), reach=("sliding",), engram=None,
                                                      lanes=LanesConfig(count=2, iterations=3)))
ids = torch.randint(0, 256, (1, 4))
def trained():
    core.zero_grad()
    loss = core.loss(core(ids, logits=False).hidden_BTD, ids)
    loss.backward()
    return [loss.detach(), core.blocks[0].hyper_experts.fn.grad.clone(), core.embedding.weight.grad.clone()]
fast = trained()
lanes_triton.AVAILABLE = False
assert max(far(fast, trained())) < 1e-4
print("equal")
"""


def test_kernels_in_the_interpreter() -> None:
    if importlib.util.find_spec("triton") is None:  # not built for every platform; the plain form is used there
        assert not lanes_triton.AVAILABLE
        return
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


def test_no_processor_takes_them() -> None:
    assert not lanes_triton.AVAILABLE or torch.cuda.is_available()
