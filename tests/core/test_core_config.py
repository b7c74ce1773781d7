"""Configurations are closed and round-trip; presets have the sizes that they promise."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dsv4.core import presets
from dsv4.core.config import CoreConfig, EngramConfig
from dsv4.core.count import count
from dsv4.core.model import LanguageCore

PRESETS = ("micro", "nano", "small", "lite", "flagship")


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name: str) -> None:
    config = getattr(presets, name)()
    assert CoreConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(hiden=3), "unknown key 'hiden' in CoreConfig; did you mean 'hidden'"),
        (lambda d: d["attention"].update(topk=3), "unknown key 'topk' in AttentionConfig; did you mean 'top_k'"),
        (lambda d: d.update(reach=["sparce"]), "unknown reach 'sparce'.*did you mean 'sparse'"),
        (lambda d: d["experts"].update(chosen=9), "cannot choose 9 of 4"),
        (lambda d: d["attention"].update(rotated=7), "rotated must be even"),
        (lambda d: d["engram"].update(layers=[7]), "outside the 3 layers"),
        (lambda d: d.update(hidden=0), "hidden must be a whole number of at least 1"),
    ],
)
def test_errors_teach(change, message: str) -> None:
    given = presets.micro().to_dict()
    change(given)
    with pytest.raises(ValueError, match=message):
        CoreConfig.from_dict(given)


# name, total in billions, active in billions, memory's share of the sparse budget
SIZES = {
    "nano": ((0.022, 0.026), (0.009, 0.013), (0.5, 0.9)),
    "small": ((0.3, 0.45), (0.1, 0.2), (0.3, 0.6)),
    "lite": ((278, 290), (12.5, 13.5), (0.20, 0.25)),
    "flagship": ((980, 1020), (32, 40), (0.20, 0.25)),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_on_the_meta_device(name: str) -> None:
    total, active, share = SIZES[name]
    found = count(getattr(presets, name)())
    assert total[0] < found.total / 1e9 < total[1]
    assert active[0] < found.active / 1e9 < active[1]
    assert share[0] < found.memory_share < share[1]


def test_nano_is_the_shape_we_train() -> None:
    config = presets.nano(vocab_size=8192)
    assert (config.hidden, config.layers, config.vocab_size) == (384, 6, 8192)
    assert config.reach == ("sparse", "sparse", "sliding", "sparse", "sparse", "sliding")
    assert count(config).memory == pytest.approx(10.24e6, rel=0.01)


def test_fake_input_runs() -> None:
    config = presets.micro()
    given = config.fake_input(2, 5)
    assert LanguageCore.from_config(config)(**given).logits_BTV.shape == (2, 5, 256)


def test_canonical_ids_are_checked_and_not_saved() -> None:
    core = LanguageCore.from_config(presets.micro(), canonical_ids=[number // 2 for number in range(256)])
    assert not any("canonical" in name for name in core.state_dict())
    with pytest.raises(ValueError, match="one entry a token: 256"):
        LanguageCore.from_config(presets.micro(), canonical_ids=[1, 2])


def test_engram_needs_bigrams() -> None:
    with pytest.raises(ValueError, match="max_order must be at least 2"):
        EngramConfig(layers=(0,), rows=10, width=4, max_order=1)


def test_names_that_others_sort_by() -> None:
    names = {name: parameter for name, parameter in LanguageCore.from_config(presets.micro()).named_parameters()}
    assert [name for name in names if "engram" in name and "table" in name] == [
        "blocks.0.engram.table.weight",
        "blocks.2.engram.table.weight",
    ]
    for part in ("indexer", "router", "norm", "hyper", "sink"):
        assert any(part in name for name in names), part
    assert names["blocks.1.experts.experts_in"].shape == (4, 48, 64)


def test_importing_the_configuration_loads_no_torch() -> None:
    code = "import sys, dsv4.core, dsv4.core.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
