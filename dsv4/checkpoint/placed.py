"""A checkpoint larger than memory as a core: dense weights resident, experts in host memory or mapped, tables mapped.

`dsv4 bench placed` measures it. Nothing of an expert is read before it is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dsv4.checkpoint import packed as packing
from dsv4.checkpoint.mapped import MappedFolder, MappedStore, Pages, Range
from dsv4.checkpoint.packed import STACKS
from dsv4.checkpoint.pretrained import ALWAYS_WIDE, Folder, _empty, _put
from dsv4.checkpoint.shards import PACKED
from dsv4.core.block import Block
from dsv4.core.memory import MemoryTable
from dsv4.core.model import LanguageCore
from dsv4.core.moe import Experts
from dsv4.core.placed import HostStore, HotCache, Matrices, Matrix, PlacedExperts, PlaceMeter, nbytes
from dsv4.errors import InputError, unknown
from dsv4.ops.packed import PackedMatrix

HOMES = ("host", "mapped")
TABLES = ("embedding.weight", "engram.table.weight")  # looked up, so they may stay in their file
SLACK = 96 << 20  # bytes for activations and the cache


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A core whose experts lie elsewhere, and what that costs."""

    core: LanguageCore
    home: str
    room: int  # bytes that experts may take where they are quickest
    meter: PlaceMeter

    def says(self, tokens: int, seconds: float) -> str:
        """A line for people: speed, hits, and which of reading and computing bound it."""
        fetching = self.meter.bytes_fetched > self.meter.bytes_used / 2
        bound = "fetching experts" if fetching else "computing and memory"
        bound += f" ({100 * self.meter.waited / max(seconds, 1e-9):.0f} % of the time spent waiting)"
        return (
            f"{tokens / seconds:.2f} tokens/s, {100 * self.meter.hit_rate:.0f} % of experts were there, "
            f"{self.meter.bytes_fetched / 1e9:.2f} of {self.meter.bytes_used / 1e9:.2f} GB fetched, bound by {bound}"
        )


def load_placed(
    folder: Path | str,
    *,
    experts: str = "mapped",
    memory: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Placed:
    """Load a checkpoint with its experts placed.

    experts: `mapped` (views of the files, pages let go beyond the budget), or `host` (in host memory, the lately used
    ones also on `device`). memory: bytes; for `mapped` all that this process may take, what it has now included; for
    `host` those of the device's hot cache. dtype: of what is computed, by default that of the folder's embedding; it
    counts only where experts are packed, others being read as they lie. InputError where the rest of the model and two
    experts do not fit.
    """
    if experts not in HOMES:
        raise unknown("home for experts", experts, HOMES)
    source, device = Folder(folder), torch.device(device)
    core = _empty(source.config, source.canonical_ids())
    mapped = MappedFolder(Path(folder))
    stored = mapped.tensor(source.names[source.plan("embedding.weight").rows[0][0]]).dtype
    dtype = dtype if dtype is not None and source.shards.packed else stored
    _put_resident(core, source, mapped, dtype=dtype, device=device, tables=experts == "mapped")
    core.canonical_ids = core.canonical_ids.to(device)
    core.steps_quickly = False
    views = {
        layer: _views(source, mapped, layer)
        for layer, block in enumerate(core.blocks)
        if isinstance(block, Block) and isinstance(block.experts, Experts)
    }
    least = 2 * max((nbytes(one) for matrices, _ in views.values() for one in matrices), default=0)
    room = memory if experts == "host" else memory - _resident_now() - SLACK
    if room < least:
        raise InputError(
            f"after the rest of the model {max(0, room) / 1e9:.3g} GB are left for experts; two of them take "
            f"{least / 1e9:.3g} GB. Allow {(memory + least - room) / 1e9:.3g} GB"
        )
    held: HotCache | Pages = HotCache(room) if experts == "host" else Pages(room)
    for layer, (matrices, ranges) in views.items():
        if isinstance(held, HotCache):
            store = HostStore(layer, [_own(one) for one in matrices], device, held)
        else:
            store = MappedStore(layer, matrices, ranges, held)
        core.blocks[layer].experts = PlacedExperts(core.blocks[layer].experts, store)
    core.eval().requires_grad_(False)
    return Placed(core=core, home=experts, room=room, meter=held.meter)


def _put_resident(
    core: LanguageCore, source: Folder, mapped: MappedFolder, *, dtype: torch.dtype, device: torch.device, tables: bool
) -> None:
    """Everything but routed experts; packed weights stay packed, and `tables` stay in their files where they can."""
    shapes = {name: tuple(tensor.shape) for name, tensor in core.state_dict().items()}
    stays = packing.can_stay(core, source, shapes)
    for name, shape in shapes.items():
        if name.endswith(STACKS):
            continue
        if name in stays:
            packing.put(core, source, name, shape, device)
            continue
        plan = source.plan(name)
        stored = source.names[plan.rows[0][0]]
        if tables and name.endswith(TABLES) and len(plan.rows[0]) == 1 and stored not in source.shards.packed:
            view = mapped.tensor(stored)
            if view.dtype == dtype or name.endswith(TABLES[1]):
                _put(core, name, view)
                _tell(core, name)
                continue
        tensor = _plain(source, mapped, name, shape)
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32 if any(part in name for part in ALWAYS_WIDE) else dtype)
        _put(core, name, tensor.clone().to(device))
        mapped.let_go()


def _tell(core: LanguageCore, name: str) -> None:
    """Let a memory table know that its rows lie in a file, so that they are fetched ahead."""
    module = core.get_submodule(name.rpartition(".")[0])
    if isinstance(module, MemoryTable):
        module.home = "mapped"


def put_on_host(core: LanguageCore, room: int) -> None:
    """Experts of a core in memory into host memory, the lately used ones also where it computes, in `room` bytes."""
    device, hot = core.embedding.weight.device, HotCache(room)
    for layer, block in enumerate(core.blocks):
        if isinstance(block, Block) and isinstance(block.experts, Experts):
            both_E2FW, last_EWF = block.experts.experts_in.detach().cpu(), block.experts.experts_out.detach().cpu()
            stacks = [(*both.chunk(2), last) for both, last in zip(both_E2FW, last_EWF, strict=True)]
            block.experts = PlacedExperts(block.experts, HostStore(layer, stacks, device, hot))
    core.steps_quickly = False


def _plain(source: Folder, mapped: MappedFolder, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor as it is stored; through the opener where it is coded, or made of stacks."""
    plan = source.plan(name)
    parts = [source.names[part] for part in plan.rows[0]]
    if plan.stacked or any(part in source.shards.packed or part in source.shards._scales for part in parts):
        return source.tensor(name, shape)
    views = [mapped.tensor(part) for part in parts]
    return (views[0] if len(views) == 1 else torch.cat(views)).reshape(shape)


def _own(matrices: Matrices) -> Matrices:
    gate, up, down = (one.clone() for one in matrices)
    return gate, up, down


def _views(source: Folder, mapped: MappedFolder, layer: int) -> tuple[list[Matrices], list[list[Range]]]:
    """Every expert's gate, up and down as views, and the bytes that they lie in."""
    first, last = (source.plan(f"blocks.{layer}.{stack}") for stack in STACKS)
    count = source.config.experts.count
    matrices: list[Matrices] = []
    ranges: list[list[Range]] = []
    for expert in range(count):
        rows = [_rows(source, mapped, plan.rows, plan.stacked, expert) for plan in (first, last)]
        parts: list[Matrix] = [one for found, _ in rows for one in found]
        whole = parts[0]
        gate, up = (
            parts[:2] if len(parts) == 3 else whole.halves() if isinstance(whole, PackedMatrix) else whole.chunk(2)
        )
        matrices.append((gate, up, parts[-1]))
        ranges.append([one for _, places in rows for one in places])
    return matrices, ranges


def _halves(both: Matrix) -> Sequence[Matrix]:
    return both.halves() if isinstance(both, PackedMatrix) else both.chunk(2)


def _rows(
    source: Folder, mapped: MappedFolder, rows: Sequence[tuple[str, ...]], stacked: bool, expert: int
) -> tuple[list[Matrix], list[Range]]:
    if not stacked:
        name = source.names[rows[0][0]]
        return [mapped.tensor(name)[expert]], [mapped.range(name, expert)]
    found: list[Matrix] = []
    places: list[Range] = []
    for name in (source.names[part] for part in rows[expert]):
        if name in source.shards.packed:
            words, scales = (name + part for part in PACKED[:2])
            found.append(PackedMatrix(mapped.tensor(words), mapped.tensor(scales), source.shards.shape(name)[-1]))
            places += [mapped.range(words), mapped.range(scales)]
        else:
            found.append(mapped.tensor(name))
            places.append(mapped.range(name))
    return found, places


def _resident_now() -> int:
    """Bytes of this process in memory, where the system tells; 0 elsewhere."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
