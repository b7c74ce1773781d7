"""Repetition: a phrase is kept from coming back, a loop is seen, and what only looks like one is let be."""

from __future__ import annotations

import random

import pytest

from dsv4.engine.repeats import LoopGuard, NoRepeat


def test_the_token_that_would_complete_a_phrase_again_is_forbidden():
    constraint = NoRepeat(vocab_size=10, length=3, window=10)
    for token in (1, 2, 3, 9, 1, 2):
        constraint.push(token)
    assert [token for token, allowed in enumerate(constraint.allowed_V()) if not allowed] == [3]
    constraint.push(4)
    assert constraint.allowed_V().all()


def test_only_the_window_counts_and_some_tokens_are_exempt_and_some_closed():
    constraint = NoRepeat(vocab_size=10, length=2, window=4, exempt=(5,), closed=(0,))
    for token in (1, 2, 7, 8, 9, 1):
        constraint.push(token)
    assert constraint.allowed_V().tolist() == [False] + [True] * 9  # 1, 2 has left the window
    for token in (5, 1):
        constraint.push(token)
    assert constraint.allowed_V()[5]
    with pytest.raises(ValueError, match="fits the window"):
        NoRepeat(vocab_size=10, length=5, window=4)


@pytest.mark.parametrize("length", [2, 3, 5])
def test_no_phrase_ever_comes_back_inside_the_window(length):
    """Against the definition, on random walks through a small vocabulary."""
    chance, window = random.Random(length), 12
    constraint = NoRepeat(vocab_size=6, length=length, window=window)
    written: list[int] = []
    for _ in range(300):
        allowed = [token for token, fine in enumerate(constraint.allowed_V()) if fine]
        recent = written[-window:]
        phrases = {tuple(recent[i : i + length]) for i in range(len(recent) - length + 1)}
        begun = tuple(recent[len(recent) - length + 1 :])
        wanted = [t for t in range(6) if len(begun) < length - 1 or (*begun, t) not in phrases]
        assert allowed == wanted
        token = chance.choice(allowed or [0])
        written.append(token)
        constraint.push(token)


@pytest.mark.parametrize("period", [1, 2, 7, 40, 64])
def test_a_loop_is_seen_and_one_copy_of_it_kept(period):
    guard = LoopGuard()
    start, block = list(range(100, 120)), list(range(period))
    found, pushed = 0, 0
    for token in start + block * 400:
        found = guard.push(token)
        pushed += 1
        if found:
            break
    assert found == period
    assert pushed - len(start) == max(5 * period, 160)
    assert guard.kept(found) == start + block


def test_empty_cells_rules_and_ordinary_text_are_no_loop():
    guard = LoopGuard()
    chance = random.Random(0)
    table = ([1, 2] * 40 + [3]) * 2 + [4] * 120
    words = [chance.choice(range(50)) for _ in range(2000)]
    assert not any(guard.push(token) for token in table + words)
