"""What a cache of one sequence holds, as few tensors: to keep it, to write it down, and to go on from it elsewhere.

A hit on rows alone would be wrong: sliding windows, windows being filled, memory ids and convolution tails belong to
the state too, so all of them travel. Rings are stored in the order of their tokens, since the ring of another cache may
have another size. Shape letters: B batch (1), S rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dsv4.core.cache import Cache
from dsv4.core.rows import Ring, Rows


def take(cache: Cache) -> dict[str, Tensor]:
    """Copies of everything that is held, no longer than what was read."""
    held = {name: _rows(rows, count, cache.length) for name, rows, count in _parts(cache)}
    held |= {f"tail.{layer}": tail.clone() for layer, tail in cache._tails.items()}
    if cache._memory_ids is not None:
        held["memory"] = cache._memory_ids.get(slice(0, cache.length))[..., 0].clone()
    return held


def put_back(cache: Cache, held: dict[str, Tensor], length: int) -> None:
    """Fill an empty cache with `length` tokens' state; ValueError when it is not of the same kind, or too small."""
    cache.check(1, length)
    wanted = {name for name, _, _ in _parts(cache, length)} | {f"tail.{layer}" for layer in cache._tails}
    wanted |= set() if cache._memory_ids is None else {"memory"}
    if cache.length or wanted != set(held):
        raise ValueError("a snapshot goes into an empty cache of the model that it was taken from")
    for name, rows, count in _parts(cache, length):
        _fill(name, rows, held[name], count, length)
    for layer, tail in cache._tails.items():
        if tail.shape != held[f"tail.{layer}"].shape:
            raise ValueError("the snapshot was taken with another rewind or batch")
        tail.copy_(held[f"tail.{layer}"])
    if cache._memory_ids is not None:
        cache._memory_ids.put(slice(0, length), held["memory"][..., None])
    cache.advance(length)


def _parts(cache: Cache, length: int | None = None) -> Iterator[tuple[str, Rows, int]]:
    """Name, rows, and how many of them are held after `length` tokens."""
    length = cache.length if length is None else length
    for layer, rows in enumerate(cache._entries):
        yield f"entries.{layer}", rows, length
    for layer, keys in enumerate(cache._index_keys):
        if keys is not None:
            yield f"keys.{layer}", keys, length
    for layer, scales in enumerate(cache._index_scales):
        if scales is not None:
            yield f"scales.{layer}", scales, length
    for (layer, name), ring in cache._pending.items():
        yield f"pending.{layer}.{name}", ring, length
    for (layer, name), rows in cache._windows.items():
        yield f"windows.{layer}.{name}", rows, length // cache.config.ratio(layer)


def _rows(rows: Rows, count: int, length: int) -> Tensor:
    if not isinstance(rows, Ring):
        return rows.kept_BSD[:, :count].clone()
    places = torch.arange(max(0, length - rows.size), length, device=rows.kept_BSD.device)
    return rows.kept_BSD[:, places % rows.size]


def _fill(name: str, rows: Rows, given_BSD: Tensor, count: int, length: int) -> None:
    kept = rows.kept_BSD
    if given_BSD.shape[0] != kept.shape[0] or given_BSD.shape[2] != kept.shape[2] or given_BSD.dtype != kept.dtype:
        raise ValueError(f"the snapshot's '{name}' is of another format than this cache")
    if not isinstance(rows, Ring):
        rows.hold(0, count)
        kept[:, :count] = given_BSD
        return
    last = min(rows.size, given_BSD.shape[1])
    if last < min(rows.size, length):
        raise ValueError(f"the snapshot's '{name}' was taken from a smaller ring")
    places = torch.arange(length - last, length, device=kept.device)
    kept[:, places % rows.size] = given_BSD[:, given_BSD.shape[1] - last :]
