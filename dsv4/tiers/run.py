"""`dsv4 quantize`: a model block by block into few bits, within a memory limit, going on where it was interrupted.

Shape letters: S tokens of all passages, T tokens of one, N lanes, W hidden.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsv4.checkpoint.io import copy_parts
from dsv4.core.frame import Frame, make_frame
from dsv4.core.hyper import first_lane
from dsv4.errors import InputError, unknown
from dsv4.quant.grid import Grid
from dsv4.tiers.layer import METHODS, How, Work, attention_pass, bytes_an_expert, experts_pass, memory_pass
from dsv4.tiers.sites import attention_sites
from dsv4.tiers.source import STACKS, Source, model_parts, open_source
from dsv4.tiers.store import PROGRESS, Store

TIERS = {"q8": 8, "q4": 4}
GROUPS = (128, 64, 32, 16)
ROW_BITS = 8  # of Engram's rows, which are looked up and not multiplied
WORDS = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")  # of a checkpoint, copied as they are
CORE = "core"  # folder of the core in a model of ours


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Something to calibrate with: ids, and with pictures the embeddings in their places and memory closed there."""

    token_ids_T: Tensor
    embeds_TD: Tensor | None = None
    memory_ids_T: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What quantising came to; errors are relative squared errors of each weight's output on the passages."""

    bytes: int
    bits_a_weight: float
    errors: dict[str, float]


def quantize(
    model: Path | str,
    out: Path | str,
    *,
    tier: str,
    method: str,
    passages: Sequence[Passage],
    group: int | None = None,
    memory: float = 4e9,
    told: Callable[[str], None] = lambda line: None,
) -> Report:
    """Write `model` quantised to the folder `out`; what an interrupted run finished is not done again.

    model: a checkpoint folder, or a model of ours. group: columns a scale (default: the largest of 128 to 16 that
    divides all). memory: bytes that weights and moments of one block may take. InputError where something does not fit.
    """
    if tier not in TIERS:
        raise unknown("tier", tier, TIERS)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not passages:
        raise InputError("calibration needs at least one passage of text")
    source, out = open_source(Path(model)), Path(out)
    if "shared_compressed" in source.config.reach:
        first = source.config.reach.index("shared_compressed")
        raise InputError(
            f"{model}: from layer {first} on layers share compressed entries, and blocks are quantised one by one; "
            f"copy the first {first} with `dsv4 convert --layers {first}` and quantise those"
        )
    if out.resolve() == Path(model).resolve():
        raise InputError("a model cannot be quantised in place; name another folder")
    if (out / "config.json").is_file() or (out / "model.json").is_file():
        raise InputError(f"{out} holds a model already")
    ours = (Path(model) / "model.json").is_file()
    how = _how(source, tier, method, group, memory)
    run = {"model": source.fingerprint, "tier": tier, "method": method, "group": how.grid.group,
           "passages": _fingerprint(passages)}  # fmt: skip
    target = out / CORE if ours else out
    store = Store(target, config=source.config, kind=source.kind, dtype=source.dtype, run=run)
    with torch.no_grad():
        _all_blocks(source, store, how, passages, told)
    written = store.close(how.grid, source.canonical_ids)
    shutil.rmtree(store.work)
    if ours:
        written += copy_parts(Path(model), out, model_parts(Path(model)))
    else:
        for name in WORDS:
            if (Path(model) / name).is_file():
                shutil.copyfile(Path(model) / name, out / name)
    return Report(bytes=written, bits_a_weight=how.grid.bits_a_weight, errors=store.state["errors"])


def _how(source: Source, tier: str, method: str, group: int | None, memory: float) -> How:
    widths = {width for _, width in _columns(source)}
    if group is None:
        group = next((one for one in GROUPS if all(width % one == 0 for width in widths)), GROUPS[-1])
    if group < 2:
        raise InputError(f"a group needs at least two columns, got {group}")
    dtype = torch.bfloat16 if source.kind == "dsv4" else source.dtype
    part = source.config.engram
    rows = None
    if part is not None:
        rows = Grid(bits=ROW_BITS, group=math.gcd(part.width, group), dtype=torch.bfloat16)
    held = _bytes_of_block(source)
    least = held + bytes_an_expert(source)
    if memory < least:
        raise InputError(f"one block and one expert of this model take {least / 1e9:.3g} GB; allow at least as much")
    return How(method=method, grid=Grid(bits=TIERS[tier], group=group, dtype=dtype), rows=rows,
               room=int(memory - held))  # fmt: skip


def _columns(source: Source) -> Iterator[tuple[str, int]]:
    """Names and columns of all weights that are to be quantised."""
    for layer, block in enumerate(source.frame.blocks):
        inner = [f"experts.{unit}_{end}.weight" for unit in ("shared", "dense") for end in ("in", "out")]
        here = dict(block.named_parameters())
        names = [name for site in attention_sites(block) for name in site.weights]
        for name in (*names, *inner, *STACKS, "engram.key", "engram.value.weight", "engram.both.weight"):
            if name in here:
                yield f"blocks.{layer}.{name}", here[name].shape[-1]


def _bytes_of_block(source: Source) -> int:
    """The largest block without its routed experts: weights twice, and second moments of what they read."""
    most = 0
    for block in source.frame.blocks:
        held = 0
        for name, one in block.named_parameters():
            if name not in STACKS:
                table = name == "engram.table.weight"
                held += one.numel() * (8 if not table else 4)
                held += 0 if table or one.ndim < 2 else 8 * min(one.shape[-1], 65_536) ** 2
        most = max(most, held)
    return most


def _fingerprint(passages: Sequence[Passage]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for one in passages:
        for part in (one.token_ids_T, one.embeds_TD, one.memory_ids_T):
            digest.update(b"-" if part is None else part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _all_blocks(
    source: Source, store: Store, how: How, passages: Sequence[Passage], told: Callable[[str], None]
) -> None:
    lanes, width = source.config.lanes.count, source.config.hidden
    tokens = sum(len(one.token_ids_T) for one in passages)
    shape = (tokens, lanes, width)
    if store.done == 0:
        x_SNW = np.memmap(_states(store, 0), np.float32, "w+", shape=shape)
        _embed(source, passages, torch.from_numpy(x_SNW))
        x_SNW.flush()
        if source.frame.single_pass:
            pre_SN = np.memmap(_pre(store, 0), np.float32, "w+", shape=shape[:2])
            pre_SN[:] = first_lane(torch.from_numpy(x_SNW)[None])[0].numpy()
            pre_SN.flush()
        for name in source.frame.state_dict():
            if not name.startswith("blocks."):
                store.put(name, source.read(name))
        store.finish({})
    elif store.done > 1:
        told(f"going on after block {store.done - 1}")
    ids_S = torch.cat([one.token_ids_T for one in passages])
    for layer in range(store.done - 1, source.config.layers):
        shutil.copyfile(_states(store, layer), _states(store, layer + 1))
        x_SNW = np.memmap(_states(store, layer + 1), np.float32, "r+", shape=shape)
        work = Work(block=source.block(layer).eval(), layer=layer, how=how, emit=_emitter(store, layer))
        pre_SN = None
        if source.frame.single_pass:
            shutil.copyfile(_pre(store, layer), _pre(store, layer + 1))
            pre_SN = np.memmap(_pre(store, layer + 1), np.float32, "r+", shape=shape[:2])
            work.pre_SN = torch.from_numpy(pre_SN)
        states = torch.from_numpy(x_SNW)
        memory_pass(work, _each(source, passages, states))
        attention_pass(work, _each(source, passages, states))
        experts_pass(work, source, states, ids_S)
        x_SNW.flush()
        if pre_SN is not None:
            pre_SN.flush()
        _rest(work, store)
        store.finish({f"blocks.{layer}.{name}": error for name, error in work.errors.items()})
        source.drop(layer)
        _states(store, layer).unlink()
        _pre(store, layer).unlink(missing_ok=True)
        worst = max(work.errors.values(), default=0.0)
        told(f"block {layer + 1} of {source.config.layers}: worst relative error {worst:.2e}")


def _states(store: Store, layer: int) -> Path:
    return store.work / f"states-{layer:03d}.f32"


def _pre(store: Store, layer: int) -> Path:
    return store.work / f"pre-{layer:03d}.f32"


def _emitter(store: Store, layer: int) -> Callable[[str, Any, int | None], None]:
    def emit(name: str, given: Any, expert: int | None) -> None:
        written.add(name)
        store.put(f"blocks.{layer}.{name}", given, expert)

    written: set[str] = set()
    emit.written = written
    return emit


def _rest(work: Work, store: Store) -> None:
    """What is not quantised, after scales were taken out of it."""
    for name, tensor in work.block.state_dict().items():
        if name not in work.emit.written and not tensor.is_meta:
            store.put(f"blocks.{work.layer}.{name}", tensor)


def _embed(source: Source, passages: Sequence[Passage], x_SNW: Tensor) -> None:
    table, start = source.read("embedding.weight"), 0
    for one in passages:
        given_TD = table[one.token_ids_T].float() if one.embeds_TD is None else one.embeds_TD.float()
        stop = start + len(one.token_ids_T)
        x_SNW[start:stop] = source.frame._lanes(given_TD[None])[0]
        start = stop


def _each(
    source: Source, passages: Sequence[Passage], x_SNW: Tensor
) -> Iterator[tuple[Tensor, list[Tensor] | None, Frame]]:
    """Each passage's lanes, memory ids and frame."""
    start = 0
    for one in passages:
        stop = start + len(one.token_ids_T)
        ids_1T = one.token_ids_T[None]
        frame = make_frame(
            source.config,
            positions_BT=torch.arange(stop - start)[None],
            batch=1,
            segments_BT=None,
            cache=None,
            token_ids_BT=ids_1T,
            sparse=True,
            index_loss=None,
        )
        memory_1T = ids_1T if one.memory_ids_T is None else one.memory_ids_T[None]
        yield x_SNW[start:stop], source.frame._shifts(memory_1T, frame), frame
        start = stop


def unfinished(out: Path) -> bool:
    """Whether a folder holds work that can be gone on with."""
    return any((place / "unfinished" / PROGRESS).is_file() for place in (out, out / CORE))
