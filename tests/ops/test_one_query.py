"""The compiled loops of a single query: what the plain forms give, limit cases, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops import native
from dsv4.ops.attend import attend, attend_chosen
from dsv4.ops.one_query import attend_one, choose_one
from dsv4.ops.select import best_places, eight_bits, index_scores, index_scores_int8

pytestmark = pytest.mark.skipif(native.wide_library() is None, reason="no compiler, or vectors of less than 512 bits")


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 160, 128, 700), (6, 128, 128, 17), (1, 32, 32, 1), (17, 50, 34, 300)])
@pytest.mark.parametrize("sink", [None, 0.5, float("-inf"), 40.0])
def test_attention_is_that_of_the_formula(dtype, shape, sink):
    heads, width, value, count = shape
    q_HD, rows_SD = seeded(heads, width) * 2, seeded(count, width, seed=1).to(dtype)
    sink_H = None if sink is None else torch.full((heads,), sink)
    found_HV = attend_one(q_HD, rows_SD, None, sink_H, scale=0.1, value=value)
    wide = rows_SD[None].double()
    exact = attend(q_HD[None, None].double(), wide, sink_H, None, scale=0.1, value=value)[0, 0]
    assert torch.allclose(found_HV.double(), exact, atol=2e-6, rtol=1e-5)
    places_K = torch.randperm(count, generator=torch.Generator().manual_seed(2))[: max(1, count // 2)]
    found_HV = attend_one(q_HD, rows_SD, places_K, sink_H, scale=0.1, value=value)
    chosen = wide[:, places_K][:, None]
    exact = attend_chosen(q_HD[None, None].double(), chosen, sink_H, None, scale=0.1, value=value)[0, 0]
    assert torch.allclose(found_HV.double(), exact, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_attention_reads_slices_of_a_cache_and_survives_large_scores():
    kept_SD = seeded(600, 64).bfloat16()
    found = attend_one(seeded(4, 64), kept_SD[:300], None, None, scale=50.0, value=64)
    exact = attend(seeded(4, 64)[None, None].double(), kept_SD[None, :300].double(), None, None, scale=50.0)[0, 0]
    assert torch.allclose(found.double(), exact, atol=1e-3)  # scores are hundreds, so rounding shows
    one = attend_one(seeded(4, 64), kept_SD[5:6], None, None, scale=1.0, value=64)
    assert torch.equal(one, kept_SD[5:6].float().expand(4, 64)), "one row and no sink return that row"


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize(
    "shape", [(8, 64, 9000, 2048), (4, 32, 5000, 512), (2, 16, 40, 12), (11, 24, 13_000, 100), (9, 32, 4099, 64)]
)
def test_choice_and_scores_are_those_of_the_plain_form(dtype, shape):
    heads, size, count, k = shape
    q_IC, weights_I, keys_SC = seeded(heads, size), seeded(heads, seed=1), seeded(count, size, seed=2)
    scores_S, scales_S = torch.empty(count), None
    if dtype == torch.int8:
        keys_SC, scales_S1 = eight_bits(keys_SC)
        scales_S = scales_S1[:, 0]
        exact = index_scores_int8(q_IC[None, None], weights_I[None, None], keys_SC[None], scales_S[None])[0, 0]
    else:
        keys_SC, q_IC = keys_SC.to(dtype), q_IC.to(dtype).float()
        exact = index_scores(q_IC[None, None].double(), weights_I[None, None].double(), keys_SC[None].double())[0, 0]
    places_K = choose_one(q_IC, weights_I, keys_SC, scales_S, k, scores_S=scores_S)
    assert torch.allclose(scores_S.double(), exact.double(), atol=1e-5, rtol=1e-5)
    expected_K = best_places(scores_S[None, None], None, k)[0][0, 0]  # what these scores choose, ties included
    assert torch.equal(places_K, expected_K)


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_of_equal_scores_the_later_key_wins(levels):
    keys_SC = torch.randint(0, levels, (20_000, 1), generator=torch.Generator().manual_seed(0)).float().expand(-1, 16)
    keys_SC = keys_SC.contiguous().bfloat16()
    q_IC, weights_I = torch.ones(2, 16), torch.tensor([1.0, -2.0])  # weighted zeros are minus zero here
    for k in (7, 512, 19_999, 20_000):
        exact = index_scores(q_IC[None, None], weights_I[None, None], keys_SC[None].float())
        assert torch.equal(choose_one(q_IC, weights_I, keys_SC, None, k), best_places(exact, None, k)[0][0, 0])


@torch.no_grad()
def test_what_the_loops_cannot_take_is_left_to_torch():
    q_HD, rows_SD = seeded(4, 32), seeded(10, 32)
    assert attend_one(q_HD, rows_SD.double(), None, None, scale=1.0, value=32) is None
    assert attend_one(q_HD.double(), rows_SD, None, None, scale=1.0, value=32) is None
    assert attend_one(q_HD[:, :31], rows_SD.bfloat16()[:, :31], None, None, scale=1.0, value=31) is None
    assert choose_one(q_HD, q_HD[:, 0], rows_SD.T, None, 2) is None
    with torch.enable_grad():
        assert attend_one(q_HD, rows_SD, None, None, scale=1.0, value=32) is None


@torch.no_grad()
def test_what_is_no_number_still_chooses_places_that_exist():
    keys_SC = seeded(9000, 32).bfloat16()
    keys_SC[::3] = float("nan")
    for given in (keys_SC, torch.full_like(keys_SC, float("nan"))):
        places_K = choose_one(seeded(4, 32), seeded(4, seed=1), given, None, 2048)
        assert places_K.min() >= 0 and places_K.max() < 9000 and len(places_K.unique()) == 2048
