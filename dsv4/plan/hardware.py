"""A machine as three memories: the device's, the host's and the disk's, each so large and so fast.

GB are 10^9 bytes, rates GB/s. Several devices count as one, their rates added: tensor parallel at its best.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dsv4.errors import InputError, unknown
from dsv4.plan.tables import table

KEPT_FREE = {"device": 0.08, "dram": 0.10, "disk": 0.0}  # workspace, the system, page tables


@dataclass(frozen=True, kw_only=True)
class Memory:
    """So much of it, so fast."""

    gb: float = 0.0
    gb_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What can hold and read weights. `count` devices; `unified` means the host's memory is the device's."""

    name: str
    device: Memory = Memory()
    dram: Memory = Memory()
    disk: Memory = Memory()
    count: int = 0
    kind: str = ""
    unified: bool = False
    tflops: float = 0.0
    watts: float = 0.0
    usd_hour: float | None = None

    def usable(self, place: str) -> float:
        """GB of a place (`device`, `dram`, `disk`) that weights and cache may take."""
        return getattr(self, place).gb * (1 - KEPT_FREE[place])


def machines() -> list[str]:
    """Names of whole machines in the table."""
    return list(table("hardware")["machines"])


def machine(spec: str) -> Machine:
    """A machine by name, or spelt out: `rtx5090+ddr:192@83+nvme:2000@14`, `8xh100`, `ddr:64@60`.

    Raises InputError for an unknown device, with the nearest, and for a part that cannot be read.
    """
    whole = table("hardware")["machines"].get(spec)
    if whole is not None:
        return replace(_spelt(spec, whole["parts"]), watts=float(whole["watts"]))
    return _spelt(spec, spec)


def _spelt(name: str, parts: str) -> Machine:
    made = Machine(name=name)
    for part in filter(None, (piece.strip().lower() for piece in parts.split("+"))):
        memory = re.fullmatch(r"(ddr\d*|dram|nvme|disk):(\d+(?:\.\d+)?)g?@(\d+(?:\.\d+)?)", part)
        if memory:
            gb, gb_s = float(memory[2]), float(memory[3])
            if not gb or not gb_s:
                raise InputError(f"'{part}' has no size or no speed; write for example ddr:192@83")
            place = "disk" if memory[1] in ("nvme", "disk") else "dram"
            made = replace(made, **{place: Memory(gb=gb, gb_s=gb_s)})
        else:
            made = _with_devices(made, part)
    if not made.device.gb and not made.dram.gb:
        raise InputError(f"'{name}' names no memory that computes; write a device or ddr:GB@GB/s")
    return made


def _with_devices(made: Machine, part: str) -> Machine:
    found = re.fullmatch(r"(?:(\d+)x)?([a-z0-9]+)", part)
    devices = table("hardware")["devices"]
    if not found or found[2] not in devices:
        memory_like = ":" in part or "@" in part
        if memory_like:
            raise InputError(f"cannot read '{part}'; memory is written ddr:GB@GB/s or nvme:GB@GB/s, as in ddr:192@83")
        raise unknown("machine or device", part, [*table("hardware")["machines"], *devices])
    if made.count:
        raise InputError(f"'{made.name}' names two kinds of device; write several of one kind as 2x{made.kind}")
    count, row = int(found[1] or 1), devices[found[2]]
    if not 1 <= count <= 4096:
        raise InputError(f"from 1 to 4096 devices can be planned for, got {count}")
    rent = row.get("usd_hour")
    return replace(
        made,
        device=Memory(gb=count * row["gb"], gb_s=count * row["gb_s"]),
        count=count,
        kind=found[2],
        unified=bool(row.get("unified")),
        tflops=count * float(row["tflops"]),
        watts=count * float(row["watts"]),
        usd_hour=None if rent is None else count * rent,
    )
