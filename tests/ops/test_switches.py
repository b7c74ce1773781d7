"""Where fast paths of a card are taken: by its generation, unless a variable says otherwise."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops.switches import possible, taken_on

CARD = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("said", "generation", "taken"),
    [(None, 9, True), (None, 8, False), ("1", 8, True), ("0", 9, False), ("1", 9, True)],
)
def test_by_generation_or_by_what_is_said(monkeypatch, said, generation, taken):
    monkeypatch.delenv("DSV4_TRITON", raising=False)
    if said is not None:
        monkeypatch.setenv("DSV4_TRITON", said)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (generation, 0))
    assert taken_on(CARD, "DSV4_TRITON") == taken
    assert not taken_on(torch.device("cpu"), "DSV4_TRITON")


def test_possible_needs_a_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("DSV4_TRITON", raising=False)
    assert possible("DSV4_TRITON")
    monkeypatch.setenv("DSV4_TRITON", "0")
    assert not possible("DSV4_TRITON")
    monkeypatch.setenv("DSV4_TRITON", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not possible("DSV4_TRITON")
