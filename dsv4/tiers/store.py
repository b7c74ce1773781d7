"""A quantised checkpoint as it grows: finished shards, what each holds, and how to go on after an interruption.

Every shard has its final names. A finished block is one line of `progress.json`; shards that no line names are removed
when the work goes on. Source: compressed-tensors' `pack-quantized` for packed weights and for what config.json says.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsv4.checkpoint.names import recipe
from dsv4.checkpoint.pretrained import CANONICAL, _write_config
from dsv4.checkpoint.shards import INDEX, PACKED
from dsv4.core.config import CoreConfig
from dsv4.errors import InputError
from dsv4.quant.grid import Grid, pack_words
from dsv4.tiers.layer import Coded

PROGRESS = "progress.json"
SHARD_BYTES = 2_000_000_000


class Store:
    """Writes what blocks emit; `done` is how many blocks are finished."""

    def __init__(self, folder: Path, *, config: CoreConfig, kind: str, dtype: torch.dtype, run: dict[str, Any]) -> None:
        self.folder, self.config, self.kind, self.dtype = folder, config, kind, dtype
        self.work = folder / "unfinished"
        self.work.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"run": run, "done": 0, "shards": [], "errors": {}, "plain": []}
        path = self.work / PROGRESS
        if path.is_file():
            found = json.loads(path.read_text())
            if found["run"] != run:
                raise InputError(
                    f"{folder} holds an unfinished run with other settings ({_told(found['run'], run)}); "
                    "go on with those, or name another folder"
                )
            self.state = found
        named = {shard for shard, _ in self.state["shards"]}
        for stale in folder.glob("part-*.safetensors"):
            if stale.name not in named:
                stale.unlink()
        self._held: dict[str, Tensor] = {}
        self._new: list[tuple[str, list[str]]] = []

    @property
    def done(self) -> int:
        """Finished steps: the part outside the blocks is the first."""
        return self.state["done"]

    def put(self, name: str, given: Tensor | Coded, expert: int | None = None) -> None:
        """Take one of our weights, or one expert of a stack, under the names of the checkpoint's family."""
        for target, piece in self._named(name, given, expert):
            if isinstance(piece, Tensor):
                self._hold(target, self._cast(name, piece))
                self.state["plain"] += [target] if piece.ndim == 2 else []
                continue
            codes, scales, grid = piece
            self._hold(target + PACKED[0], pack_words(codes, grid.bits))
            self._hold(target + PACKED[1], scales.to(grid.dtype))
            self._hold(target + PACKED[2], torch.tensor(codes.shape))

    def finish(self, errors: dict[str, float]) -> None:
        """Everything put since the last time is on disk and counts as one more finished step."""
        self._flush()
        self.state["shards"] += self._new
        self.state["errors"] |= errors
        self.state["done"] += 1
        self._new = []
        _write(self.work / PROGRESS, self.state)

    def close(self, grid: Grid, canonical_ids: Tensor | None) -> int:
        """Name the shards as a checkpoint, write config.json last, and return the bytes of weights."""
        from safetensors.torch import save_file

        if canonical_ids is not None and (self.kind == "dsv4" or self.config.engram is not None):
            save_file({CANONICAL: canonical_ids.clone()}, self.folder / "part-ids.safetensors", {"format": "pt"})
            self.state["shards"].append(("part-ids.safetensors", [CANONICAL]))
        count, where, total = len(self.state["shards"]), {}, 0
        for number, (shard, names) in enumerate(self.state["shards"], start=1):
            final = f"model-{number:05d}-of-{count:05d}.safetensors"
            if (self.folder / shard).is_file():
                os.replace(self.folder / shard, self.folder / final)
            where.update(dict.fromkeys(names, final))
            total += (self.folder / final).stat().st_size
        _write(self.folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
        _write_config(self.folder, self.config, self.kind, self.dtype)
        given = json.loads((self.folder / "config.json").read_text())
        _write(self.folder / "config.json", given | {"quantization_config": quantization_config(grid, self.ignored())})
        return total

    def ignored(self) -> list[str]:
        """What a reader of the checkpoint must not take for packed: modules whose weight is stored as it was."""
        plain = sorted({name.removesuffix(".weight") for name in self.state["plain"] if name.endswith(".weight")})
        return ["lm_head", r"re:.*mlp\.gate$", *(name for name in plain if name != "lm_head")]

    def _named(self, name: str, given: Tensor | Coded, expert: int | None) -> list[tuple[str, Tensor | Coded]]:
        if self.kind == "dsv4":
            return [(name if expert is None else f"{name}.{expert}", given)]
        plan = recipe(name, self.config, self.kind)
        parts = plan.rows[0 if expert is None else expert]
        flat = name.endswith("out_groups")
        if isinstance(given, Tensor):
            given = given.flatten(0, 1) if flat else given
            return list(zip(parts, given.chunk(len(parts)) if len(parts) > 1 else (given,), strict=True))
        codes, scales, grid = given
        if flat:
            codes, scales = codes.flatten(0, 1), scales.flatten(0, 1)
        pieces = zip(codes.chunk(len(parts)), scales.chunk(len(parts)), strict=True)
        return [(part, (*piece, grid)) for part, piece in zip(parts, pieces, strict=True)]

    def _cast(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        if self.kind == "dsv4":  # tables in half the bytes; everything else here is small
            return tensor.bfloat16() if name in ("embedding.weight", "head.weight") else tensor.float()
        from dsv4.checkpoint.pretrained import ALWAYS_WIDE

        return tensor.to(torch.float32 if any(part in name for part in ALWAYS_WIDE) else self.dtype)

    def _hold(self, name: str, tensor: Tensor) -> None:
        self._held[name] = tensor.detach().contiguous().clone()
        if sum(one.numel() * one.element_size() for one in self._held.values()) > SHARD_BYTES:
            self._flush()

    def _flush(self) -> None:
        from safetensors.torch import save_file

        if self._held:
            shard = f"part-{self.state['done']:03d}-{len(self._new):03d}.safetensors"
            save_file(self._held, self.folder / shard, metadata={"format": "pt"})
            self._new.append((shard, list(self._held)))
        self._held = {}


def quantization_config(grid: Grid, ignored: list[str]) -> dict[str, Any]:
    """What config.json says of packed weights, in the words of compressed-tensors."""
    weights = {"num_bits": grid.bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": grid.group,
               "dynamic": False}  # fmt: skip
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "kv_cache_scheme": None,
        "config_groups": {"group_0": group},
        "ignore": ignored,
    }


def _told(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    return ", ".join(f"{key} {found.get(key)}" for key in wanted if found.get(key) != wanted[key])


def _write(path: Path, given: dict[str, Any]) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(given, indent=1) + "\n")
    os.replace(beside, path)
