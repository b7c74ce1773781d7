"""Optimisers: agreement with torch's Muon, stacks of matrices, parameter classes, the schedule and the average."""

import math

import pytest
import torch
from torch import nn

from dsv4.train.optim import Average, Muon, Rates, make_optimizers, orthogonalize, schedule, set_rates, split_parameters


def _seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_muon_agrees_with_torch_on_single_matrices(shape: tuple[int, int]) -> None:
    ours, theirs = nn.Parameter(_seeded(*shape)), nn.Parameter(_seeded(*shape))
    mine = Muon([ours], lr=0.02)
    peer = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.0)
    for step in range(4):
        ours.grad, theirs.grad = _seeded(*shape, seed=step), _seeded(*shape, seed=step)
        mine.step()
        peer.step()
    moved = (theirs - _seeded(*shape)).norm()
    assert (ours - theirs).norm() / moved < 0.05  # both run Newton-Schulz in bfloat16


def test_muon_treats_a_stack_as_its_matrices() -> None:
    stacked = nn.Parameter(_seeded(3, 12, 20))
    single = [nn.Parameter(matrix.clone()) for matrix in _seeded(3, 12, 20)]
    gradient = _seeded(3, 12, 20, seed=5)
    stacked.grad = gradient.clone()
    for parameter, part in zip(single, gradient, strict=True):
        parameter.grad = part.clone()
    Muon([stacked]).step()
    Muon(single).step()
    assert torch.allclose(stacked, torch.stack(list(single)), atol=1e-6)


def test_orthogonalize_brings_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalize(_seeded(4, 32, 20), steps=5).float())
    assert 0.6 < values.min() and values.max() < 1.3


def test_every_parameter_lands_in_one_class() -> None:
    module = nn.ModuleDict({"embed": nn.Embedding(50, 16), "linear": nn.Linear(16, 24), "router": nn.Linear(16, 12)})
    module["engram"] = nn.ModuleDict({"table": nn.Embedding(40, 16)})
    matrices, rows, rest = split_parameters([module, module])
    assert [tuple(p.shape) for p in matrices] == [(24, 16)] and [tuple(p.shape) for p in rows] == [(40, 16)]
    assert len(matrices) + len(rows) + len(rest) == len(list(module.parameters()))
    optimizers = make_optimizers([module], Rates(matrices=0.5, rest=0.25, rows=0.125))
    set_rates(optimizers, 0.5)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.25, 0.125, 0.0625]


def test_schedule_rises_holds_and_falls() -> None:
    values = [schedule(step, 100, warmup=10, hold=0.5) for step in range(100)]
    assert values[0] == 0.1 and values[9] == 1.0 and values[49] == 1.0
    assert values[75] == 0.5 and math.isclose(values[99], 0.02)
    assert all(a >= b for a, b in zip(values[50:], values[51:], strict=False))


def test_average_follows_and_swap_is_its_own_inverse() -> None:
    module = nn.Linear(3, 3)
    average = Average(module, decay=0.5)
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    average.update()  # the first update has decay 1 - 3 / 4
    assert torch.allclose(average.kept[0], start + 0.75, atol=1e-6)
    average.swap()
    assert torch.allclose(module.weight, start + 0.75, atol=1e-6)
    average.swap()
    assert torch.allclose(module.weight, start + 1.0)
