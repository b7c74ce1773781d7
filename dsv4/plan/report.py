"""The plan as a page of text."""

from __future__ import annotations

from dsv4.plan.models import TIERS
from dsv4.plan.place import ENGINE_OVERHEAD
from dsv4.plan.tables import age_in_days, table
from dsv4.plan.work_out import Plan

NAMES = {"device": "device", "dram": "host memory", "disk": "disk", "nowhere": "NOWHERE"}


def lines(made: Plan) -> list[str]:
    """What a person reads."""
    model = made.model
    head = f"{model.name}: {_count(model.total)} parameters, {_count(model.active)} active a token"
    told = [
        f"{head}; tier {made.tier} ({TIERS[made.tier].says}), {made.batch} x {made.context:,} tokens",
        f"on {_machine(made)}",
        "",
        f"{'part':<9}{'parameters':>11}{'bits':>8}{'GB':>11}  where",
    ]
    for one in made.placed.components:
        where = ", ".join(f"{NAMES[place]} {gb:,.2f}" for place, gb in one.where.items())
        bits = f"{one.bits:g}" if one.bits else "-"
        count = _count(one.parameters) if one.parameters else "-"
        told.append(f"{one.name:<9}{count:>11}{bits:>8}{one.gb:>11,.3f}  {where or 'nothing'}: {one.why}")
    told.append(f"{'all':<9}{'':>19}{sum(one.gb for one in made.placed.components):>11,.3f}")
    cache = made.placed.part("cache").gb
    told.append(f"An engine with pages may need {cache * ENGINE_OVERHEAD:,.2f} GB for the cache (vLLM issue 51041).")
    told += ["", *_verdict(made), ""]
    if made.nearest:
        told.append("nearest that fit:")
        told += [f"  {near.change:<44}{_rate(near.low, near.high)} tokens/s" for near in made.nearest]
    told.append(f"start it: {made.launch}")
    told += [f"The table of {name} is {age_in_days(name)} days old: check it." for name in made.stale]
    return told


def _verdict(made: Plan) -> list[str]:
    if made.speed is None:
        return [f"DOES NOT FIT: {made.placed.why_not}"]
    speed = made.speed
    each = ", ".join(f"{NAMES.get(place, place)} {took:.3g} ms" for place, took in speed.step_ms.items())
    by = NAMES.get(speed.bound_by, speed.bound_by)
    told = [
        "FITS",
        f"a step: {each}; bound by {by}",
        f"decode: at most {speed.bound:,.1f} tokens/s, {_rate(speed.low, speed.high)} to be expected",
    ]
    if speed.prefill_s is not None:
        told.append(f"reading {made.context:,} tokens: at least {speed.prefill_s:,.2f} s of arithmetic on the device")
    if made.cost is not None:
        cost = made.cost
        told.append(f"a million written tokens: {cost.low:,.2f} to {cost.high:,.2f} USD ({cost.of})")
        prices = table("prices")
        told.append(f"the same at an API, prices of {prices['dated']}, USD:")
        told += [f"  {name:<28}{row['out']:>6g}" for name, row in prices["apis"].items()]
    return told


def _machine(made: Plan) -> str:
    there = made.machine
    parts = []
    if there.count:
        many = f"{there.count} x " if there.count > 1 else ""
        parts.append(f"{many}{there.kind} with {there.device.gb:,.0f} GB at {there.device.gb_s:,.0f} GB/s")
    for name, memory in (("host memory", there.dram), ("disk", there.disk)):
        if memory.gb:
            parts.append(f"{name} of {memory.gb:,.0f} GB at {memory.gb_s:.3g} GB/s")
    return f"{there.name}: {', '.join(parts)}"


def _rate(low: float, high: float) -> str:
    return f"{low:,.1f} to {high:,.1f}"


def _count(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.2f}{letter}"
    return f"{number:,.0f}"
