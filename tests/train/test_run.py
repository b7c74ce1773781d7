"""The stage loop: a killed stage goes on where it was and ends as if it had never stopped."""

import torch
from torch import nn

from dsv4.train.optim import Average, Rates
from dsv4.train.run import Clock, StagePlan, finished_stages, load_parts, run_stage
from dsv4.train.world import World

WORLD = World(rank=0, size=1, device=torch.device("cpu"))


class Killed(Exception):
    """Stands for a process that goes away in the middle of a step."""


class Regression:
    """Fits a small network to fixed targets; its batches depend on the step alone."""

    def __init__(self, *, die_at: int | None = None, rest_on_odd: bool = False) -> None:
        torch.manual_seed(0)
        self.rest_on_odd = rest_on_odd
        self.net = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12))
        self.parts, self.trained = {"net": self.net}, [self.net]
        self.gentle = []
        self.average = Average(self.net, decay=0.9)
        self.die_at = die_at

    def kind(self, step: int) -> str:
        if step == self.die_at:
            raise Killed
        return str(step)

    def rests(self, kind: str) -> bool:
        return int(kind) % 2 == 1 and self.rest_on_odd

    def batch(self, kind: str) -> dict[str, torch.Tensor]:
        return {"x": torch.randn(32, 12, generator=torch.Generator().manual_seed(int(kind)))}

    def loss(self, kind: str, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": (self.net(batch["x"]) - batch["x"].roll(1, dims=1)).square().mean()}

    def after_step(self, losses: dict[str, torch.Tensor]) -> None:
        pass

    def close(self) -> None:
        pass


def plan(**changes) -> StagePlan:
    values = {
        "name": "fit",
        "steps": 40,
        "rates": Rates(matrices=0.02, rest=0.01),
        "warmup": 5,
        "checkpoint_minutes": 0.0,
    }
    return StagePlan(**(values | changes))


def test_a_stage_learns_and_is_noted(tmp_path) -> None:
    job = Regression()
    before = float(job.loss("0", job.batch("0"))["loss"].detach())
    losses = run_stage(job, plan(steps=200), WORLD, tmp_path)
    assert losses["loss"] < before / 2
    assert finished_stages(tmp_path) == ["fit"] and not (tmp_path / "fit").exists()
    other = Regression()
    assert load_parts(tmp_path, {"net": other.net, "absent": nn.Linear(1, 1)}) == ["net"]
    assert all(torch.equal(a, b) for a, b in zip(job.net.parameters(), other.net.parameters(), strict=True))


def test_what_rests_stays_as_it_is_on_its_steps_and_what_is_gentle_learns(tmp_path) -> None:
    job = Regression(rest_on_odd=True)
    shift = torch.nn.Linear(12, 12)
    job.gentle, moved = [shift], {"net": [], "shift": []}
    fit = job.loss
    job.loss = lambda kind, batch: {"loss": fit(kind, batch)["loss"] + shift(batch["x"]).square().mean()}
    seen = {name: part.weight.detach().clone() for name, part in (("net", job.net[0]), ("shift", shift))}

    def note(losses) -> None:
        for name, part in (("net", job.net[0]), ("shift", shift)):
            moved[name].append(not torch.equal(part.weight, seen[name]))
            seen[name] = part.weight.detach().clone()

    job.after_step = note
    run_stage(job, plan(steps=6), WORLD, tmp_path)
    assert moved == {"net": [True, False] * 3, "shift": [True] * 6}


def test_killed_and_resumed_equals_uninterrupted(tmp_path) -> None:
    whole, parts = Regression(), Regression(die_at=23)
    run_stage(whole, plan(), WORLD, tmp_path / "whole")
    try:
        run_stage(parts, plan(), WORLD, tmp_path / "parts")
        raise AssertionError("the job should have died")
    except Killed:
        assert finished_stages(tmp_path / "parts") == []
    resumed = Regression()
    run_stage(resumed, plan(), WORLD, tmp_path / "parts")
    for a, b in zip(whole.net.parameters(), resumed.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_clock_in_minutes_ends_and_a_resumed_one_remembers() -> None:
    fresh = Clock(plan(steps=None, minutes=10.0), WORLD, elapsed=0.0, step=0)
    later = Clock(plan(steps=None, minutes=10.0), WORLD, elapsed=300.0, step=400)
    assert fresh.done(0) < 0.01 and 0.49 < later.done(400) < 0.52
