"""What every claim is given and gives back: sizes and seeds, and a table with its lines to plot."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsv4.eval.plot import Line


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How large and how often: what every claim gets."""

    scale: int
    seeds: tuple[int, ...]
    device: str

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        return 250 * self.scale

    @property
    def width(self) -> int:
        """Hidden size of the models that are trained."""
        return 64 * max(1, round(self.scale**0.5))


@dataclass
class Finding:
    """A table, and the same as lines to plot."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    x: str = ""
    y: str = ""
    log_x: bool = False
    log_y: bool = False

    def markdown(self) -> str:
        """The table for a document."""
        ruled = [self.columns, ("---",) * len(self.columns), *self.rows]
        return f"### {self.title}\n" + "\n".join("| " + " | ".join(row) + " |" for row in ruled) + "\n"


def spread(values: list[float], digits: int = 3) -> str:
    """Mean, and least to greatest where there are several."""
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def mean(values: list[float]) -> float:
    """The mean of a few figures."""
    return sum(values) / len(values)
