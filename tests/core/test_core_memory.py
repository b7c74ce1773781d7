"""Engram against its paper's formulas, and the homes of its rows against each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dsv4.core import presets
from dsv4.core.frame import make_frame
from dsv4.core.memory import MemoryTable
from dsv4.core.model import LanguageCore

Builder = Callable[..., LanguageCore]


def test_homes_give_the_same_logits(core: LanguageCore, ids: torch.Tensor, tmp_path: Path) -> None:
    with torch.no_grad():
        first = core(ids).logits_BTV
        for home in ("host", "mapped", "device", "mapped", "host", "device"):
            core.place_memory(home, tmp_path)
            assert core.blocks[0].engram.table.home == home
            assert torch.equal(core(ids).logits_BTV, first), home
            cache = core.new_cache(2, 40)
            parts = [core(ids[:, start : start + 8], cache=cache).logits_BTV for start in range(0, 40, 8)]
            assert (torch.cat(parts, 1) - first).abs().max() < 1e-9
    assert sorted(file.name for file in tmp_path.iterdir()) == ["engram-00.rows", "engram-02.rows"]


def test_rows_in_fp8_are_the_same_everywhere(core: LanguageCore, ids: torch.Tensor, tmp_path: Path) -> None:
    with torch.no_grad():
        table = core.blocks[0].engram.table
        places = torch.arange(table.weight.shape[0])
        plain = table(places)
        core.place_memory("device", rows="fp8")
        assert table.packed and table.weight.shape[1] == 16  # eight codes, one scale, room to a multiple of eight
        first = core(ids).logits_BTV
        apart = (table(places).double() - plain).square().mean().sqrt() / plain.square().mean().sqrt()
        assert 0.01 < apart < 0.04, "three bits of mantissa"
        for home in ("mapped", "host", "mapped", "device"):
            core.place_memory(home, tmp_path)
            assert torch.equal(core(ids).logits_BTV, first), home
    core.double()
    assert core.blocks[0].engram.table.packed, "bytes are no numbers to be cast"
    with pytest.raises(ValueError, match="plain, fp8"):
        core.place_memory("host", rows="int8")


def test_rows_that_lie_in_a_file_are_under_way_early(
    core: LanguageCore, ids: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for before the first block runs, in whole passes and one token at a time, and used once each."""
    core.place_memory("mapped", tmp_path)
    order: list[str] = []
    start = MemoryTable.start
    monkeypatch.setattr(MemoryTable, "start", lambda self, rows: (order.append("start"), start(self, rows))[1])
    reads: list[int] = []
    read = MemoryTable.forward
    monkeypatch.setattr(MemoryTable, "forward", lambda self, rows: (reads.append(1), read(self, rows))[1])
    core.blocks[0].register_forward_pre_hook(lambda module, given: order.append("block"))
    with torch.no_grad():
        core(ids)
        assert order == ["start", "start", "block"] and len(reads) == 2
        cache = core.new_cache(1, 8)
        order.clear()
        core(ids[:1, :3], cache=cache)
        order.append("step")
        core(ids[:1, 3:4], cache=cache)
    assert order == ["start", "start", "block", "step", "start", "start"] and len(reads) == 6


def test_mapped_rows_lie_in_the_file(core: LanguageCore, tmp_path: Path) -> None:
    core.place_memory("mapped", tmp_path)
    table = core.blocks[0].engram.table.weight
    stored = np.fromfile(tmp_path / "engram-00.rows", dtype=np.float64).reshape(table.shape)
    assert (stored == table.detach().numpy()).all() and not table.requires_grad
    core.float()
    assert core.blocks[0].engram.table.weight.dtype == torch.float64, "placed rows stay as they are"
    with pytest.raises(ValueError, match="need a folder"):
        core.place_memory("mapped")
    with pytest.raises(ValueError, match="device, host, mapped"):
        core.place_memory("disk")


def test_closed_memory_is_no_memory(core: LanguageCore, ids: torch.Tensor) -> None:
    with torch.no_grad():
        closed = core(ids, memory_ids_BT=torch.full_like(ids, -1)).logits_BTV
        with core.zero_memory():
            without = core(ids).logits_BTV
        opened = core(ids).logits_BTV
        for block in (core.blocks[0], core.blocks[2]):
            block.engram.table.weight.zero_()
        zeroed = core(ids).logits_BTV
    assert (closed - without).abs().max() < 1e-12
    assert (zeroed - without).abs().max() < 1e-12
    assert (opened - without).abs().max() > 1e-3


def test_a_closed_place_closes_what_touches_it(core: LanguageCore, ids: torch.Tensor) -> None:
    engram, calls = core.blocks[0].engram, []
    engram.register_forward_hook(lambda module, given, output: calls.append(output))
    memory = ids.clone()
    memory[:, 10] = -1
    with torch.no_grad():
        core(ids, memory_ids_BT=memory)
        core(ids)
    closed, opened = calls
    assert (closed[:, 10] == 0).all()
    assert (closed[:, :10] == opened[:, :10]).all()
    for place in (11, 12):  # n-grams of order 2 and 3 reach back to it
        assert (closed[:, place] != opened[:, place]).any()


def test_canonical_ids_join_spellings(build: Builder) -> None:
    torch.manual_seed(0)
    same = LanguageCore.from_config(presets.micro(), canonical_ids=np.arange(256) // 2)
    memory = torch.tensor([[3, 8, 20, 7]])
    frame = _frame(same, 4)
    one, other = (same._shifts(ids, frame) for ids in (memory, memory ^ 1))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_formula_by_hand(core: LanguageCore, ids: torch.Tensor) -> None:
    """Hash, gate and convolution written out with loops over places and lanes."""
    engram, part = core.blocks[2].engram, core.config.engram
    x = torch.randn(1, 12, 2, 64, dtype=torch.float64)
    row = ids[:1, :12]
    frame = _frame(core, 12)
    with torch.no_grad():
        found = engram(x, core._shifts(row, frame), frame)[0]

    def norm(v: torch.Tensor) -> torch.Tensor:
        return v / torch.sqrt((v * v).mean(-1, keepdim=True) + core.config.norm_eps)

    ids_list = [core.pad_id] * 2 + row[0].tolist()
    gated = torch.zeros(12, 2, 64, dtype=torch.float64)
    for t in range(12):
        read, offset = [], 0
        for order, primes in zip((2, 3), engram.primes, strict=True):
            mix = 0
            for back in range(order):
                mix ^= ids_list[t + 2 - back] * engram.multipliers[back]
            for prime in primes:
                read.append(engram.table.weight[mix % prime + offset])
                offset += prime
        read_M = torch.cat(read)
        for lane in range(2):
            key = norm(engram.key[lane] @ read_M) * engram.key_norm[lane]
            agree = (key * norm(x[0, t, lane]) * engram.lane_norm[lane]).sum().item() / math.sqrt(64)
            gate = 1 / (1 + math.exp(-math.copysign(math.sqrt(max(abs(agree), 1e-6)), agree)))
            gated[t, lane] = gate * (engram.value.weight @ read_M)
    normed = norm(gated) * engram.conv_norm
    expected = gated.clone()
    for t in range(12):
        total = torch.zeros(2, 64, dtype=torch.float64)
        for tap in range(part.kernel):
            at = t - (part.kernel - 1 - tap) * part.max_order
            if at >= 0:
                total += normed[at] * engram.conv[tap]
        expected[t] += torch.nn.functional.silu(total)
    assert (found - expected).abs().max() < 1e-10


def _frame(core: LanguageCore, length: int):  # noqa: ANN202
    return make_frame(
        core.config,
        positions_BT=torch.arange(length)[None],
        batch=1,
        segments_BT=None,
        cache=None,
        sparse=False,
        index_loss=None,
    )


@pytest.mark.parametrize("form", ["plain", "fp8"])
def test_a_few_rows_are_fetched_without_the_thread(form):
    table = MemoryTable(50, 32).requires_grad_(False)
    if form == "fp8":
        table.pack()
    rows = torch.randint(0, 50, (2, 3, 4))
    assert torch.equal(table._at_once(rows), table(rows))
