"""Read and write a model folder: safetensors shards of bounded size, quantised group by group.

A folder holds `model.json` (format, what is quantised and how) and `weights-00000.safetensors` and on. A quantised
tensor `name` is stored as `name|codes` (uint8) and `name|scales` (float16); its shape, bits and group stand in
`model.json`. Everything else is stored as it is. Only safetensors are read: nothing in a folder can run code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsv4.errors import InputError
from dsv4.quant.groups import Packed, dequantize, quantize

if TYPE_CHECKING:
    import torch

FORMAT = "dsv4-folder-1"
SHARD_BYTES = 15_000_000

# What is never quantised: norms, biases, routers, lane mixing, indexer weights; all of them are small.
BitsPolicy = Callable[[str, tuple[int, ...]], int | None]


def save_folder(
    folder: Path, tensors: Mapping[str, torch.Tensor], *, policy: BitsPolicy, about: Mapping[str, Any], group: int = 64
) -> int:
    """Write `tensors` under `folder` and return the bytes written; `policy(name, shape)` gives bits or None.

    Files are written beside their names and renamed, `model.json` last: a folder without it is not a model.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"format": FORMAT, "about": dict(about), "quantized": {}, "shards": []}
    shard: dict[str, np.ndarray] = {}
    held = written = 0

    def flush() -> None:
        nonlocal shard, held, written
        if not shard:
            return
        name = f"weights-{len(index['shards']):05d}.safetensors"
        temporary = folder / (name + ".tmp")
        save_file(shard, temporary)
        os.replace(temporary, folder / name)
        written += (folder / name).stat().st_size
        index["shards"].append(name)
        shard, held = {}, 0

    for name, tensor in tensors.items():
        parts = dict(_stored(name, tensor, policy(name, tuple(tensor.shape)), group, index["quantized"]))
        size = sum(part.nbytes for part in parts.values())
        if held and held + size > SHARD_BYTES - 100_000:
            flush()
        shard.update(parts)
        held += size
    flush()
    for stale in folder.glob("weights-*.safetensors"):
        if stale.name not in index["shards"]:
            stale.unlink()
    temporary = folder / "model.json.tmp"
    temporary.write_text(json.dumps(index, indent=1) + "\n")
    os.replace(temporary, folder / "model.json")
    return written


def load_folder(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a folder written by `save_folder`: tensors (quantised ones opened to float32) and its `about` record.

    Raises InputError when the folder is no model of ours or a shard is missing.
    """
    import torch
    from safetensors.numpy import load_file

    path = folder / "model.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: it has no model.json")
    index = json.loads(path.read_text())
    if index.get("format") != FORMAT:
        raise InputError(f"{path} has format {index.get('format')!r}; this version reads {FORMAT!r}")
    raw: dict[str, np.ndarray] = {}
    for shard in index["shards"]:
        if not (folder / shard).is_file():
            raise InputError(f"{folder} is not complete: {shard} is missing")
        raw.update(load_file(folder / shard))
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in index["quantized"].items():
        packed = Packed(
            codes=raw.pop(f"{name}|codes"),
            scales_RG=raw.pop(f"{name}|scales"),
            shape=tuple(entry["shape"]),
            bits=entry["bits"],
            group=entry["group"],
        )
        tensors[name] = torch.from_numpy(dequantize(packed))
    tensors.update({name: torch.from_numpy(array) for name, array in raw.items()})
    return tensors, index["about"]


def _stored(
    name: str, tensor: torch.Tensor, bits: int | None, group: int, quantized: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    array = tensor.detach().cpu()
    if bits is None:
        plain = array.float() if array.is_floating_point() else array
        yield name, np.ascontiguousarray(plain.numpy())
        return
    packed = quantize(array.float().numpy(), bits=bits, group=group)
    quantized[name] = {"shape": list(packed.shape), "bits": packed.bits, "group": packed.group}
    yield f"{name}|codes", packed.codes
    yield f"{name}|scales", packed.scales_RG
