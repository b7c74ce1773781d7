"""Model folders: what is written comes back, by part, and what is not whole is refused."""

import json

import numpy as np
import pytest
import torch

from dsv4.checkpoint.io import load_folder, save_folder
from dsv4.errors import InputError
from dsv4.quant.policy import eight_bits, nano_bits

TENSORS = {
    "core.block.weight": torch.randn(64, 128, generator=torch.Generator().manual_seed(1)),
    "core.norm.weight": torch.randn(128, generator=torch.Generator().manual_seed(2)),
    "eyes.net.weight": torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(3)),
    "eyes.count": torch.tensor(7),
}


def test_a_folder_comes_back_within_half_a_step(tmp_path):
    save_folder(tmp_path, TENSORS, policy=eight_bits, about={"name": "x"})
    found, about = load_folder(tmp_path)
    assert about == {"name": "x"}
    assert found.keys() == TENSORS.keys()
    for name in ("core.norm.weight", "eyes.count"):
        assert torch.equal(found[name], TENSORS[name])
    for name in ("core.block.weight", "eyes.net.weight"):
        step = TENSORS[name].abs().max() / 127
        assert 0 < (found[name] - TENSORS[name]).abs().max() <= 0.51 * step
        assert found[name].shape == TENSORS[name].shape


def test_a_part_is_read_alone_under_its_own_names(tmp_path):
    save_folder(tmp_path, TENSORS, policy=nano_bits, about={})
    assert load_folder(tmp_path, part="eyes")[0].keys() == {"net.weight", "count"}


def test_the_index_tells_weights_apart(tmp_path):
    save_folder(tmp_path / "a", TENSORS, policy=nano_bits, about={})
    save_folder(tmp_path / "b", {**TENSORS, "eyes.count": torch.tensor(8)}, policy=nano_bits, about={})
    digests = [json.loads((tmp_path / name / "model.json").read_text())["digests"] for name in "ab"]
    assert digests[0] != digests[1]


def test_small_filters_are_quantised_by_whole_filters():
    assert nano_bits("eyes.net.weight", (32, 16, 3, 3)) == 6
    assert nano_bits("core.blocks.1.engram.table.weight", (1000, 32)) == 6
    assert nano_bits("core.blocks.1.experts.experts_in", (8, 128, 384)) == 8
    assert nano_bits("core.blocks.1.experts.router.weight", (8, 4096)) is None
    assert np.prod((3, 3, 3)) < 4096 and nano_bits("eyes.tiny.weight", (3, 3, 3)) is None


def test_what_is_not_a_whole_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model.json"):
        load_folder(tmp_path)
    save_folder(tmp_path, TENSORS, policy=nano_bits, about={})
    (tmp_path / "weights-00000.safetensors").unlink()
    with pytest.raises(InputError, match="not complete: weights-00000"):
        load_folder(tmp_path)
