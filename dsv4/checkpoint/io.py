"""Read and write a model folder: safetensors shards of bounded size, quantised group by group.

A folder holds `model.json` (format, what is quantised and how, a digest of every shard, so that it tells models apart)
and `weights-00000.safetensors` and on. A quantised tensor `name` is stored as `name|codes` (uint8) and `name|scales`
(float16); its shape, bits and group stand in `model.json`. Everything else is stored as it is. Only safetensors are
read: nothing in a folder can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsv4.errors import InputError
from dsv4.quant.groups import Packed, dequantize, quantize
from dsv4.quant.policy import row_width
from dsv4.spelling import FILE as SPELLING

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
    parts = sorted({name.split(".", 1)[0] for name in tensors})
    index: dict[str, Any] = {"format": FORMAT, "about": dict(about), "parts": parts}
    index |= {"shards": [], "digests": [], "quantized": {}}
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
        index["digests"].append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
        shard, held = {}, 0

    for name, tensor in tensors.items():
        stored = dict(_stored(name, tensor, policy(name, tuple(tensor.shape)), group, index["quantized"]))
        size = sum(part.nbytes for part in stored.values())
        if held and held + size > SHARD_BYTES - 100_000:
            flush()
        shard.update(stored)
        held += size
    flush()
    for stale in folder.glob("weights-*.safetensors"):
        if stale.name not in index["shards"]:
            stale.unlink()
    temporary = folder / "model.json.tmp"
    temporary.write_text(json.dumps(index, indent=1) + "\n")
    os.replace(temporary, folder / "model.json")
    return written


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's `model.json`; InputError when it is no model of ours, damaged, or a shard is missing."""
    path = folder / "model.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: it has no model.json")
    try:
        index = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    form = index.get("format") if isinstance(index, dict) else None
    if form != FORMAT:
        raise InputError(f"{path} has format {form!r}; this version reads {FORMAT!r}")
    kinds = {"shards": list, "parts": list, "quantized": dict, "about": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(index.get(key), kind)]
    if wrong:
        raise InputError(f"{path} is damaged: {', '.join(wrong)} missing or of another kind")
    for shard in index["shards"]:
        if not (folder / shard).is_file():
            raise InputError(f"{folder} is not complete: {shard} is missing")
    return index


def part_names(index: Mapping[str, Any]) -> set[str]:
    """The parts (first words of tensor names) that a folder holds."""
    return set(index["parts"])


def load_folder(folder: Path, *, part: str = "") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors of a folder written by `save_folder` (quantised ones opened to float32) and its `about` record.

    With `part` only tensors named `part.…` are read, and the part is taken off their names. Raises InputError for what
    `read_index` refuses, for a shard that is no whole safetensors file, and for numbers that are none.
    """
    import torch

    index = read_index(folder)
    start = f"{part}." if part else ""
    raw: dict[str, np.ndarray] = {}
    for shard in index["shards"]:
        raw.update(_read_shard(folder / shard, start))
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in index["quantized"].items():
        if not name.startswith(start):
            continue
        try:
            packed = Packed(
                codes=raw.pop(f"{name}|codes"),
                scales_RG=raw.pop(f"{name}|scales"),
                shape=tuple(entry["shape"]),
                bits=entry["bits"],
                group=entry["group"],
            )
            tensors[name] = torch.from_numpy(dequantize(packed))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder} is damaged: '{name}' is not stored as model.json says ({error})") from error
    tensors.update({name: torch.from_numpy(array) for name, array in raw.items()})
    return {name.removeprefix(start): value for name, value in tensors.items()}, index["about"]


def _read_shard(path: Path, start: str) -> dict[str, np.ndarray]:
    """The tensors of one file whose names begin so."""
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            found = {key: file.get_tensor(key) for key in file.keys() if key.startswith(start)}
    except (SafetensorError, OSError, TypeError) as error:
        raise InputError(f"{path} is not a whole file of weights: {error}") from error
    for key, array in found.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path} holds numbers that are none in '{key}'")
    return found


def _stored(
    name: str, tensor: torch.Tensor, bits: int | None, group: int, quantized: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    array = tensor.detach().cpu()
    if bits is None:
        plain = array.float() if array.is_floating_point() else array
        yield name, plain.contiguous().numpy()
        return
    packed = quantize(array.float().numpy().reshape(-1, row_width(tuple(array.shape))), bits=bits, group=group)
    quantized[name] = {"shape": list(array.shape), "bits": packed.bits, "group": packed.group}
    yield f"{name}|codes", packed.codes
    yield f"{name}|scales", packed.scales_RG


def copy_parts(source: Path, out: Path, parts: tuple[str, ...]) -> int:
    """Copy these parts of a folder as they are stored, with its tokenizer, to a folder whose core lies elsewhere.

    Returns the bytes of weights.
    """
    from safetensors.numpy import save_file

    index = read_index(source)
    out.mkdir(parents=True, exist_ok=True)
    shards: list[str] = []
    digests: list[str] = []
    written = 0
    for part in parts:
        held: dict[str, np.ndarray] = {}
        for shard in index["shards"]:
            held.update(_read_shard(source / shard, f"{part}."))
        name = f"weights-{len(shards):05d}.safetensors"
        save_file(held, out / name)
        shards.append(name)
        digests.append(hashlib.sha256((out / name).read_bytes()).hexdigest())
        written += (out / name).stat().st_size
    kept = {name: entry for name, entry in index["quantized"].items() if name.split(".", 1)[0] in parts}
    copied = {**index, "parts": list(parts), "shards": shards, "digests": digests, "quantized": kept}
    core = out / "core" / "config.json"
    if core.is_file():  # the index tells models apart, so it must know of the core beside it
        copied["core"] = hashlib.sha256(b"".join(_digests(out / "core"))).hexdigest()
    for name in ("tokenizer.json", SPELLING):
        if (source / name).is_file():
            (out / name).write_bytes((source / name).read_bytes())
    temporary = out / "model.json.tmp"
    temporary.write_text(json.dumps(copied, indent=1) + "\n")
    os.replace(temporary, out / "model.json")
    return written


def _digests(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json"):
            with path.open("rb") as file:
                yield hashlib.file_digest(file, "sha256").digest()
