"""Every way through the core gives the same answer: whole, in chunks, token by token, one row or many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.core.reading import EntryAttention

Builder = Callable[..., LanguageCore]

CLOSE = 1e-9


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


def logits(core: LanguageCore, ids: torch.Tensor, **options: object) -> torch.Tensor:
    with torch.no_grad():
        return core(ids, **options).logits_BTV


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("chunks", [(40,), (20, 20), (1,) * 40, (7, 1, 1, 11, 20), (30,) + (1,) * 10, (3, 9, 28)])
def test_cached_equals_whole(core: LanguageCore, ids: torch.Tensor, chunks: tuple[int, ...], rows: int) -> None:
    memory = ids[:rows].clone()
    memory[:, 17:20] = -1
    whole = logits(core, ids[:rows], memory_ids_BT=memory)
    cache, start, parts = core.new_cache(rows, 40), 0, []
    for size in chunks:
        piece = slice(start, start + size)
        parts.append(logits(core, ids[:rows, piece], memory_ids_BT=memory[:, piece], cache=cache))
        start += size
    assert cache.length == 40
    assert far(torch.cat(parts, 1), whole) < CLOSE


def test_one_token_step_also_gives_taps_and_loads(core: LanguageCore, ids: torch.Tensor) -> None:
    with torch.no_grad():
        cache = core.new_cache(1, 8)
        core(ids[:1, :7], cache=cache)
        twin = cache.fork()
        quick = core(ids[:1, 7:8], cache=cache, taps=(1, 3))
    slow = core(ids[:1, 7:8], cache=twin, taps=(1, 3))  # with gradients on, the general path is taken
    assert far(quick.logits_BTV, slow.logits_BTV) < CLOSE
    assert all(far(a, b) < CLOSE for a, b in zip(quick.taps, slow.taps, strict=True))
    assert torch.equal(quick.loads_LE.double(), slow.loads_LE.double())
    assert quick.balance_loss.item() == pytest.approx(slow.balance_loss.item(), rel=1e-6)


def test_gathering_equals_masking(build: Builder, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    core = build()
    masked = logits(core, ids)
    monkeypatch.setattr("dsv4.core.reading.GATHER_FROM", 1)
    monkeypatch.setattr("dsv4.core.reading.GATHER_TILE", 5)
    calls: list[bool] = []
    attend_places = EntryAttention._attend_places

    def spy(self: EntryAttention, *args: object) -> torch.Tensor:
        calls.append(True)
        return attend_places(self, *args)

    monkeypatch.setattr(EntryAttention, "_attend_places", spy)
    assert far(logits(core, ids), masked) < CLOSE
    assert any(calls), "no tile was gathered, so nothing was compared"


def test_tiles_do_not_matter(core: LanguageCore, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = logits(core, ids)
    monkeypatch.setattr("dsv4.ops.attend.TILE", 6)
    assert far(logits(core, ids), whole) < CLOSE


def test_top_k_of_everything_is_dense(build: Builder, ids: torch.Tensor) -> None:
    part = presets.micro().attention
    core = build(attention=dataclasses.replace(part, top_k=40))
    assert far(logits(core, ids, sparse=True), logits(core, ids, sparse=False)) == 0
    assert far(logits(build(), ids, sparse=True), logits(build(), ids, sparse=False)) > 1e-6


def test_window_of_everything_is_full(build: Builder, ids: torch.Tensor) -> None:
    part = presets.micro().attention
    wide = dataclasses.replace(part, window=40)
    one, other = (build(reach=("full", reach, "full"), attention=wide) for reach in ("sliding", "full"))
    assert far(logits(one, ids), logits(other, ids)) < CLOSE
    narrow = build(reach=("full", "sliding", "full"))
    assert far(logits(narrow, ids), logits(other, ids)) > 1e-6


def test_a_row_does_not_see_its_neighbours(core: LanguageCore, ids: torch.Tensor) -> None:
    assert far(logits(core, ids)[1:], logits(core, ids[1:])) < CLOSE


@pytest.mark.parametrize("place", [0, 13, 39])
def test_the_future_never_changes_the_past(core: LanguageCore, ids: torch.Tensor, place: int) -> None:
    changed = ids.clone()
    changed[:, place] = (changed[:, place] + 1) % 256
    before, after = logits(core, ids), logits(core, changed)
    assert place == 0 or far(before[:, :place], after[:, :place]) == 0
    assert (before[:, place:] - after[:, place:]).abs().amax((0, 2)).min() > 0, "a later place did not notice"


def test_packed_documents_are_independent(core: LanguageCore, ids: torch.Tensor) -> None:
    cuts = (0, 5, 19, 40)
    segments = torch.zeros(40, dtype=torch.long)
    positions = torch.zeros(40, dtype=torch.long)
    for number, (start, stop) in enumerate(zip(cuts, cuts[1:], strict=False)):
        segments[start:stop], positions[start:stop] = number, torch.arange(stop - start)
    packed = logits(core, ids, segments_BT=segments.expand(2, -1), positions_BT=positions.expand(2, -1))
    alone = torch.cat([logits(core, ids[:, a:b]) for a, b in zip(cuts, cuts[1:], strict=False)], 1)
    assert far(packed, alone) < CLOSE


def test_padding_in_its_own_segment_changes_nothing(core: LanguageCore, ids: torch.Tensor) -> None:
    padded = torch.cat((torch.zeros(2, 6, dtype=torch.long), ids), 1)
    segments = torch.tensor([-1] * 6 + [0] * 40).expand(2, -1)
    positions = torch.tensor([0] * 6 + list(range(40))).expand(2, -1)
    assert far(logits(core, padded, segments_BT=segments, positions_BT=positions)[:, 6:], logits(core, ids)) < CLOSE


def test_only_distances_matter(core: LanguageCore, ids: torch.Tensor) -> None:
    moved = logits(core, ids, positions_BT=torch.arange(40)[None] + 37)
    assert far(moved, logits(core, ids)) < 1e-4  # angles are float32


def test_last_only_and_given_embeddings(core: LanguageCore, ids: torch.Tensor) -> None:
    whole = logits(core, ids)
    last = logits(core, ids, last_only=True, embeds_BTD=core.embed(ids))
    assert last.shape == (2, 1, 256)
    assert far(last, whole[:, -1:]) < CLOSE


def test_a_cache_is_used_up_and_forks(core: LanguageCore, ids: torch.Tensor) -> None:
    cache = core.new_cache(2, 12)
    logits(core, ids[:, :10], cache=cache)
    snapshot = cache.fork()
    one = logits(core, ids[:, 10:12], cache=cache)
    assert far(logits(core, ids[:, 10:12], cache=snapshot), one) == 0
    with pytest.raises(ValueError, match="holds 12 of 12"):
        logits(core, ids[:, 12:13], cache=cache)
    with pytest.raises(ValueError, match="batch of 2"):
        logits(core, ids[:1, :1], cache=core.new_cache(2, 4))


def test_taps_are_the_streams_after_blocks(core: LanguageCore, ids: torch.Tensor) -> None:
    with torch.no_grad():
        output = core(ids, taps=(3, 1))
    last, first = output.taps
    assert first.shape == (2, 40, 64) and far(first, last) > 1e-3
    with pytest.raises(ValueError, match="from 1 to 3"):
        core(ids, taps=(0,))
