"""Memory looked up by a picture's codes: closed unless asked for, by the same hashes, in an id space of its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.ops.hashing import DEAD, ngram_rows

PICTURE = slice(3, 9)


def config(bits: int):
    plain = presets.micro()
    assert plain.engram is not None
    return dataclasses.replace(plain, engram=dataclasses.replace(plain.engram, picture_bits=bits))


@pytest.fixture(scope="module")
def core() -> LanguageCore:
    torch.manual_seed(0)
    return LanguageCore.from_config(config(5)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def given() -> dict[str, torch.Tensor]:
    """Words, then six places of a picture with codes of their own, then words."""
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 200, (1, 14), generator=chance)
    closed = ids.clone()
    closed[:, PICTURE] = DEAD
    codes = torch.full((1, 14, 3), -1)
    codes[:, PICTURE] = torch.randint(0, 33, (1, 6, 3), generator=chance)
    return {"ids": ids, "closed": closed, "codes": codes}


def test_rows_follow_the_formula_below_zero_too():
    shifts = [torch.tensor([[-7, -2, 5, DEAD, 0]]), torch.tensor([[-3, DEAD, -9, 4, 6]])]
    rows, opened = ngram_rows(shifts, [12345677, 987654321], [[101, 103]])
    for place, (own, other) in enumerate(zip(*(ids[0].tolist() for ids in shifts), strict=True)):
        if DEAD in (own, other):
            assert not opened[0, place, 0]
            continue
        mix = own * 12345677 ^ other * 987654321
        assert opened[0, place, 0] and rows[0, place].tolist() == [mix % 101, 101 + mix % 103]


def test_words_and_codes_of_the_same_number_are_different_ids(core, given):
    memory = core.memory_ids(given["closed"], given["codes"])
    assert memory.shape == (1, 14, 3) and (memory[:, PICTURE] <= -2).all()
    words = core.memory_ids(given["closed"])
    assert torch.equal(memory[:, 9:], words[:, 9:]) and (words[:, 9, 1] == DEAD).all()
    assert words[0, 1].tolist() == [int(given["ids"][0, 1]), int(given["ids"][0, 0]), 0]


def test_without_codes_the_long_form_is_the_short_one(core, given):
    short = core(given["ids"], memory_ids_BT=given["closed"]).logits_BTV
    assert torch.equal(short, core(given["ids"], memory_ids_BT=core.memory_ids(given["closed"])).logits_BTV)
    torch.manual_seed(0)
    plain = LanguageCore.from_config(config(0)).eval()
    assert torch.equal(short, plain(given["ids"], memory_ids_BT=given["closed"]).logits_BTV)
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in core.named_parameters()]


def test_codes_are_felt_where_they_stand_and_behind(core, given):
    memory = core.memory_ids(given["closed"], given["codes"])
    closed = core(given["ids"], memory_ids_BT=given["closed"]).logits_BTV
    opened = core(given["ids"], memory_ids_BT=memory).logits_BTV
    assert torch.equal(opened[:, :3], closed[:, :3])
    assert all(not torch.allclose(opened[0, place], closed[0, place]) for place in range(3, 14))


@pytest.mark.parametrize("cuts", [(9,), (2, 5, 8), (12, 13)])
def test_pieces_through_a_cache_equal_the_whole(core, given, cuts):
    memory = core.memory_ids(given["closed"], given["codes"])
    whole = core(given["ids"], memory_ids_BT=memory).logits_BTV
    cache, found, start = core.new_cache(1, 14), [], 0
    for stop in (*cuts, 14):
        piece = {"cache": cache, "memory_ids_BT": memory[:, start:stop]}
        # behind the picture the words alone are given, as decoding gives them
        piece = {"cache": cache} if start >= 9 else piece
        found.append(core(given["ids"][:, start:stop], **piece).logits_BTV)
        start = stop
    torch.testing.assert_close(torch.cat(found, 1), whole, atol=2e-5, rtol=1e-4)


def test_the_rows_may_lie_in_host_memory_or_in_a_file(core, given, tmp_path):
    memory = core.memory_ids(given["closed"], given["codes"])
    wanted = core(given["ids"], memory_ids_BT=memory).logits_BTV
    for home in ("host", "mapped", "device"):
        core.place_memory(home, tmp_path)
        assert torch.equal(core(given["ids"], memory_ids_BT=memory).logits_BTV, wanted)


def test_more_codes_than_ids_are_refused():
    with pytest.raises(ValueError, match="picture_bits=8 makes more codes than 256 token ids"):
        LanguageCore.from_config(config(8))
    with pytest.raises(ValueError, match=r"picture_bits must be 0 \(closed\) to 24"):
        config(-1)
    fused = config(0).engram
    with pytest.raises(ValueError, match="fused form is closed at pictures"):
        dataclasses.replace(fused, form="fused", picture_bits=8)
