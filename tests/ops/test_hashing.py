"""Primes, multipliers and rows against figures of released models and against the formula."""

from __future__ import annotations

import numpy as np
import torch

from dsv4.ops.hashing import is_prime, multipliers, ngram_rows, prime_sizes, shifted


def test_small_primes() -> None:
    assert [number for number in range(30) if is_prime(number)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert not is_prime(161 * 161) and is_prime(7919)


def test_tables_of_a_released_model() -> None:
    """V4.1's two tables: three orders, eight heads, from sixteen million rows a head."""
    sizes = prime_sizes((1, 14), [16_000_000] * 3, 8)
    assert [sum(map(sum, sizes[layer])) for layer in (1, 14)] == [384_006_168, 384_016_682]


def test_tables_of_the_official_demonstration() -> None:
    sizes = prime_sizes((1, 15), [129_280 * 5] * 2, 8)
    assert [sum(map(sum, sizes[layer])) for layer in (1, 15)] == [10_344_164, 10_348_242]


def test_multipliers_of_a_released_model() -> None:
    assert multipliers(1, count=4, vocabulary=99_092) == [
        76_632_096_046_245,
        4_839_876_093_313,
        35_959_672_319_349,
        73_987_337_458_391,
    ]
    assert multipliers(14, count=4, vocabulary=99_092)[0] == 67_716_810_739_261


def test_rows_follow_the_formula() -> None:
    ids = np.random.default_rng(0).integers(0, 5000, size=(2, 20))
    multiplier = multipliers(1, count=3, vocabulary=5000)
    primes = prime_sizes((1,), [999, 999], 8)[1]
    back = [np.pad(ids, ((0, 0), (k, 0)), constant_values=7)[:, :20] for k in range(3)]
    columns, offset = [], 0
    for order in (2, 3):
        mix = back[0] * multiplier[0]
        for k in range(1, order):
            mix = np.bitwise_xor(mix, back[k] * multiplier[k])
        assert (mix >= 0).all(), "a product left int64"
        for prime in primes[order - 2]:
            columns.append(mix % prime + offset)
            offset += prime
    shifts = shifted(torch.from_numpy(ids), 3, pad=7, before_BL=None, segments_BT=None)
    rows, opened = ngram_rows(shifts, multiplier, primes)
    assert (rows.numpy() == np.stack(columns, -1)).all()
    assert rows.max() < sum(map(sum, primes)) and opened.all()


def test_documents_and_closed_places_stop_n_grams() -> None:
    ids = torch.tensor([[5, 6, -1, 8, 9, 4]])
    segments = torch.tensor([[0, 0, 0, 0, 0, 1]])
    shifts = shifted(ids, 3, pad=1, before_BL=None, segments_BT=segments)
    assert shifts[1].tolist() == [[1, 5, 6, -1, 8, 1]]
    assert shifts[2].tolist() == [[1, 1, 5, 6, -1, 1]]
    _, opened = ngram_rows(shifts, [3, 5, 7], [[11], [13]])
    assert opened[0].tolist() == [[True] * 2, [True] * 2, [False] * 2, [False] * 2, [True, False], [True] * 2]
