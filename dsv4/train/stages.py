"""The curriculum of nano: which stages there are, in which order, how long each runs and at which rates.

Durations are minutes on one large GPU or on two CPU cores; every figure can be overridden from the command line.
Measured ground for the noise levels, rates and orders: docs/log.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dsv4.errors import unknown
from dsv4.train.optim import Rates


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: the kind of job, its batch for one device, and its time."""

    name: str
    job: str  # text, see, head or index
    gpu_minutes: float
    cpu_minutes: float
    gpu_rows: int
    cpu_rows: int
    rates: Rates = field(default_factory=Rates)
    hold: float = 0.3
    seq_len: int = 1024
    task: str = "paint"  # of a head job: paint or film
    size: int = 64
    frames: int = 1
    pictures: float = 0.25  # of a film job: the share of steps that are on pictures

    def rows(self, device: str) -> int:
        """Rows of a batch on one device."""
        return self.cpu_rows if device == "cpu" else self.gpu_rows

    def minutes(self, device: str) -> float:
        """How long the stage runs unless told otherwise."""
        return self.cpu_minutes if device == "cpu" else self.gpu_minutes


_HEAD = Rates(matrices=0.01, rest=1e-3)
_TUNE = Rates(matrices=0.004, rest=5e-4)
CURRICULUM: tuple[Stage, ...] = (
    Stage(name="text", job="text", gpu_minutes=6.0, cpu_minutes=60, gpu_rows=32, cpu_rows=8),
    Stage(name="see", job="see", gpu_minutes=3.5, cpu_minutes=40, gpu_rows=96, cpu_rows=8),
    Stage(name="paint", job="head", gpu_minutes=5.0, cpu_minutes=60, gpu_rows=1024, cpu_rows=16, rates=_HEAD),
    Stage(
        name="film",
        job="head",
        gpu_minutes=4.5,
        cpu_minutes=40,
        gpu_rows=64,
        cpu_rows=4,
        rates=_HEAD,
        task="film",
        frames=16,
    ),
    Stage(
        name="together",
        job="head",
        gpu_minutes=2.0,
        cpu_minutes=45,
        gpu_rows=64,
        cpu_rows=4,
        rates=Rates(matrices=0.006, rest=6e-4),
        task="film",
        frames=16,
        pictures=0.8,
    ),
    Stage(name="index", job="index", gpu_minutes=0.5, cpu_minutes=5, gpu_rows=16, cpu_rows=2, rates=_TUNE),
)


def choose(names: str | None) -> list[Stage]:
    """The stages named in a comma-separated list, in the curriculum's order; all of them without a list."""
    if names is None:
        return list(CURRICULUM)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [stage.name for stage in CURRICULUM]
    for name in wanted:
        if name not in known:
            raise unknown("stage", name, known)
    return [stage for stage in CURRICULUM if stage.name in wanted]
