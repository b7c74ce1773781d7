"""Caches in pages: to the bit what plain caches are, whatever is forked, taken back and dropped; and their memory."""

from __future__ import annotations

import dataclasses
import mmap
import random
from collections.abc import Callable

import pytest
import torch

from dsv4.core import pages
from dsv4.core.cache import Cache
from dsv4.core.model import LanguageCore
from dsv4.core.pages import PagedRows, PagePool, supported
from dsv4.core.rows import Rows
from dsv4.core.snapshot import put_back, take
from tests.core.test_core_cache import KINDS, logits

pytestmark = pytest.mark.skipif(
    not supported("cpu") or mmap.PAGESIZE > 4096, reason="memory maps of Linux, in pages of 4,096 bytes"
)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 4096)
    monkeypatch.setattr(pages, "RUN", 3)


@pytest.mark.parametrize("options", [{}, {"rows": "fp8", "index_keys": "int8"}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_paged_cache_is_a_plain_one_to_the_bit(
    build: Callable[..., LanguageCore], ids: torch.Tensor, kind: str, options: dict[str, str]
) -> None:
    """Chunks, single tokens, a guess taken back, forks that go different ways and to different lengths, a restore."""
    core = build(KINDS[kind])
    options = {} if kind == "heads" else options

    def read(paged: bool) -> list[torch.Tensor]:
        cache, out, start = core.new_cache(2, 44, rewind=4, pages=paged, **options), [], 0
        for size in (7, 1, 12, 1):
            out.append(logits(core, ids[:, start : start + size], cache=cache))
            start += size
        kept, twin = cache.fork(), cache.fork()
        out.append(logits(core, ids[:, 30:33], cache=twin))
        twin.truncate(21)
        out += [logits(core, ids[:, 21:40], cache=twin), logits(core, ids[:, 5:9], cache=cache)]
        out += [logits(core, ids[:, 9:10], cache=one) for one in (twin, cache)]
        cache.restore(kept)
        empty = core.new_cache(1, 44, rewind=4, pages=paged, **options)
        out.append(logits(core, ids[:1, :9], cache=empty))
        other = core.new_cache(1, 44, rewind=4, pages=paged, **options)
        put_back(other, take(empty), 9)
        return [*out, logits(core, ids[:, 21:22], cache=cache), logits(core, ids[:1, 9:12], cache=other)]

    assert all(torch.equal(one, other) for one, other in zip(read(False), read(True), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_forks_and_roll_backs_in_any_order(seed: int) -> None:
    """Rows of 700 bytes, so that pages end inside rows: contents, users of every page, and nothing left at the end."""
    choose, pool = random.Random(seed), PagePool()
    like = Rows(2, 100, 175, dtype=torch.float32, device="cpu")
    held: list[tuple[PagedRows, torch.Tensor]] = [(PagedRows(pool, like), torch.zeros(2, 0, 175))]
    for step in range(120):
        place = choose.randrange(len(held))
        rows, model = held[place]
        what = choose.choice(("put", "put", "put", "cut", "fork", "drop", "view"))
        if what == "put" and model.shape[1] < 100:
            new = torch.full((2, choose.randint(1, min(17, 100 - model.shape[1])), 175), float(step))
            new[1] += 0.5
            rows.put(slice(model.shape[1], model.shape[1] + new.shape[1]), new)
            held[place] = rows, torch.cat((model, new), 1)
        elif what == "cut":
            count = choose.randint(0, model.shape[1])
            rows.cut(count)
            held[place] = rows, model[:, :count]
        elif what == "fork" and len(held) < 6:
            held.append((rows.clone(), model.clone()))
        elif what == "drop" and len(held) > 1:
            del held[place]
        elif what == "view":  # what still reads a range keeps it
            assert torch.equal(rows.clone().get(slice(0, model.shape[1])), model)
        del rows
        check(held, pool)
    held.clear()
    assert pool.users == {} and pool.nbytes == 0


def check(held: list[tuple[PagedRows, torch.Tensor]], pool: PagePool) -> None:
    users: dict[int, int] = {}
    for rows, expected in held:
        assert torch.equal(rows.get(slice(0, expected.shape[1])), expected)
        needed = -(-expected.shape[1] * 700 // 4096)
        assert [len(own) for own in rows.pages] == [needed, needed] and rows.nbytes == 2 * needed * 4096
        for page in (page for own in rows.pages for page in own):
            users[page] = users.get(page, 0) + 1
    assert pool.users == users


def test_memory_is_taken_when_filled_and_shared_by_forks(build: Callable[..., LanguageCore]) -> None:
    """As the system counts it: nothing for capacity, a page or so for a fork, and back with a roll-back."""
    core = build(dataclasses.replace(KINDS["straight queries"], engram=None))
    cache = core.new_cache(1, 100_000, pages=True)
    assert cache.pool.nbytes == cache.nbytes == 0
    with pytest.raises(ValueError, match="100001 more do not fit"):
        cache.check(1, 100_001)
    cache.fill_with_noise(100_000)
    cache.truncate(6000)
    rows = sum(1 for _ in cache._grown())
    whole, spare = 6000 * 40 * 8 * rows, 4096 * rows  # three layers of entries of 40 numbers in float64
    assert whole <= cache.pool.nbytes <= whole + spare and cache.nbytes == cache.pool.nbytes
    forks = [cache.fork() for _ in range(8)]
    ids = torch.arange(8)[:, None]
    for fork, one in zip(forks, ids, strict=True):
        logits(core, one[None], cache=fork)
    assert all(fork.length == 6001 for fork in forks)
    assert cache.pool.nbytes <= whole + spare + 8 * 2 * spare
    assert sum(fork.nbytes for fork in forks) > 8 * whole
    cache.truncate(0)
    del fork, forks
    assert cache.pool.nbytes == cache.nbytes == 0


def test_where_there_are_no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    config = KINDS["shared"]
    with pytest.raises(ValueError, match="need memory maps of Linux and a cache on the CPU; this one is on 'meta'"):
        Cache(config, batch=1, capacity=8, dtype=torch.float32, device="meta", pages=True)
    monkeypatch.setattr("sys.platform", "darwin")
    assert not supported("cpu")
    rows = PagedRows(PagePool(), Rows(1, 8, 4, dtype=torch.float32, device="cpu"))
    with pytest.raises(TypeError, match="slice by slice"):
        rows.put(3, torch.zeros(1, 1, 4))
