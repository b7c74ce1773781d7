"""The curriculum of nano: which stages there are, in which order, how long each runs and at which rates.

Durations are minutes on one large GPU or on two CPU cores; every figure can be overridden from the command line.
Measured ground for the noise levels, rates and orders: docs/log.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsv4.errors import unknown
from dsv4.train.optim import Rates

PATCHES = 1024  # of a row as `Stage.rows` counts a head's rows: one clip of 16 frames at 64 px, or so many pictures


@dataclass(frozen=True, kw_only=True)
class HeadKind:
    """One kind of step of a head: pictures or clips of one size, and their share of the steps."""

    size: int
    frames: int = 1
    share: float = 1.0

    @property
    def patches(self) -> int:
        """Patches of 8 x 8 pixels in one row."""
        return self.frames * (self.size // 8) ** 2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: the kind of job, its batch for one device, and its time."""

    name: str
    job: str  # text, settle, see, ask, head or index
    gpu_minutes: float
    cpu_minutes: float
    gpu_rows: int
    cpu_rows: int
    rates: Rates = field(default_factory=Rates)
    hold: float = 0.3
    gentle: float = 0.25  # of the rates, for what is trained gently
    warmup: int = 100  # steps
    seq_len: int = 1024
    kinds: Mapping[str, HeadKind] = field(default_factory=dict)  # of a head job

    def rows(self, device: str) -> int:
        """Rows of a batch on one device."""
        return self.cpu_rows if device == "cpu" else self.gpu_rows

    def minutes(self, device: str) -> float:
        """How long the stage runs unless told otherwise."""
        return self.cpu_minutes if device == "cpu" else self.gpu_minutes


_HEAD = Rates(matrices=0.01, rest=1e-3)
_TUNE = Rates(matrices=0.004, rest=5e-4)
_SETTLE = Rates(matrices=0.002, rest=4e-4, rows=0.0)  # the memory stays as it is
_ALL = {
    "film64": HeadKind(size=64, frames=16, share=0.6),
    "paint64": HeadKind(size=64, share=0.1),
    "paint128": HeadKind(size=128, share=0.3),
}
CURRICULUM: tuple[Stage, ...] = (
    Stage(name="text", job="text", gpu_minutes=5.2, cpu_minutes=60, gpu_rows=64, cpu_rows=8),
    Stage(name="see", job="see", gpu_minutes=12.5, cpu_minutes=40, gpu_rows=96, cpu_rows=8, gentle=0.5),
    Stage(name="ask", job="ask", gpu_minutes=1.7, cpu_minutes=20, gpu_rows=96, cpu_rows=8, rates=_TUNE),
    Stage(
        name="settle",
        job="settle",
        gpu_minutes=0.3,
        cpu_minutes=18,
        gpu_rows=256,
        cpu_rows=8,
        rates=_SETTLE,
        warmup=5,
        seq_len=256,
    ),
    Stage(name="index", job="index", gpu_minutes=0.4, cpu_minutes=5, gpu_rows=16, cpu_rows=2, rates=_TUNE),
    Stage(
        name="paint",
        job="head",
        gpu_minutes=1.3,
        cpu_minutes=60,
        gpu_rows=64,
        cpu_rows=2,
        rates=_HEAD,
        hold=0.7,
        kinds={"paint64": HeadKind(size=64)},
    ),
    Stage(
        name="enlarge",
        job="head",
        gpu_minutes=1.7,
        cpu_minutes=30,
        gpu_rows=64,
        cpu_rows=2,
        rates=_HEAD,
        kinds={"paint64": HeadKind(size=64, share=0.2), "paint128": HeadKind(size=128, share=0.8)},
    ),
    Stage(name="film", job="head", gpu_minutes=4.8, cpu_minutes=60, gpu_rows=64, cpu_rows=2, rates=_HEAD, kinds=_ALL),
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
