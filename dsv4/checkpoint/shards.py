"""Safetensors folders read tensor by tensor, and written shard by shard; nothing is held that is not asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
ROW_COLUMNS = 32  # numbers of a row of memory that share a scale
SCALES = ("weight_scale_inv", "scale")  # what the scales of `….weight` are called: by V3, by V4
PACKED = ("_packed", "_scale", "_shape")  # what a weight of compressed-tensors' pack-quantized format is stored as


class Shards:
    """The tensors of a folder by name. Weights in eight or four bits are opened as they are read."""

    def __init__(self, folder: Path, *, block: tuple[int, int] = (128, 128)) -> None:
        self.folder, self.block = folder, block
        self._where = _where(folder)
        self._open: dict[str, Any] = {}
        scales = {f"{name.removesuffix('.weight')}.{kind}": name for name in self._where for kind in SCALES}
        self._scales = {weight: scale for scale, weight in scales.items() if scale in self._where and scale != weight}
        found = {name.removesuffix(PACKED[0]) for name in self._where if name.endswith(PACKED[0])}
        self.packed = frozenset(name for name in found if all(name + part in self._where for part in PACKED))
        parts = {name + part for name in self.packed for part in PACKED}
        self.names = (frozenset(self._where) - set(self._scales.values()) - parts) | self.packed

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the weight."""
        if name in self.packed:
            return tuple(self._file(name + PACKED[2]).get_tensor(name + PACKED[2]).tolist())
        return tuple(self._file(name).get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """One tensor; those with scales come as float32."""
        from dsv4.ops.lowbits import open_blocks, open_four_bits

        if name in self.packed:
            return self._opened(name)
        tensor = self._file(name).get_tensor(name)
        scale = self._scales.get(name)
        if scale is None:
            return tensor
        scales = self._file(scale).get_tensor(scale)
        try:
            if tensor.is_floating_point():
                by_row = scales.shape[0] == tensor.shape[0] and self.block[0] > 1 and tensor.shape[0] > 1
                return open_blocks(tensor, scales, block=(1, ROW_COLUMNS) if by_row else self.block)
            return open_four_bits(tensor, scales)
        except ValueError as error:
            raise InputError(f"{self.folder}: {name}: {error}") from error

    def row(self, name: str, index: int) -> Tensor:
        """One entry of a stack, the others unread."""
        if name in self.packed or name in self._scales:
            return self.read(name)[index]
        return self._file(name).get_slice(name)[index : index + 1][0]

    def codes(self, name: str) -> tuple[Tensor, Tensor]:
        """Words and scales of a packed weight, as they are stored."""
        words, scales = (self._file(name + part).get_tensor(name + part) for part in PACKED[:2])
        return words, scales

    def _opened(self, name: str) -> Tensor:
        from dsv4.quant.grid import open_packed

        try:
            return open_packed(*self.codes(name), self.shape(name))
        except ValueError as error:
            raise InputError(f"{self.folder}: {name}: {error}") from error

    def coded(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Codes and scales as they lie, of a tensor in eight bits whose rows have scales of their own."""
        scale = self._scales.get(name)
        if scale is None:
            return None
        codes, scales = self._file(name).get_tensor(name), self._file(scale).get_tensor(scale)
        return (codes, scales) if codes.element_size() == scales.element_size() == 1 else None

    def _file(self, name: str) -> Any:
        from safetensors import safe_open

        shard = self._where[name]
        if shard not in self._open:
            self._open[shard] = safe_open(self.folder / shard, framework="pt")
        return self._open[shard]


def _where(folder: Path) -> dict[str, str]:
    """Shard of every tensor; InputError when a shard is missing or the folder holds none."""
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        found: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
        missing = sorted({shard for shard in found.values() if not (folder / shard).is_file()})
        if missing:
            raise InputError(f"{folder} is not complete: {', '.join(missing[:3])} missing ({len(missing)} in all)")
        return found
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise InputError(f"{folder} holds no safetensors; pickled weights are not read, since they can run code")
    found = {}
    for shard in shards:
        try:
            with safe_open(shard, framework="pt") as file:
                found.update(dict.fromkeys(file.keys(), shard.name))
        except SafetensorError as error:
            raise InputError(f"{shard} is not a whole safetensors file: {error}") from error
    return found


def write_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]], *, shard_bytes: int) -> int:
    """Write named tensors as they come, in shards of about `shard_bytes`, with an index; returns the bytes written.

    Files get their names last, so that an interrupted write is no model.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    parts: list[tuple[Path, list[str]]] = []
    held: dict[str, Tensor] = {}
    size = total = 0

    def flush() -> None:
        nonlocal held, size
        if held:
            path = folder / f"part-{len(parts):05d}.tmp"
            save_file(held, path, metadata={"format": "pt"})
            parts.append((path, list(held)))
        held, size = {}, 0

    for name, tensor in tensors:
        nbytes = tensor.numel() * tensor.element_size()
        if held and size + nbytes > shard_bytes:
            flush()
        held[name] = tensor.detach().cpu().contiguous().clone()
        size, total = size + nbytes, total + nbytes
    flush()
    for stale in folder.glob("model*.safetensors*"):
        stale.unlink()
    where: dict[str, str] = {}
    for number, (path, names) in enumerate(parts, start=1):
        shard = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        os.replace(path, folder / shard)
        where.update(dict.fromkeys(names, shard))
    if len(parts) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return total
