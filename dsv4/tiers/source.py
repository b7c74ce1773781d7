"""A core on disk, read part by part: one block at a time, its experts one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsv4._parts import asset
from dsv4.checkpoint.config_write import family
from dsv4.checkpoint.pretrained import Folder, _empty, _put, _stored_dtype
from dsv4.core.block import Block
from dsv4.core.config import CoreConfig
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError, unknown

SHIPPED = ("nano",)
STACKS = ("experts.experts_in", "experts.experts_out")


class Source:
    """What quantising needs of a model: its configuration, any tensor by our name, one expert of a stack."""

    def __init__(
        self,
        config: CoreConfig,
        *,
        kind: str,
        dtype: torch.dtype,
        canonical_ids: Tensor | None,
        read: Callable[[str], Tensor],
        expert: Callable[[str, int], Tensor],
        fingerprint: str,
    ) -> None:
        self.config, self.kind, self.dtype, self.fingerprint = config, kind, dtype, fingerprint
        self.canonical_ids, self.read, self._expert = canonical_ids, read, expert
        self.frame = _empty(config, canonical_ids)  # parameters on the meta device: names and shapes

    def block(self, layer: int) -> Block:
        """The block's parts except the stacks of its experts, in float32."""
        block: Any = self.frame.blocks[layer]
        for name in block.state_dict():
            if name not in STACKS:
                tensor = self.read(f"blocks.{layer}.{name}")
                _put_in(block, name, tensor.float() if tensor.is_floating_point() else tensor)
        return block

    def drop(self, layer: int) -> None:
        """Forget the block's numbers again."""
        for name, tensor in self.frame.blocks[layer].state_dict().items():
            _put_in(self.frame.blocks[layer], name, torch.empty_like(tensor, device="meta"))

    def expert(self, layer: int, stack: str, number: int) -> Tensor:
        """One expert's matrix in float32; gate over up for the first stack."""
        return self._expert(f"blocks.{layer}.{stack}", number).float()


def find_model(name: str) -> Path:
    """The folder of a shipped model's name or of a path; InputError when there is none."""
    folder = asset(name) if name in SHIPPED else Path(name)
    if not folder.is_dir():
        raise unknown("model", name, [*SHIPPED, "a folder of weights"])
    return folder


def open_source(folder: Path) -> Source:
    """A checkpoint folder (config.json) or a model of ours (model.json); InputError when it is neither."""
    if (folder / "config.json").is_file():
        return _of_checkpoint(folder)
    if (folder / "model.json").is_file():
        return _of_model(folder)
    raise InputError(f"{folder} holds neither config.json nor model.json, so it is no model")


def _of_checkpoint(path: Path) -> Source:
    folder = Folder(path)
    packed = sorted(folder.shards.packed)
    if packed:
        raise InputError(f"{path} is quantised already ({len(packed)} weights); begin from what it was made of")
    shapes = {n: tuple(t.shape) for n, t in _empty(folder.config, None).state_dict().items()}
    stat = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.glob("*.safetensors"))]
    return Source(
        folder.config,
        kind=folder.kind,
        dtype=_stored_dtype(folder.given),
        canonical_ids=folder.canonical_ids(),
        read=lambda name: folder.tensor(name, shapes[name]),
        expert=folder.expert,
        fingerprint=hashlib.sha256(repr((folder.given, stat)).encode()).hexdigest()[:16],
    )


def _of_model(path: Path) -> Source:
    from dsv4.model import Model

    core: LanguageCore = Model.load(path).core
    tensors = dict(core.state_dict())
    return Source(
        core.config,
        kind=family(core.config),
        dtype=torch.float32,
        canonical_ids=core.canonical_ids,
        read=tensors.__getitem__,
        expert=lambda name, number: tensors[name][number],
        fingerprint=hashlib.sha256((path / "model.json").read_bytes()).hexdigest()[:16],
    )


def model_parts(path: Path) -> tuple[str, ...]:
    """The parts of a model of ours beside its core."""
    from dsv4.checkpoint.io import part_names, read_index

    return tuple(sorted(part_names(read_index(path)) - {"core"}))


def _put_in(block: Block, name: str, tensor: Tensor) -> None:
    _put(block, name, tensor)
