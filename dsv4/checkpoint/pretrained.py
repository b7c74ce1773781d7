"""Released checkpoints as cores, and cores as checkpoints: a folder with config.json and safetensors, both ways.

Tensors are read, renamed and written one at a time; a model larger than memory can be converted. Names are strict in
both directions: a tensor that is missing, left over, or of another shape is an error that names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4.checkpoint.canonical import of_folder
from dsv4.checkpoint.config_json import read_config
from dsv4.checkpoint.config_write import FAMILIES, family, write_config
from dsv4.checkpoint.names import Recipe, extra, recipe, respelt
from dsv4.checkpoint.shards import Shards, write_shards
from dsv4.errors import InputError, unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsv4.core.config import CoreConfig
    from dsv4.core.model import LanguageCore

SHARD_BYTES = 5_000_000_000
CANONICAL, TABLE = "canonical_ids", "engram.table.weight"
# What stays float32 whatever the other weights are: small, and summed over or compared.
ALWAYS_WIDE = ("hyper", "sink", "router.bias", "picture_bias", "compressor.place", "pool.entry", "pool.gate")


class Folder:
    """A checkpoint folder that was looked into, not read: its configuration and the names of its tensors."""

    def __init__(self, folder: Path | str, *, draft: bool = False, layers: int | None = None) -> None:
        self.folder = Path(folder)
        path = self.folder / "config.json"
        if not path.is_file():
            raise InputError(f"{folder} has no config.json, so what its weights mean is not known")
        try:
            self.given: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
        self.config = read_config(self.given, where=str(path), layers=layers)
        self.kind = "dsv4" if self.given.get("model_type") == "dsv4" else family(self.config)
        block = (self.given.get("quantization_config") or {}).get("weight_block_size") or (128, 128)
        self.shards = Shards(self.folder, block=(block[0], block[1]))
        self.names = respelt(self.shards.names, self.kind) if self.kind != "dsv4" else {n: n for n in self.shards.names}
        if draft and self.kind != "dsv4":
            if f"model.layers.{self.config.layers}.eh_proj.weight" not in self.names:
                raise InputError(f"{folder} holds no layer that guesses a further token (MTP)")
            self.config = replace(self.config, draft=1)

    def tensors(
        self, shapes: dict[str, tuple[int, ...]], *, packed: bool = False, without: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, Tensor]]:
        """Our tensors by name, each read when it is asked for; InputError for names or shapes that do not fit.

        With `packed`, rows of memory that are stored in FP8 come as bytes: codes, then scales. without: names that
        must be there but are not read.
        """
        plans = {name: self.plan(name) for name in shapes}
        self._check(plans)
        for name, plan in plans.items():
            if name in without:
                continue
            rows = self._packed_rows(name, plan, shapes[name]) if packed else None
            yield name, self._made(name, plan, shapes[name]) if rows is None else rows

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One of our tensors."""
        return self._made(name, self.plan(name), shape)

    def expert(self, name: str, number: int) -> Tensor:
        """One expert's part of the stack `name`; the others are not read."""
        import torch

        plan = self.plan(name)
        if not plan.stacked:
            return self.shards.row(self.names[plan.rows[0][0]], number)
        read = [self.shards.read(self.names[part]) for part in plan.rows[number]]
        return read[0] if len(read) == 1 else torch.cat(read)

    def canonical_ids(self) -> Tensor | None:
        """The canonical id of every token, where the folder has them or they follow from its tokenizer."""
        import torch

        if CANONICAL in self.names:
            return self.shards.read(CANONICAL)
        if self.kind == "dsv4" or self.config.engram is None:
            return None
        expected = {**self.given, **self.given.get("text_config", {})}.get("engram_compressed_vocab_size")
        return torch.tensor(of_folder(self.folder, vocabulary=self.config.vocab_size, expected=expected))

    def _packed_rows(self, name: str, plan: Recipe, shape: tuple[int, ...]) -> Tensor | None:
        from dsv4.core.memory import row_form

        if not name.endswith(TABLE):
            return None
        source = plan.rows[0][0]
        found = self.shards.coded(self.names[source])
        if found is None:
            whole = self.shards.shape(self.names[source]) == (shape[0], row_form(shape[1]).bytes)
            return self.shards.read(self.names[source]) if self.kind == "dsv4" and whole else None
        try:
            bytes_RY = row_form(shape[1]).join(*found)
        except ValueError as error:
            raise InputError(f"{self.folder}: {source}: {error}") from error
        if bytes_RY.shape[0] != shape[0]:
            raise InputError(f"{self.folder}: {source} has {bytes_RY.shape[0]} rows, the hashes need {shape[0]}")
        return bytes_RY

    def plan(self, name: str) -> Recipe:
        """Which tensors of the folder make one of ours."""
        if self.kind == "dsv4":
            apart = f"{name}.0" in self.names and name not in self.names  # quantised experts are stored one by one
            each = tuple((f"{name}.{expert}",) for expert in range(self.config.experts.count))
            return Recipe(each, stacked=True) if apart else Recipe(((name,),))
        plan = recipe(name, self.config, self.kind)
        return Recipe(((plan.whole,),)) if plan.whole in self.names else plan

    def _check(self, plans: dict[str, Recipe]) -> None:
        wanted = {part for plan in plans.values() for row in plan.rows for part in row}
        missing = sorted(wanted - set(self.names))
        if missing:
            raise InputError(f"{self.folder} lacks {_some(missing)}")
        allowed = extra(self.config, self.kind)
        spare = [n for n in sorted(set(self.names) - wanted) if not allowed.search(n) and n != CANONICAL]
        if spare:
            raise InputError(f"{self.folder} holds tensors that this model has no place for: {_some(spare)}")

    def _made(self, name: str, plan: Recipe, shape: tuple[int, ...]) -> Tensor:
        import torch

        def row(parts: tuple[str, ...]) -> Tensor:
            read = [self.shards.read(self.names[part]) for part in parts]
            return read[0] if len(read) == 1 else torch.cat(read)

        if not plan.stacked:
            made = row(plan.rows[0])
        else:
            first = row(plan.rows[0])
            made = first.new_empty(len(plan.rows), *first.shape)
            for number, parts in enumerate(plan.rows):
                made[number] = row(parts)
        if name.endswith("out_groups") and made.numel() == _numel(shape):
            made = made.reshape(shape)
        if tuple(made.shape) != shape:
            source = plan.rows[0][0]
            raise InputError(f"{self.folder}: {source} makes '{name}' {tuple(made.shape)}, the model needs {shape}")
        return made


def load_core(
    folder: Path | str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    draft: bool = False,
    layers: int | None = None,
    packed: bool = False,
) -> LanguageCore:
    """The language core that a folder holds, for use. InputError says what does not fit.

    dtype: of the weights; by default that of the folder's config, float32 without one. draft: also load the layer that
    guesses a further token, where there is one. layers: load so many leading layers alone. packed: weights that
    `dsv4 quantize` packed stay so in memory and are computed from there. Memory that is stored in FP8 stays so.
    """
    import torch

    from dsv4.checkpoint import packed as packing

    source = Folder(folder, draft=draft, layers=layers)
    dtype = dtype or _stored_dtype(source.given)
    core = _empty(source.config, source.canonical_ids())
    state = core.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    stays = packing.can_stay(core, source, shapes) if packed else frozenset()
    for name, tensor in source.tensors(shapes, packed=True, without=stays):
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32 if any(part in name for part in ALWAYS_WIDE) else dtype)
        elif not name.endswith(TABLE):
            tensor = tensor.long()
        _put(core, name, tensor.to(device))
    for name in sorted(stays):
        if name.endswith(packing.STACKS[0]):
            packing.put_experts(core, source, int(name.split(".")[1]), device)
        elif not name.endswith(packing.STACKS[1]):
            packing.put(core, source, name, shapes[name], device)
    core.steps_quickly = core.steps_quickly and not stays
    core.canonical_ids = core.canonical_ids.to(device)
    return core.eval().requires_grad_(False)


def save_core(core: LanguageCore, folder: Path | str, *, shard_bytes: int = SHARD_BYTES) -> int:
    """Write a core in the names of the family that it belongs to (ours where it is none); returns bytes of weights."""
    kind = family(core.config)
    missing = sorted(set(_empty(core.config, None).state_dict()) - set(core.state_dict()))
    if missing:
        raise InputError(f"{_some(missing)} lie packed or elsewhere; copy the folder that this core was loaded from")
    tensors = _renamed(core.state_dict().items(), core.config, kind)
    written = write_shards(Path(folder), _with_ids(tensors, core, kind), shard_bytes=shard_bytes)
    _write_config(Path(folder), core.config, kind, core.embedding.weight.dtype)
    return written


def convert(
    source: Path | str,
    out: Path | str,
    *,
    to: str | None = None,
    dtype: torch.dtype | None = None,
    layers: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Copy a checkpoint tensor by tensor, to the names of `to` (a family, or dsv4); returns bytes of weights.

    to: by default the source's own family. layers: copy so many leading layers alone.
    """
    import torch

    if to is not None and to not in FAMILIES:
        raise unknown("family", to, FAMILIES)
    given = Folder(source, layers=layers)
    to = to or family(given.config)
    if to not in ("dsv4", family(given.config)):
        raise InputError(f"{source} is of kind {family(given.config)}, so it cannot be written as {to}, only as dsv4")
    if Path(source).resolve() == Path(out).resolve():
        raise InputError("a checkpoint cannot be converted in place; name another folder")
    dtype = dtype or _stored_dtype(given.given)
    core = _empty(given.config, None)
    shapes = {name: tuple(tensor.shape) for name, tensor in core.state_dict().items()}

    def cast() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in given.tensors(shapes, packed=True):
            wide = any(part in name for part in ALWAYS_WIDE)
            yield name, tensor.to(torch.float32 if wide else dtype) if tensor.is_floating_point() else tensor

        ids = given.canonical_ids()
        if ids is not None:
            yield CANONICAL, ids

    written = write_shards(Path(out), _renamed(cast(), given.config, to), shard_bytes=shard_bytes)
    _write_config(Path(out), given.config, to, dtype)
    return written


def _renamed(tensors: Any, config: CoreConfig, kind: str) -> Iterator[tuple[str, Tensor]]:
    from dsv4.core.memory import row_form

    for name, tensor in tensors:
        if kind == "dsv4" or name == CANONICAL:
            yield name, tensor
            continue
        plan = recipe(name, config, kind)
        if name.endswith(TABLE) and not tensor.is_floating_point():
            assert config.engram is not None
            source, parts = plan.rows[0][0], row_form(config.engram.width).part(tensor)
            yield from zip((source, source.replace(".weight", ".scale")), parts, strict=True)
            continue
        rows = tensor.unbind(0) if plan.stacked else (tensor.flatten(0, 1) if name.endswith("out_groups") else tensor,)
        for parts, row in zip(plan.rows, rows, strict=True):
            yield from zip(parts, row.chunk(len(parts)), strict=True)


def _with_ids(tensors: Iterator[tuple[str, Tensor]], core: LanguageCore, kind: str) -> Iterator[tuple[str, Tensor]]:
    yield from tensors
    if kind == "dsv4" or core.config.engram is not None:
        yield CANONICAL, core.canonical_ids


def _write_config(folder: Path, config: CoreConfig, kind: str, dtype: torch.dtype) -> None:
    written = {"model_type": "dsv4", "core": config.to_dict()} if kind == "dsv4" else write_config(config)
    written["dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")


def _empty(config: CoreConfig, canonical_ids: Tensor | None) -> LanguageCore:
    """A core without memory of its own: parameters on the meta device, to be put in place one by one."""
    import torch

    from dsv4.core.model import LanguageCore

    ids = torch.arange(config.vocab_size) if canonical_ids is None else canonical_ids
    with torch.device("meta"):
        return LanguageCore(config, canonical_ids=ids)


def _put(core: LanguageCore, name: str, tensor: Tensor) -> None:
    import torch

    parent, _, leaf = name.rpartition(".")
    module = core.get_submodule(parent)
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
    else:
        module._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)


def _stored_dtype(given: dict[str, Any]) -> torch.dtype:
    import torch

    inner = given.get("language_config") or given.get("text_config") or {}
    name = given.get("dtype") or given.get("torch_dtype") or inner.get("torch_dtype") or inner.get("dtype")
    return getattr(torch, str(name)) if name in ("float32", "float16", "bfloat16", "float64") else torch.float32


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _numel(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
