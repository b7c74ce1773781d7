"""Steps: flat gradients, clipping, and replayed steps that equal ordinary ones wherever there is CUDA."""

import copy

import pytest
import torch
from torch import nn

from dsv4.train.optim import Rates, make_optimizers, set_rates
from dsv4.train.step import Gradients, Stepper, make_stepper
from dsv4.train.world import World

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Task:
    """Two kinds of batches of different shapes through one small network."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 30)).to(device)
        self.unused = nn.Linear(12, 12).to(device)
        self.device = device

    def loss(self, kind: str, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        scores = self.net(batch["ids"]).flatten(0, 1)
        loss = nn.functional.cross_entropy(scores, batch["ids"].roll(1, dims=1).flatten())
        return {"loss": loss, kind: loss, "loads": scores.mean(0)}

    def batch(self, step: int) -> tuple[str, dict[str, torch.Tensor]]:
        kind, rows = ("short", 3) if step % 3 else ("long", 9)
        ids = torch.randint(0, 30, (rows, 7), generator=torch.Generator().manual_seed(step))
        return kind, {"ids": ids.to(self.device)}


def train(task: Task, make, steps: int) -> list[float]:
    """Losses of `steps` steps at falling rates."""
    world = World(rank=0, size=1, device=torch.device(task.device))
    modules = [task.net, task.unused]
    optimizers = make_optimizers(modules, Rates(matrices=0.02, rest=0.01))
    gradients = Gradients(p for module in modules for p in module.parameters())
    losses = []
    with world.own_stream():
        stepper = make(task.loss, gradients, optimizers, world, clip=0.5)
        for step in range(steps):
            set_rates(optimizers, 1 - step / steps)
            kind, batch = task.batch(step)
            found = stepper.run(kind, batch)
            assert found["loads"].shape == (30,) and kind in found
            losses.append(float(found["loss"]))
    return losses


@pytest.mark.parametrize("device", DEVICES)
def test_the_stepper_of_a_device_takes_the_plain_steps(device):
    plain, made = Task(device), Task(device)
    expected = train(plain, Stepper, 30)
    assert train(made, make_stepper, 30) == pytest.approx(expected, rel=1e-3)
    for a, b in zip(plain.net.parameters(), made.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)
    assert expected[-1] < expected[0]


def test_gradients_are_views_of_one_vector_and_are_clipped_as_torch_does():
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    other = copy.deepcopy(net)
    gradients = Gradients(net.parameters())
    for module in (net, other):
        (module(torch.arange(10.0).view(2, 5)).square().sum()).backward()
    gradients.clip(0.7)
    torch.nn.utils.clip_grad_norm_(other.parameters(), 0.7)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)
    assert torch.isclose(gradients.flat.norm(), torch.tensor(0.7), atol=1e-4)
    gradients.clear()
    assert all(not p.grad.any() for p in net.parameters())


def test_parameters_without_a_gradient_stay_where_they_are():
    task = Task("cpu")
    before = task.unused.weight.detach().clone()
    train(task, Stepper, 4)
    assert torch.equal(task.unused.weight, before)
