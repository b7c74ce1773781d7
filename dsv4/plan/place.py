"""Which part of a model lies in which memory: what every token reads first, then experts, then memory rows.

The device takes dense weights and the cache, then as many routed experts as fit; host memory takes the rest of the
experts, then Engram's tables; the disk takes what is left, mapped.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsv4.plan.hardware import Machine
from dsv4.plan.models import TIERS, Sizes, Tier

GB = 1e9
PLACES = ("device", "dram", "disk")
# A paged cache of several kinds of layers wastes room: vLLM issue 51041 reports 7,455 bytes a token where the formula
# has 3,850. Shown beside the formula, never mixed into it.
ENGINE_OVERHEAD = 1.94


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of the model: its parameters, bits each, GB, and how many of those GB lie where."""

    name: str
    parameters: float
    bits: float
    gb: float
    where: dict[str, float]
    why: str


@dataclass(frozen=True, kw_only=True)
class Placement:
    """All components, and whether they fit; `short` GB are without a home."""

    components: tuple[Component, ...]
    short: float
    why_not: str

    @property
    def fits(self) -> bool:
        """Whether everything has a home."""
        return not self.why_not

    def part(self, name: str) -> Component:
        """A component by name: `dense`, `experts`, `engram` or `cache`."""
        return next(one for one in self.components if one.name == name)


def cache_gb(model: Sizes, rows: str, context: int, batch: int) -> float:
    """GB that `batch` sequences of `context` tokens keep."""
    return batch * (context * model.kept_per_token(rows) + model.kept_always(rows)) / GB


def place(model: Sizes, tier: str, machine: Machine, *, context: int, batch: int) -> Placement:
    """Give every part a home. A machine without a device computes in host memory, where everything dense must fit."""
    bits: Tier = TIERS[tier]
    free = {where: machine.usable(where) for where in PLACES}
    home = "device" if machine.device.gb else "dram"
    room_at_home = free[home]
    made: list[Component] = []
    why_not = ""

    def put(name: str, parameters: float, width: float, gb: float, order: tuple[str, ...], why: str) -> None:
        left, where = gb, {}
        for there in order:
            taken = min(left, free[there])
            if taken > 1e-12:
                where[there] = taken
                free[there] -= taken
                left -= taken
        if left > 1e-9:
            where["nowhere"] = left
        made.append(Component(name=name, parameters=parameters, bits=width, gb=gb, where=where, why=why))

    put("dense", model.dense, bits.dense, model.dense * bits.dense / 8 / GB, (home,), "every token reads all of it")
    kept = cache_gb(model, bits.rows, context, batch)
    put("cache", 0, 0, kept, (home,), f"{bits.rows} rows, {batch} x {context:,} tokens")
    experts = model.experts * bits.experts / 8 / GB
    put("experts", model.experts, bits.experts, experts, _order(home), f"{model.chosen} of {model.count} a token")
    if model.engram:
        tables = model.engram * bits.engram / 8 / GB
        order = ("dram", "disk", "device") if not machine.unified else ("device", "disk")
        put("engram", model.engram, bits.engram, tables, order, "a few rows a token, known before they are needed")
    short = sum(one.where.get("nowhere", 0.0) for one in made)
    if short:
        why_not = _why(made, machine, home, room_at_home, short)
    return Placement(components=tuple(made), short=short, why_not=why_not)


def _order(home: str) -> tuple[str, ...]:
    return ("device", "dram", "disk") if home == "device" else ("dram", "disk")


def _why(made: list[Component], machine: Machine, home: str, room: float, short: float) -> str:
    homeless = {one.name: one.where["nowhere"] for one in made if "nowhere" in one.where}
    at_home = sum(one.gb for one in made if one.name in ("dense", "cache"))
    if "dense" in homeless or "cache" in homeless:
        what = "device" if home == "device" else "host memory"
        return (
            f"dense weights and cache take {at_home:,.1f} GB and must lie in the {what}, "
            f"of which {room:,.1f} GB can be used: {at_home - room:,.1f} GB too much"
        )
    names = " and ".join(homeless)
    total = sum(machine.usable(where) for where in PLACES)
    return f"{short:,.1f} GB of {names} have no home: all memories and the disk have {total:,.1f} GB to use"
