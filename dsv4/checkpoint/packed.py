"""Weights of a quantised checkpoint put into a core as they are stored, to be computed from there.

What stays packed: projections of attention, dense and shared units, and routed experts. Opened, since they are read in
other ways than as one product: MLA's unfolding, Engram's projections, and its rows.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from dsv4.errors import InputError

if TYPE_CHECKING:
    import torch

    from dsv4.checkpoint.pretrained import Folder
    from dsv4.core.model import LanguageCore
    from dsv4.ops.packed import PackedMatrix

STACKS = ("experts.experts_in", "experts.experts_out")
OPENED = ("unfold.weight", "engram.value.weight")


def can_stay(core: LanguageCore, source: Folder, names: Collection[str]) -> frozenset[str]:
    """Which of our weights are packed in the folder and can be read so."""
    from dsv4.ops.linear import Linear

    found = set()
    for name in names:
        parts = [part for row in source.plan(name).rows for part in row]
        if not all(source.names.get(part) in source.shards.packed for part in parts):
            continue
        parent = core.get_submodule(name.rpartition(".")[0])
        product = name.endswith(".weight") and isinstance(parent, Linear) and not name.endswith(OPENED)
        if product or name.endswith((*STACKS, "attention.out_groups")):
            found.add(name)
    # Experts are packed whole: both stacks, or neither, and then not the shared one either, which is read with them.
    half = {name.split("experts.experts_")[0] for name in names if name.endswith(STACKS)}
    half -= {part for part in half if all(part + stack in found for stack in STACKS)}
    return frozenset(name for name in found if not any(name.startswith(f"{part}experts.") for part in half))


def matrix(source: Folder, name: str) -> PackedMatrix:
    """One tensor of the folder, by the folder's name, into memory; the rows of a stack one after the other."""
    from dsv4.ops.packed import PackedMatrix

    words, scales = source.shards.codes(name)
    try:
        return PackedMatrix(words.flatten(0, -2), scales.flatten(0, -2), source.shards.shape(name)[-1])
    except ValueError as error:
        raise InputError(f"{source.folder}: {name}: {error}") from error


def put(core: LanguageCore, source: Folder, name: str, shape: tuple[int, ...], device: torch.device | str) -> None:
    """Put a weight that can stay packed, other than experts, in its place."""
    from dsv4.ops.packed import PackedLinear, PackedStack, joined

    whole = joined([matrix(source, source.names[part]) for part in source.plan(name).rows[0]]).to(device)
    if whole.shape != (shape[0] if len(shape) == 2 else shape[0] * shape[1], shape[-1]):
        raise InputError(f"{source.folder}: '{name}' is {whole.shape}, the model needs {shape}")
    parent, _, leaf = name.rpartition(".")
    module = core.get_submodule(parent)
    if len(shape) == 3:
        del module._parameters[leaf]
        module.__dict__[leaf] = PackedStack([whole.rows(n, n + shape[1]) for n in range(0, whole.shape[0], shape[1])])
        return
    above, _, own = parent.rpartition(".")
    setattr(core.get_submodule(above), own, PackedLinear(whole))


def put_experts(core: LanguageCore, source: Folder, layer: int, device: torch.device | str) -> None:
    """Put a layer's routed experts in their place; everything else of the layer must be there already."""
    from dsv4.core.placed import HereStore, PlacedExperts

    first, last = (source.plan(f"blocks.{layer}.{stack}").rows for stack in STACKS)
    experts = []
    for into, out in zip(first, last, strict=True):
        parts = [matrix(source, source.names[part]).to(device) for part in (*into, *out)]
        gate, up = parts[:2] if len(into) == 2 else parts[0].halves()
        experts.append((gate, up, parts[-1]))
    part, width = core.config.experts, core.config.hidden
    for gate, up, down in experts:
        if not gate.shape == up.shape == (part.inner, width) or down.shape != (width, part.inner):
            raise InputError(f"{source.folder}: an expert of layer {layer} is {gate.shape}, {up.shape}, {down.shape}; "
                             f"the model needs {(part.inner, width)} twice and {(width, part.inner)}")  # fmt: skip
    block = core.blocks[layer]
    block.experts = PlacedExperts(block.experts, HereStore(experts))


def packed_bytes(core: LanguageCore) -> tuple[int, int]:
    """Bytes of all weights of a core as they lie in memory: those that are packed, and the others."""
    from dsv4.core.placed import HereStore, nbytes
    from dsv4.ops.packed import PackedLinear, PackedStack

    packed = 0
    for module in core.modules():
        if isinstance(module, PackedLinear):
            packed += module.matrix.nbytes
        store = getattr(module, "store", None)
        if isinstance(store, HereStore):
            packed += sum(nbytes(one) for one in store.experts)
        packed += sum(one.nbytes for one in module.__dict__.values() if isinstance(one, PackedStack))
    return packed, sum(one.numel() * one.element_size() for one in core.parameters())
