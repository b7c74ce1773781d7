"""Released families against transformers, float32, the same weights in both, through folders written by each side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dsv4.core.model import LanguageCore

from .released import FAMILIES, NearTies, cached, randomise, relative, save_ocr, v4, v32

CLOSE = 2e-5


def ids_of(length: int, seed: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def one_thread():  # noqa: ANN201
    torch.set_num_threads(1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_theirs_whole_in_chunks_and_one_by_one(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = randomise(FAMILIES[name](), seed)
    peer.save_pretrained(tmp_path)
    core = LanguageCore.from_pretrained(tmp_path)
    ties = NearTies(monkeypatch)
    compared = 0
    for length in (5, 45):
        ids = ids_of(length, seed)
        with torch.no_grad():
            expected = peer(ids).logits
            ties.flags.clear()
            found = core(ids).logits_BTV
        clear = ties.clear_BT(2, length)
        compared += int(clear.sum())
        assert relative(found, expected, clear) < CLOSE
        assert relative(cached(core, ids, (3, 4, 1, 1, 13)), expected, clear) < CLOSE
    assert compared > 60, "too many near ties: the comparison says little"


@pytest.mark.parametrize("name", ["V2-Lite", "V3", "V3.2", "V4"])
def test_a_folder_of_ours_is_read_by_transformers(name: str, tmp_path: Path) -> None:
    peer = randomise(FAMILIES[name](), 3)
    peer.save_pretrained(tmp_path / "theirs")
    core = LanguageCore.from_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.mul_(1.01)
    core.save_pretrained(tmp_path / "ours")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    ids = ids_of(8, 3)  # short enough that nothing is left out
    with torch.no_grad():
        assert relative(core(ids).logits_BTV, again(ids).logits, torch.ones(2, 8, dtype=torch.bool)) < CLOSE
    twin = LanguageCore.from_pretrained(tmp_path / "ours")
    assert twin.config == core.config
    assert all(torch.equal(one, twin.state_dict()[key]) for key, one in core.state_dict().items())


@pytest.mark.parametrize("length", [3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 32, 33])
def test_borders_of_windows_and_choices(
    length: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below, at and above the window (8), the compressed windows (4 and 8) and the best k (8; 3 compressed)."""
    ties = NearTies(monkeypatch)
    for build in (v4, v32):
        folder = tmp_path_factory.mktemp("model")
        peer = randomise(build(), 7)
        peer.save_pretrained(folder)
        core, ids = LanguageCore.from_pretrained(folder), ids_of(length, length)
        with torch.no_grad():
            expected = peer(ids).logits
            ties.flags.clear()
            found = core(ids).logits_BTV
        clear = ties.clear_BT(2, length)
        assert relative(found, expected, clear) < CLOSE
        assert relative(cached(core, ids, ()), expected, clear) < CLOSE


def test_large_magnitudes(tmp_path: Path) -> None:
    peer = randomise(v4(index_topk=64), 5, loud=1e4)
    peer.save_pretrained(tmp_path)
    core, ids = LanguageCore.from_pretrained(tmp_path), ids_of(30, 5)
    with torch.no_grad():
        expected = peer(ids).logits
    everywhere = torch.ones(2, 30, dtype=torch.bool)
    assert relative(cached(core, ids, (9,)), expected, everywhere) < CLOSE


def test_the_language_part_of_ocr(tmp_path: Path) -> None:
    peer, head_VD = save_ocr(tmp_path / "ocr", 0)
    core, ids = LanguageCore.from_pretrained(tmp_path / "ocr"), ids_of(33, 0)
    with torch.no_grad():
        expected = peer(ids).last_hidden_state @ head_VD.T
    everywhere = torch.ones(2, 33, dtype=torch.bool)
    with torch.no_grad():
        assert relative(core(ids).logits_BTV, expected, everywhere) < CLOSE
    assert relative(cached(core, ids, (5, 1, 9)), expected, everywhere) < CLOSE
    core.save_pretrained(tmp_path / "again")
    twin = LanguageCore.from_pretrained(tmp_path / "again")
    assert twin.config == core.config
