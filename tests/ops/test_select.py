"""The indexer's scores, its choice with ties, and its loss."""

from __future__ import annotations

import math

import pytest
import torch

from dsv4.ops import select
from dsv4.ops.fp8 import e4m3
from dsv4.ops.gather import gather_rows
from dsv4.ops.select import (
    best_places,
    choose,
    chosen_places,
    eight_bits,
    hide_later,
    index_scores,
    index_scores_fp8,
    index_scores_int8,
    selection_loss,
)


def test_scores_by_hand() -> None:
    torch.manual_seed(0)
    q, w, k = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3), torch.randn(1, 5, 4)
    found = index_scores(q, w, k)
    for t in range(2):
        for s in range(5):
            by_hand = sum(float(w[0, t, i] * (q[0, t, i] @ k[0, s]).relu()) for i in range(3)) / math.sqrt(12)
            assert abs(found[0, t, s].item() - by_hand) < 1e-5


def test_ties_go_to_the_later_key() -> None:
    scores = torch.tensor([[[0.0, 2.0, 0.0, 0.0, 0.0, 9.0]]])
    seen = torch.tensor([[[True, True, True, True, False, False]]])
    assert choose(scores, seen, 2)[0, 0].tolist() == [False, True, False, True, False, False]
    assert choose(scores, seen, 3)[0, 0].tolist() == [False, True, True, True, False, False]
    assert torch.equal(choose(scores, seen, 5), seen), "fewer are seen than may be chosen"
    assert torch.equal(choose(scores, seen, 6), seen)


def test_choice_equals_a_stable_sort() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (3, 7, 50), generator=generator).float()
    seen = torch.rand(3, 7, 50, generator=generator) < 0.8
    chosen = choose(scores, seen, 9)
    for b in range(3):
        for t in range(7):
            order = sorted((s for s in range(50) if seen[b, t, s]), key=lambda s: (-scores[b, t, s], -s))[:9]
            assert sorted(order) == chosen[b, t].nonzero()[:, 0].tolist()
    places, valid = chosen_places(chosen, 12)
    assert valid.sum() == chosen.sum() == 3 * 7 * 9
    rows = torch.randn(3, 50, 4, generator=generator)
    gathered = gather_rows(rows, places)
    assert torch.equal(gathered[1, 2][valid[1, 2]], rows[1][chosen[1, 2]])


def test_selection_loss_is_a_divergence() -> None:
    torch.manual_seed(0)
    scores, seen = torch.randn(2, 3, 6, dtype=torch.float64), torch.ones(2, 3, 6, dtype=torch.bool)
    seen[:, 0, 3:] = False
    perfect = scores.exp().masked_fill(~seen, 0.0) * 5  # any scale: it is normalised
    assert abs(selection_loss(scores, perfect, seen).item()) < 1e-9
    target = torch.rand(2, 3, 6, dtype=torch.float64)
    by_hand = 0.0
    for b in range(2):
        for t in range(3):
            p = target[b, t][seen[b, t]]
            p, q = p / p.sum(), scores[b, t][seen[b, t]].softmax(0)
            by_hand += float((p * (p / q).log()).sum()) / 6
    assert abs(selection_loss(scores, target, seen).item() - by_hand) < 1e-9


@pytest.mark.parametrize("values", [1000, 4])
def test_best_places_are_the_chosen_ones(values: int) -> None:
    """With few different values most borders are ties; with many nearly none is."""
    generator = torch.Generator().manual_seed(values)
    scores = torch.randint(0, values, (2, 30, 30), generator=generator).float()
    seen = torch.ones(30, 30, dtype=torch.bool).tril()[None].expand(2, -1, -1)
    for given in (seen, None):
        places, real = best_places(scores, given, 7)
        found = torch.zeros(2, 30, 31, dtype=torch.bool).scatter(-1, torch.where(real, places, 30), True)[..., :30]
        assert torch.equal(found, choose(scores, seen if given is not None else torch.ones_like(seen), 7))


@pytest.mark.parametrize("queries", [1, 3])
def test_bfloat16_scores_are_near_those_of_wide_numbers(queries: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = (1, queries, 8, 64), (1, queries, 8), (1, 200, 64)
    q, weights, keys = (torch.randn(shape, generator=generator).bfloat16() for shape in shapes)
    with torch.no_grad():
        found = index_scores(q, weights, keys)
        exact = index_scores(q.double(), weights.double(), keys.double())
    assert found.dtype == torch.float32 and found.shape == (1, queries, 200)
    assert (found - exact).abs().max() < 0.02 * exact.abs().max()


def test_scores_in_eight_bits_are_near_and_choose_nearly_the_same() -> None:
    torch.manual_seed(0)
    keys, q, w = torch.randn(2, 70_000, 32), torch.randn(2, 3, 4, 32), torch.randn(2, 3, 4)
    codes, scales = eight_bits(keys)
    assert codes.dtype == torch.int8 and (codes * scales - keys).abs().max() <= 0.5001 * scales.max()
    found = index_scores_int8(q, w, codes, scales[..., 0])
    exact = index_scores(q.double(), w.double(), keys.double())
    by_hand_q, scale_q = eight_bits(q)
    same = index_scores((by_hand_q * scale_q).double(), w.double(), (codes * scales).double())
    assert (found - same).abs().max() < 1e-5 * same.abs().max(), "codes are the only rounding"
    assert (found - exact).abs().max() < 0.02 * exact.abs().max()
    both = [set(scores.topk(512, -1).indices[0, 0].tolist()) for scores in (found, exact)]
    assert len(both[0] & both[1]) > 0.96 * 512


@pytest.mark.parametrize("levels", [3, 10_000])
def test_best_places_behind_which_nothing_is_seen(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of neighbouring queries, early ones of which see fewer than k: as if a mask had said so; long rows too."""
    generator = torch.Generator().manual_seed(levels)
    for narrow in (10**9, 1000):
        monkeypatch.setattr(select, "NARROW_FROM", narrow)
        for S, Q in ((40, 12), (2003, 5)):
            scores = torch.randint(0, levels, (2, Q, S), generator=generator).float()
            seen = torch.ones(Q, S, dtype=torch.bool).tril(S - Q)[None].expand(2, -1, -1)
            expected = choose(scores, seen, 33)
            hidden = hide_later(scores.clone())
            assert torch.equal(hidden, scores.masked_fill(~seen, float("-inf")))
            places, real = best_places(hidden, None, 33)
            found = torch.zeros(2, Q, S + 1, dtype=torch.bool).scatter(-1, torch.where(real, places, S), True)
            assert torch.equal(found[..., :S], expected), (narrow, S)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_pieces_do_not_change_scores(queries: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """And products of bfloat16 keys have few shapes, however many lengths there are: the library keeps something of
    every one."""
    torch.manual_seed(0)
    q, w, k = torch.randn(1, queries, 4, 16), torch.randn(1, queries, 4), torch.randn(1, 900, 16)
    q, w, k = q.to(dtype), w.to(dtype), k.to(dtype)
    expected = index_scores(q.double(), w.double(), k.double())
    monkeypatch.setattr(select, "PIECE", 128)
    monkeypatch.setattr(select, "LEAST", 16)
    shapes: set[tuple[int, ...]] = set()
    batched, mm = select.batched, torch.mm
    monkeypatch.setattr(select, "batched", lambda a, b: (shapes.add((*a.shape, *b.shape)), batched(a, b))[1])
    monkeypatch.setattr(torch, "mm", lambda a, b: (shapes.add((*a.shape, *b.shape)), mm(a, b))[1])
    with torch.no_grad():
        for S in range(1, 900, 7):
            found = index_scores(q, w, k[:, :S])
            assert found.shape == (1, queries, S)
            room = 2e-2 if dtype == torch.bfloat16 else 1e-6
            assert (found - expected[..., :S]).abs().max() < room * expected.abs().max(), S
    assert len(shapes) <= 8 if dtype == torch.bfloat16 else len(shapes) > 8


def test_scores_in_fp8_are_near_and_choose_nearly_the_same() -> None:
    torch.manual_seed(0)
    keys, q, w = torch.randn(2, 70_000, 128), torch.randn(2, 3, 4, 128), torch.randn(2, 3, 4)
    codes, scales = e4m3(keys)
    assert codes.dtype == torch.uint8 and scales.log2().frac().abs().max() == 0
    opened = codes.view(torch.float8_e4m3fn).float() * scales
    # Half of the last place of four bits, or of the least that a code can be.
    assert ((opened - keys).abs() <= torch.maximum(keys.abs() / 16, scales * 2.0**-10)).all()
    found = index_scores_fp8(q, w, codes, scales[..., 0])
    exact = index_scores(q.double(), w.double(), keys.double())
    codes_q, scale_q = e4m3(q)
    opened_q = (codes_q.view(torch.float8_e4m3fn).float() * scale_q).double()
    same = index_scores(opened_q, w.double(), opened.double())
    assert (found - same).abs().max() < 1e-5 * same.abs().max(), "codes are the only rounding"
    near = index_scores_fp8(q.bfloat16(), w.bfloat16(), codes, scales[..., 0])
    assert (near - same).abs().max() < 0.02 * same.abs().max()
    for scores, share in ((found, 0.9), (near, 0.85)):
        for row in range(2):
            both = [set(one[row].topk(512, -1).indices[0].tolist()) for one in (scores, exact)]
            assert len(both[0] & both[1]) > share * 512
    # What may not be chosen is far below what must be: a tie or less than the codes' rounding decides the rest.
    border = exact.topk(512, -1).values[..., -1:]
    room = 0.03 * exact.abs().amax(-1, keepdim=True)
    chosen = torch.zeros_like(found, dtype=torch.bool).scatter(-1, found.topk(512, -1).indices, True)
    assert not (chosen & (exact < border - room)).any() and chosen[exact > border + room].all()


@pytest.mark.parametrize("levels", [0, 40])
def test_a_long_row_is_narrowed_without_changing_the_choice(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where many scores are equal, and where the row is no whole number of spans."""
    torch.manual_seed(0)
    scores = torch.randn(1, 1, 5003)
    if levels:
        scores = (scores * levels).round() / levels
    expected = best_places(scores, None, 100)
    monkeypatch.setattr(select, "NARROW_FROM", 1000)
    found = best_places(scores, None, 100)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    flat = best_places(torch.zeros(1, 1, 5003), None, 100)[0]
    assert flat.tolist() == [[list(range(4903, 5003))]]
