"""How fast decoding can be, from the bytes that one step must read out of each memory.

time of a step = sum over memories of bytes read there / rate. One after the other, as engines that compute the experts
where they lie do it. Experts are taken as used equally often, so a memory that holds a part of them serves that part.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsv4.plan.hardware import Machine
from dsv4.plan.models import TIERS, Sizes
from dsv4.plan.place import GB, PLACES, Placement

# What engines reach of this bound at batch 1: from 0.46 (ds4 on GB10) to 0.95 (FreeToken); docs/plan.md has the list.
REACHED = (0.45, 0.95)
# With many sequences at once: one point, 0.13 (SGLang on H200), so the range is wide on purpose.
REACHED_BATCHED = (0.10, 0.60)
MANY = 8


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Tokens a second, all sequences together: the bound, a realistic range, and milliseconds a step by memory."""

    bound: float
    low: float
    high: float
    step_ms: dict[str, float]
    bound_by: str
    prefill_s: float | None  # seconds to read one prompt of the whole context, by arithmetic alone; None: not known


def decode(model: Sizes, tier: str, machine: Machine, placed: Placement, *, context: int, batch: int) -> Speed:
    """The bound for `batch` sequences that each hold `context` tokens."""
    bits, home = TIERS[tier], "device" if machine.device.gb else "dram"
    dense = (model.dense - model.looked_up) * bits.dense / 8 / GB
    cache = batch * model.read_per_token(bits.rows, context) / GB
    read = {where: 0.0 for where in PLACES}
    read[home] += dense + cache
    experts = placed.part("experts")
    # Of all experts, the part that at least one of the batch's tokens asks for.
    used = 1 - (1 - model.chosen / model.count) ** batch
    for where, gb in experts.where.items():
        if where in read:
            read[where] += gb * used
    if model.engram:
        tables = placed.part("engram")
        for where, gb in tables.where.items():
            if where in read:
                read[where] += batch * model.engram_read * bits.engram / 8 / GB * gb / tables.gb
    seconds = {where: read[where] / getattr(machine, where).gb_s for where in PLACES if read[where]}
    if machine.tflops:
        seconds["arithmetic"] = max(0.0, 2 * model.active * batch / (machine.tflops * 1e12) - sum(seconds.values()))
    step = sum(seconds.values())
    low, high = REACHED if batch <= MANY else REACHED_BATCHED
    return Speed(
        bound=batch / step,
        low=low * batch / step,
        high=high * batch / step,
        step_ms={where: 1000 * took for where, took in seconds.items() if took},
        bound_by=max(seconds, key=lambda where: seconds[where]),
        prefill_s=2 * model.active * context / (machine.tflops * 1e12) if machine.tflops else None,
    )


def mixed_rate(model: Sizes, tier: str, machine: Machine, placed: Placement, *, read: int, written: int, batch: int):
    """Bound on tokens a second, read and written ones together, for requests of `read` in and `written` out.

    Raises ValueError for a machine whose arithmetic is not known.
    """
    if not machine.tflops:
        raise ValueError(f"the arithmetic of '{machine.name}' is not in the table, so reading cannot be bounded")
    step = batch / decode(model, tier, machine, placed, context=read + written, batch=batch).bound
    reading = batch * read * 2 * model.active / (machine.tflops * 1e12)
    return batch * (read + written) / (reading + written * step)
