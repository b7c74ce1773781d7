"""The plan's arithmetic against formulas done by hand, its refusals, and the command."""

from __future__ import annotations

import datetime
import json

import pytest

from app.cli import main
from dsv4 import InputError
from dsv4.plan import plan, sizes
from dsv4.plan.report import lines
from dsv4.plan.tables import TABLES, age_in_days, table
from dsv4.plan.work_out import LADDER


def test_our_presets_are_counted_and_not_typed():
    nano, flagship = sizes("nano"), sizes("flagship")
    assert nano.total == 23_865_195
    assert flagship.total == pytest.approx(1e12, rel=0.01) and 32e9 < flagship.active < 40e9
    assert flagship.full == 46 and flagship.windows == 15
    assert flagship.row["fp8"] == 584 and flagship.index["fp8"] == 132


def test_the_bf16_cache_of_nano_is_what_the_engine_allocates():
    import torch

    from dsv4.core.cache import Cache
    from dsv4.core.presets import nano

    cache = Cache(nano(), batch=1, capacity=4096, dtype=torch.bfloat16, device="meta")
    kept = sizes("nano").kept_per_token("bf16") * 4096 + sizes("nano").kept_always("bf16")
    assert kept == cache.nbytes


def test_decode_is_bytes_over_rate_on_one_memory():
    made = plan("nano", tier="bf16", context=1024, hardware="ddr:64@50")
    model = sizes("nano")
    read = 2 * (model.dense + model.experts * 2 / 8 + model.engram_read) + model.read_per_token("bf16", 1024)
    assert made.speed.bound == pytest.approx(50e9 / read, rel=1e-9)
    assert made.speed.bound_by == "dram" and made.speed.low < made.speed.high < made.speed.bound


def test_every_part_is_placed_once_and_whole():
    asked = (("flagship", "q4", "desktop-5090"), ("lite", "bf16", "laptop"), ("nano", "q8", "gb10"))
    for name, tier, hardware in asked:
        made = plan(name, tier=tier, hardware=hardware)
        for one in made.placed.components:
            assert sum(one.where.values()) == pytest.approx(one.gb)
        for place in ("device", "dram", "disk"):
            used = sum(one.where.get(place, 0) for one in made.placed.components)
            assert used <= made.machine.usable(place) + 1e-9


def test_what_does_not_fit_says_why_and_what_would():
    made = plan("flagship", tier="bf16", hardware="8xh100", context=1 << 20, batch=64)
    assert not made.placed.fits and made.speed is None and "GB too much" in made.placed.why_not
    only = plan("flagship", tier="bf16", hardware="rtx4090")
    assert "dense weights and cache" in only.placed.why_not
    assert len(only.nearest) == 3
    for near in only.nearest:
        again = plan("flagship", tier=near.tier, context=near.context, batch=near.batch, hardware=near.hardware)
        assert again.placed.fits and again.speed.low == near.low
    homeless = plan("lite", tier="bf16", hardware="rtx5090+ddr:64@80")
    assert "no home" in homeless.placed.why_not and homeless.placed.short > 0


def test_more_bits_a_longer_context_and_a_slower_memory_are_never_faster():
    rates = [plan("lite", tier=tier, hardware="ddr:2000@300").speed.bound for tier in LADDER]
    assert rates == sorted(rates)
    contexts = [plan("lite", context=1 << power, hardware="ddr:2000@300").speed.bound for power in (12, 16, 20)]
    assert contexts == sorted(contexts, reverse=True)
    assert plan("lite", hardware="ddr:2000@150").speed.bound < plan("lite", hardware="ddr:2000@300").speed.bound


def test_a_batch_shares_the_experts_that_it_reads():
    one, many = (plan("lite", batch=count, context=2048, hardware="ddr:2000@300").speed.bound for count in (1, 64))
    assert one < many < 64 * one


def test_cost_is_hours_times_price():
    made = plan("deepseek-v4-flash", tier="fp8", hardware="8xh200")
    rented = 8 * 2.60
    assert made.cost.high == pytest.approx(rented / (made.speed.low * 3600) * 1e6)
    own = plan("deepseek-v4-flash", tier="fp8", hardware="8xh200", usd_hour=5)
    assert own.cost.low == pytest.approx(5 / (own.speed.high * 3600) * 1e6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tier": "q5"}, "unknown tier 'q5'; did you mean 'q"),
        ({"hardware": "rtx509"}, "did you mean 'rtx5090'"),
        ({"hardware": "ddr:192"}, "memory is written ddr:GB@GB/s"),
        ({"hardware": "nvme:100@3"}, "names no memory that computes"),
        ({"hardware": "ddr:0@3"}, "no size or no speed"),
        ({"hardware": "h100+h200"}, "two kinds of device"),
        ({"hardware": "0xh100"}, "from 1 to 4096"),
        ({"context": 0}, "context must be a whole number"),
        ({"batch": 2.5}, "batch must be a whole number"),
        ({"usd_hour": -1}, "usd_hour must be"),
    ],
)
def test_wrong_input_is_one_clear_error(change, says):
    with pytest.raises(InputError, match=says):
        plan("nano", **change)


def test_an_unknown_model_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(InputError, match="did you mean 'flagship'"):
        sizes("flagshp")
    (tmp_path / "a.json").write_text('{"vocab_sise": 3}')
    with pytest.raises(InputError, match="did you mean 'vocab_size'"):
        sizes(str(tmp_path / "a.json"))


def test_a_configuration_file_is_planned(tmp_path):
    from dsv4.core.presets import micro

    (tmp_path / "mine.json").write_text(json.dumps(micro().to_dict()))
    assert sizes(str(tmp_path / "mine.json")).total == sizes("micro").total


def test_tables_are_dated_and_every_row_has_a_source():
    for name in TABLES:
        assert isinstance(table(name)["dated"], datetime.date)
        rows = [row for value in table(name).values() if isinstance(value, dict) for row in value.values()]
        assert rows and all(row["source"] for row in rows)
    assert age_in_days("prices", datetime.date(2027, 1, 12)) == 61


def test_the_command_prints_a_table_and_json(capsys):
    assert main(["plan", "nano", "--hw", "laptop", "--tier", "q8"]) == 0
    told = capsys.readouterr().out
    assert "FITS" in told and "start it: dsv4 app --model nano" in told and "tokens/s" in told
    assert main(["plan", "flagship", "--hw", "rtx4090", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False and found["why_not"] and len(found["nearest"]) == 3
    assert main(["plan", "nana"]) == 2
    assert "did you mean 'nano'" in capsys.readouterr().err


def test_launch_lines_fit_the_placement():
    assert plan("deepseek-v4-flash", tier="fp8", hardware="8xh200").launch.startswith("vllm serve deepseek-ai/")
    assert "--tensor-parallel-size 8" in plan("deepseek-v4-flash", tier="fp8", hardware="8xh200").launch
    assert "--kt-num-gpu-experts" in plan("deepseek-v4-flash", tier="native", hardware="desktop-5090").launch
    assert "--cpu-moe" in plan("deepseek-v4-flash", tier="q2-experts", hardware="desktop-5090").launch
    assert plan("flagship", tier="bf16", hardware="rtx4090").launch == "none: it does not fit"


def test_this_machine_is_looked_at(tmp_path, monkeypatch):
    from dsv4.plan import here

    monkeypatch.setattr(here, "PROBE", 8 << 20)
    found = here.here(tmp_path)
    assert found.dram.gb > 0.5 and found.dram.gb_s > 0.1 and found.disk.gb_s > 0.01
    assert not list(tmp_path.iterdir())
    assert "this machine" in "\n".join(lines(plan("nano", hardware=found)))
