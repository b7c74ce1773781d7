"""The cache of every kind of attention: chunks, going back, forks, packed rows, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from dsv4.core import presets
from dsv4.core.cache import Cache
from dsv4.core.config import CoreConfig, ExpertsConfig, HeadsConfig, LanesConfig, LatentConfig, SharingConfig
from dsv4.core.model import LanguageCore
from dsv4.ops import native
from dsv4.ops.fp8 import RowFormat, read_e4m3

Builder = Callable[..., LanguageCore]
MICRO = presets.micro()
LATENT = LatentConfig(
    heads=4, latent=32, plain=12, rotated=8, value=20, q_rank=24, top_k=9, index_heads=4, index_size=16
)
KINDS: dict[str, CoreConfig] = {
    "shared": MICRO,
    "latent": dataclasses.replace(MICRO, attention=LATENT, reach=("full", "sparse", "sparse")),
    "straight queries": dataclasses.replace(
        MICRO, attention=dataclasses.replace(LATENT, q_rank=None, index_heads=0), reach=("full",) * 3
    ),
    "heads": dataclasses.replace(
        MICRO, attention=HeadsConfig(heads=4, kv_heads=2, size=16), reach=("full",) * 3, engram=None,
        lanes=LanesConfig(count=1),
        experts=ExpertsConfig(count=4, chosen=2, inner=24, shared_inner=48, score="softmax", dense=(0,),
                              dense_inner=32),
    ),
    "compressed": dataclasses.replace(
        MICRO, reach=("compressed_sparse", "heavily_compressed", "sliding"),
        attention=dataclasses.replace(MICRO.attention, top_k=3, heavy=7, light=3),
        experts=dataclasses.replace(MICRO.experts, hashed=(1,), limit=2.0),
    ),
    "shared entries": dataclasses.replace(
        MICRO, reach=("shared_compressed",) * 3, lanes=LanesConfig(count=2, passes=1),
        attention=dataclasses.replace(
            MICRO.attention, top_k=3, head_norm=False,
            sharing=SharingConfig(ratios=(2, 1, 1), sources=(0, 1), choosers=(0, 1, 2), pool_source=1, pool_blocks=3,
                                  pool_size=2),
        ),
    ),
    "free lanes": dataclasses.replace(MICRO, lanes=LanesConfig(count=3, mixing="hyper")),
}  # fmt: skip
CHUNKS = ((40,), (1,) * 40, (7, 1, 1, 11, 20), (2, 3, 1, 4, 1, 5, 24))


def logits(core: LanguageCore, ids: torch.Tensor, **options: object) -> torch.Tensor:
    with torch.no_grad():
        return core(ids, **options).logits_BTV


def in_chunks(core: LanguageCore, ids: torch.Tensor, cache: Cache, chunks: tuple[int, ...]) -> torch.Tensor:
    parts, start = [], 0
    for size in chunks:
        parts.append(logits(core, ids[:, start : start + size], cache=cache))
        start += size
    return torch.cat(parts, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_equal_the_whole(build: Builder, ids: torch.Tensor, kind: str) -> None:
    core = build(KINDS[kind])
    whole = logits(core, ids)
    for chunks in CHUNKS:
        for rewind in (0, 3):
            cache = core.new_cache(2, 40, rewind=rewind)
            assert (in_chunks(core, ids, cache, chunks) - whole).abs().max() < 1e-9, (chunks, rewind)


@pytest.mark.parametrize("kind", KINDS)
def test_going_back_leaves_no_trace(build: Builder, ids: torch.Tensor, kind: str) -> None:
    core = build(KINDS[kind])
    whole, other = logits(core, ids), (ids + 1) % 256
    for stop in (5, 13, 14, 21):
        cache = core.new_cache(2, 44, rewind=4)
        in_chunks(core, ids[:, :stop], cache, (stop,))
        for wrong in (1, 4, 3):
            in_chunks(core, other[:, stop : stop + wrong], cache, (wrong,))
            cache.truncate(stop)
        assert cache.length == stop
        rest = in_chunks(core, ids[:, stop:], cache, (1, 2, 37 - stop))
        assert (rest - whole[:, stop:]).abs().max() < 1e-9, stop


def test_going_back_too_far_is_refused(build: Builder, ids: torch.Tensor) -> None:
    core = build()
    cache = core.new_cache(2, 40, rewind=2)
    logits(core, ids[:, :20], cache=cache)
    with pytest.raises(ValueError, match="go back 2 tokens from 20, not to 17"):
        cache.truncate(17)
    with pytest.raises(ValueError, match="cannot be cut to 21"):
        cache.truncate(21)
    cache.truncate(0)
    assert (logits(core, ids[:, :20], cache=cache) - logits(core, ids[:, :20])).abs().max() < 1e-9
    linear = build(KINDS["straight queries"], engram=None)
    cache = linear.new_cache(2, 40)
    logits(linear, ids[:, :20], cache=cache)
    cache.truncate(3)
    assert (logits(linear, ids[:, 3:9], cache=cache) - logits(linear, ids)[:, 3:9]).abs().max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_are_restored_any_number_of_times(build: Builder, ids: torch.Tensor, kind: str) -> None:
    core = build(KINDS[kind])
    cache = core.new_cache(2, 40)
    logits(core, ids[:, :19], cache=cache)
    snapshot = cache.fork()
    first = logits(core, ids[:, 19:30], cache=cache)
    for _ in range(2):
        cache.restore(snapshot)
        assert cache.length == 19
        assert torch.equal(logits(core, ids[:, 19:30], cache=cache), first)
    with pytest.raises(ValueError, match="fork of its own"):
        cache.restore(core.new_cache(1, 40))


@pytest.mark.parametrize("kind", ["shared", "latent", "compressed"])
def test_packed_rows_are_near_and_do_not_depend_on_chunks(build: Builder, ids: torch.Tensor, kind: str) -> None:
    core = build(dataclasses.replace(KINDS[kind], attention=dataclasses.replace(KINDS[kind].attention, top_k=40)))
    whole = logits(core, ids)
    one = in_chunks(core, ids, core.new_cache(2, 40, rows="fp8"), (40,))
    assert 1e-6 < ((one - whole).norm() / whole.norm()).item() < 0.08
    for chunks in CHUNKS[1:]:
        parts = in_chunks(core, ids, core.new_cache(2, 40, rows="fp8"), chunks)
        assert (parts - one).abs().max() < 1e-9


def test_packed_rows_gather_what_they_hold(build: Builder, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse reading of packed rows unpacks only what was chosen, and reads the same."""
    core = build(KINDS["latent"])
    masked = in_chunks(core, ids, core.new_cache(2, 40, rows="fp8"), (40,))
    monkeypatch.setattr("dsv4.core.reading.GATHER_FROM", 1)
    assert (in_chunks(core, ids, core.new_cache(2, 40, rows="fp8"), (40,)) - masked).abs().max() < 1e-9
    unpacked: list[int] = []
    unpack = RowFormat.unpack
    monkeypatch.setattr(
        RowFormat, "unpack", lambda self, rows, dtype: (unpacked.append(rows.shape[-2]), unpack(self, rows, dtype))[1]
    )
    cache = core.new_cache(2, 40, rows="fp8")
    in_chunks(core, ids[:, :30], cache, (30,))
    unpacked.clear()
    logits(core, ids[:, 30:31], cache=cache)
    assert unpacked == [31, 9, 9], "the full layer reads all rows, the sparse ones their nine"


@pytest.mark.parametrize(("form", "size"), [(RowFormat.shared(512, 64), 584), (RowFormat.latent(512, 64), 656)])
def test_row_formats(form: RowFormat, size: int) -> None:
    rows = torch.randn(3, 5, form.plain + form.rotated, generator=torch.Generator().manual_seed(0)) * 3
    packed = form.pack(rows)
    assert packed.shape == (3, 5, size) and packed.dtype == torch.uint8
    found = form.unpack(packed, torch.float32)
    plain = slice(0, form.plain)
    assert torch.equal(found[..., form.plain :], rows[..., form.plain :].bfloat16().float())
    assert 0.01 < ((found - rows)[..., plain].norm() / rows[..., plain].norm()).item() < 0.03
    assert torch.equal(form.unpack(form.pack(found), torch.float32), found)


@pytest.mark.parametrize("compiled", [True, False])
def test_quick_reading_is_the_library_s(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    codes = torch.arange(256, dtype=torch.uint8)
    slow = codes.view(torch.float8_e4m3fn).float()
    number = ~slow.isnan()
    assert number.sum() == 254
    assert torch.equal(read_e4m3(codes, torch.float32)[number], slow[number])
    assert torch.equal(read_e4m3(codes, torch.bfloat16)[number], slow[number].bfloat16())
    many = codes.repeat(2**18 // codes.numel() + 3)  # opened piece by piece
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        once = torch.cat([read_e4m3(part, dtype) for part in many.split(1000)])
        assert torch.equal(read_e4m3(many, dtype).nan_to_num(), once.nan_to_num())


def test_what_cannot_be_right_is_refused(build: Builder, ids: torch.Tensor) -> None:
    core = build()
    uneven = torch.stack((torch.arange(5), torch.arange(-2, 3)))
    with pytest.raises(ValueError, match="equally long: left padding"):
        core(ids[:, :5], cache=core.new_cache(2, 5), positions_BT=uneven)
    compressed = build(KINDS["compressed"])
    for options in (
        {"positions_BT": uneven},
        {"segments_BT": torch.zeros(2, 5, dtype=torch.long) + 1, "positions_BT": uneven},
    ):
        with pytest.raises(ValueError, match="whole rows from position 0"):
            compressed(ids[:, :5], **options)
    with pytest.raises(ValueError, match="unknown rows 'fp4', allowed: plain, fp8"):
        core.new_cache(1, 4, rows="fp4")
    with pytest.raises(ValueError, match="kept plain"):
        build(KINDS["heads"]).new_cache(1, 4, rows="fp8")


def test_bytes_follow_the_formula(build: Builder) -> None:
    """A token of a latent layer at released sizes: 656 bytes and the index key, instead of 1,152."""
    part = LatentConfig(heads=2, latent=512, plain=8, rotated=64, value=8, q_rank=8, index_heads=2, index_size=128)
    config = dataclasses.replace(MICRO, reach=("sparse",) * 2, attention=part, engram=None)
    sizes = {}
    for rows, keys in (("plain", "plain"), ("fp8", "plain"), ("fp8", "int8"), ("fp8", "fp8")):
        given = {"rows": rows, "index_keys": keys}
        cache = Cache(config, batch=1, capacity=100, dtype=torch.bfloat16, device="cpu", **given)
        sizes[rows, keys] = cache.nbytes / 100 / 2
    both = 656 + 132  # V3.2's published 788 bytes a layer
    assert sizes == {("plain", "plain"): 2 * 576 + 2 * 128, ("fp8", "plain"): 656 + 2 * 128, ("fp8", "int8"): both,
                     ("fp8", "fp8"): both}  # fmt: skip


@pytest.mark.parametrize("keys", ["int8", "fp8"])
def test_index_keys_in_eight_bits(core: LanguageCore, ids: torch.Tensor, keys: str) -> None:
    """Chunks, single tokens, roll-backs and forks choose by codes; entries and their attention stay as they are."""
    parts: dict[str, list[torch.Tensor]] = {"once": [], "again": []}
    with torch.no_grad():
        whole = core(ids).logits_BTV
        cache = core.new_cache(2, 60, index_keys=keys, rewind=5)
        for start, stop in ((0, 20), (20, 21), (21, 40)):
            parts["once"].append(core(ids[:, start:stop], cache=cache).logits_BTV)
        cache.truncate(36)
        twin = cache.fork()
        for one in (cache, twin):
            again = core(ids[:, 36:40], cache=one).logits_BTV
            assert (again - parts["once"][-1][:, -4:]).abs().max() < 1e-9
    apart = (torch.cat(parts["once"], 1) - whole).abs().amax(-1)
    assert (apart[:, :12] < 1e-9).all(), "nothing is chosen while everything is seen"
    assert apart.median() < 0.05 * whole.abs().max()
    plain = core.new_cache(1, 1000).nbytes
    assert core.new_cache(1, 1000, index_keys=keys).nbytes == plain - 1000 * (16 * 7 - 4)
    with pytest.raises(ValueError, match="plain, int8, fp8"):
        core.new_cache(1, 8, index_keys="int4")
