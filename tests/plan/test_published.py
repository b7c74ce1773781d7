"""The plan against deployments that other people measured and published: sizes within 5 %, speeds inside the range."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dsv4.plan import machine, plan, sizes
from dsv4.plan.place import cache_gb, place
from dsv4.plan.speed import REACHED_BATCHED, mixed_rate

GIB = 2**30 / 1e9
DOC = Path(__file__).resolve().parents[2] / "docs" / "plan.md"


@dataclass(frozen=True, kw_only=True)
class Row:
    """GB of weights and tokens a second as published; `missed` is what docs/plan.md says when we are outside."""

    who: str
    model: str
    tier: str
    hardware: str
    context: int = 4096
    gb: float | None = None
    rate: tuple[float, float] | None = None
    missed: str = ""


PUBLISHED = (
    Row(who="colibri deepseek-v41.md", model="deepseek-v4.1-flash", tier="native-bf16",
        hardware="rtx5090+ddr:64@80+nvme:2000@14", gb=510),
    Row(who="llama.cpp #22319, Q8_0", model="deepseek-v4-flash", tier="q8_0", hardware="mac-m3ultra", gb=282 * GIB,
        rate=(16, 16), missed="early port"),
    Row(who="ds4 #726 and README, Q4", model="deepseek-v4-flash", tier="q4-experts", hardware="mac-m3ultra",
        gb=157001.67 * 2**20 / 1e9, rate=(35.5, 35.5)),
    Row(who="ds4 README, Q2", model="deepseek-v4-flash", tier="q2-experts", hardware="spark", rate=(13.75, 13.75)),
    Row(who="FreeToken #444", model="deepseek-v4-flash", tier="native", hardware="freetoken-5090", rate=(24.5, 26.9)),
    Row(who="ktransformers V4-Flash page", model="deepseek-v4-flash", tier="native",
        hardware="rtx5090+ddr:256@146", rate=(20, 25)),
    Row(who="ik_llama.cpp #1752, Kimi", model="kimi-k2", tier="iq2_kl", hardware="epyc-9v45", rate=(11.2, 11.4)),
    Row(who="ik_llama.cpp #612, Kimi", model="kimi-k2", tier="iq2_kl", hardware="epyc-9965", context=512,
        gb=345.687 * GIB, rate=(13.39, 13.39)),
    Row(who="ik_llama.cpp #1752, V4-Flash", model="deepseek-v4-flash", tier="q4_k_m", hardware="epyc-9v45",
        rate=(9.7, 9.7), missed="60 % idle"),
    Row(who="llama.cpp-deepseek-v4-flash #11", model="deepseek-v4-flash", tier="q2-experts",
        hardware="rtx5070+ddr:128@80", rate=(10.6, 10.6), missed="unpacking two-bit"),
)  # fmt: skip


def weights_gb(row: Row) -> float:
    """GB of everything but the cache."""
    placed = place(sizes(row.model), row.tier, machine(row.hardware), context=row.context, batch=1)
    return sum(one.gb for one in placed.components if one.name != "cache")


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row.gb], ids=lambda row: row.who)
def test_sizes_are_within_five_per_cent(row):
    assert weights_gb(row) == pytest.approx(row.gb, rel=0.05)


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row.rate], ids=lambda row: row.who)
def test_speeds_are_inside_the_range_or_the_page_says_why_not(row):
    made = plan(row.model, tier=row.tier, hardware=row.hardware, context=row.context)
    assert made.placed.fits, made.placed.why_not
    slow, fast = row.rate
    assert fast <= made.speed.bound, "a bound that was exceeded is wrong"
    inside = made.speed.low <= slow and fast <= made.speed.high
    assert inside != bool(row.missed), f"{made.speed.low:.1f} to {made.speed.high:.1f}, published {row.rate}"
    if row.missed:
        said = [line for line in DOC.read_text().splitlines() if row.who in line]
        assert said and row.missed in said[0]


def test_the_page_holds_what_the_plan_says():
    lines = DOC.read_text().partition("## Against twelve published deployments")[2].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert len(table) == 12 and [cells[0] for cells in table[:10]] == [row.who for row in PUBLISHED]
    for row, cells in zip(PUBLISHED, table, strict=False):
        made = plan(row.model, tier=row.tier, hardware=row.hardware, context=row.context)
        assert cells[2] == ("–" if row.gb is None else f"{row.gb:.1f}".removesuffix(".0")), row.who
        assert cells[3] == f"{weights_gb(row):.1f}", row.who
        assert cells[5].startswith(f"{made.speed.low:.0f}–{made.speed.high:.0f}" if row.rate else "–"), row.who


def test_the_served_rate_of_sglang_is_inside_the_range_for_many_sequences():
    """SGLang PR 31363: V4-Flash in fp8 on H200, 8192 in and 1024 out, 1024 at once: 3,975 tokens/s for each GPU."""
    model, eight = sizes("deepseek-v4-flash"), machine("8xh200")
    placed = place(model, "fp8", eight, context=9216, batch=1024)
    each = mixed_rate(model, "fp8", eight, placed, read=8192, written=1024, batch=1024) / 8
    assert REACHED_BATCHED[0] * each <= 3975 <= REACHED_BATCHED[1] * each


def test_the_cache_of_vllm_is_the_formula_times_the_overhead_that_the_page_names():
    """vLLM 51041: 7.01 GiB for 1,009,661 tokens; the formula alone has half, and the page says so."""
    model = sizes("deepseek-v4-flash")
    formula = 1_009_661 * model.kept_per_token("fp8") / 2**30
    assert formula == pytest.approx(3.62, abs=0.01) and 7.01 / formula == pytest.approx(1.94, abs=0.01)
    assert "51041" in DOC.read_text()


def test_cache_rows_equal_the_published_bytes():
    """584 and 656 byte rows with 132 byte index keys: vLLM's attention for V4 and FlashMLA's note for V3.2."""
    assert sizes("deepseek-v4-flash").kept_per_token("fp8") == pytest.approx(21 * 716 / 4 + 20 * 584 / 128)
    assert sizes("deepseek-v3.2").kept_per_token("fp8") == 61 * (656 + 132)
    assert cache_gb(sizes("deepseek-v3.2"), "bf16", 1 << 20, 1) / GIB == pytest.approx(83.88, abs=0.01)
    assert cache_gb(sizes("deepseek-v4-pro"), "bf16", 1 << 20, 1) / GIB == pytest.approx(9.62, rel=0.01)
