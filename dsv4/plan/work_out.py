"""The plan: a model in a tier on a machine, where it lies, how fast, at what cost, and what fits if it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from dsv4.errors import InputError, unknown
from dsv4.plan.hardware import Machine, machine, machines
from dsv4.plan.launch import launch_line
from dsv4.plan.models import TIERS, Sizes, sizes
from dsv4.plan.place import ENGINE_OVERHEAD, Placement, cache_gb, place
from dsv4.plan.speed import Speed, decode
from dsv4.plan.tables import age_in_days, table

LADDER = ("bf16", "fp8", "native", "q4")  # from exact to small; what "nearest" may step along
LONGEST, MOST = 1 << 24, 1 << 16


@dataclass(frozen=True, kw_only=True)
class Cost:
    """USD for a million decoded tokens at the fast and at the slow end of the range, and what it is made of."""

    low: float
    high: float
    of: str


@dataclass(frozen=True, kw_only=True)
class Near:
    """Something close to what was asked for that fits."""

    change: str
    tier: str
    context: int
    batch: int
    hardware: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that `dsv4 plan` says."""

    model: Sizes
    tier: str
    context: int
    batch: int
    machine: Machine
    placed: Placement
    speed: Speed | None
    cost: Cost | None
    nearest: tuple[Near, ...]
    launch: str
    stale: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = asdict(self)
        found["fits"], found["why_not"] = self.placed.fits, self.placed.why_not
        found["model"] |= {"total": self.model.total, "active": self.model.active}
        gb = cache_gb(self.model, TIERS[self.tier].rows, self.context, self.batch)
        found["cache"] = {"formula_gb": gb, "with_engine_overhead_gb": gb * ENGINE_OVERHEAD}
        return found


def plan(
    model: str | Sizes,
    *,
    tier: str = "q4",
    context: int = 32_768,
    batch: int = 1,
    hardware: str | Machine = "desktop-5090",
    usd_hour: float | None = None,
) -> Plan:
    """Work it out. Raises InputError for an unknown model, tier or machine, and for numbers out of range."""
    if tier not in TIERS:
        raise unknown("tier", tier, TIERS)
    _check("context", context, LONGEST)
    _check("batch", batch, MOST)
    if usd_hour is not None and not 0 <= usd_hour < 1e6:
        raise InputError(f"usd_hour must be from 0 to a million, got {usd_hour}")
    known = sizes(model) if isinstance(model, str) else model
    there = machine(hardware) if isinstance(hardware, str) else hardware
    if usd_hour is not None:
        there = replace(there, usd_hour=usd_hour)
    placed = place(known, tier, there, context=context, batch=batch)
    speed = decode(known, tier, there, placed, context=context, batch=batch) if placed.fits else None
    limit = table("prices")["stale_after_days"]
    return Plan(
        model=known, tier=tier, context=context, batch=batch, machine=there, placed=placed, speed=speed,
        cost=_cost(there, speed) if speed else None,
        nearest=tuple(_nearest(known, tier, context, batch, there)),
        launch=launch_line(known, tier, context, there, placed),
        stale=tuple(name for name in ("hardware", "prices") if age_in_days(name) > limit),
    )  # fmt: skip


def _check(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"{name} must be a whole number from 1 to {most:,}, got {value!r}")


def _cost(there: Machine, speed: Speed) -> Cost | None:
    prices = table("prices")
    power = there.watts / 1000 * prices["pue"] * prices["electricity_usd_kwh"]
    if there.usd_hour is None and not power:
        return None
    hourly = power if there.usd_hour is None else there.usd_hour
    what = f"{there.watts:,.0f} W at {prices['electricity_usd_kwh']:.2f} USD a kWh, nothing for the machine"
    if there.usd_hour is not None:
        what = f"{there.usd_hour:,.2f} USD an hour, used all the time"
    low, high = (hourly / (rate * 3600) * 1e6 for rate in (speed.high, speed.low))
    return Cost(low=low, high=high, of=what)


def _nearest(known: Sizes, tier: str, context: int, batch: int, there: Machine) -> Iterator[Near]:
    """The three closest that fit: each step of tier, halving of context or batch, or change of machine counts."""
    found = []
    for distance, change, other_tier, other_context, other_batch, other in _around(tier, context, batch, there):
        placed = place(known, other_tier, other, context=other_context, batch=other_batch)
        if placed.fits:
            speed = decode(known, other_tier, other, placed, context=other_context, batch=other_batch)
            near = Near(
                change=change, tier=other_tier, context=other_context, batch=other_batch, hardware=other.name,
                low=speed.low, high=speed.high,
            )  # fmt: skip
            found.append((distance, change, near))
    # One of a kind: three shorter contexts would tell nothing more than the first of them.
    kinds = set()
    for _, _, near in sorted(found, key=lambda one: one[:2]):
        kind = (near.tier, near.hardware)
        if kind not in kinds and len(kinds) < 3:
            kinds.add(kind)
            yield near


def _around(tier: str, context: int, batch: int, there: Machine) -> Iterator[tuple[float, str, str, int, int, Machine]]:
    at = TIERS[tier]
    smaller = [name for name in LADDER if TIERS[name].experts < at.experts or TIERS[name].dense < at.dense]
    contexts = [context >> step for step in range(8) if context >> step >= 2048] or [context]
    batches = [batch >> step for step in range(17) if batch >> step]
    size = sum(there.usable(where) for where in ("device", "dram", "disk"))
    # Other machines and shorter contexts are tried one at a time with the tiers; all at once would be many.
    for rank, name in enumerate([tier, *smaller]):
        for step, shorter in enumerate(contexts):
            for fewer_step, fewer in enumerate(batches):
                if rank or step or fewer_step:
                    told = [name] if rank else []
                    told += [f"a context of {shorter:,}"] if step else []
                    told += [f"a batch of {fewer}"] if fewer_step else []
                    yield rank + 0.5 * step + 0.4 * fewer_step, ", ".join(told), name, shorter, fewer, there
        for other_name in machines():
            other = machine(other_name)
            if other_name != there.name:
                other_size = sum(other.usable(where) for where in ("device", "dram", "disk"))
                distance = rank + 2 + abs(math.log2(other_size / size))
                told = f"{other_name}, {name}" if rank else other_name
                yield distance, told, name, context, batch, other
