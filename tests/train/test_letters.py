"""The dense loss of print, which kind of step comes when, and where training starts from."""

from __future__ import annotations

import argparse

import pytest
import torch
from torch.nn import functional as F

from dsv4.data.glyphs_layout import NO_LETTER, PATCH
from dsv4.errors import InputError
from dsv4.train import cli
from dsv4.train.head_job import HeadJob
from dsv4.train.see_job import EMPTY_WEIGHT, GRID, INK_ROWS, INSIDE, SIDE, letter_labels, letters_loss
from dsv4.train.stages import CURRICULUM

PATCHES = SIDE // PATCH


def test_labels_are_the_line_s_letters_where_the_row_holds_ink() -> None:
    letters = torch.full((1, 2, PATCHES), NO_LETTER)
    letters[0, 0, 3], letters[0, 1, 9] = 33, 50
    line, row = torch.zeros(1, SIDE, dtype=torch.int32), torch.full((1, SIDE), -9.0)
    row[0, 100:180] = torch.arange(80.0)  # line 0
    line[0, 300:380], row[0, 300:380] = 1, torch.arange(80.0)
    labels = letter_labels(letters, line, row)[0]
    for y in range(PATCHES):
        middle = y * PATCH + PATCH // 2
        for x in range(PATCHES):
            wanted = NO_LETTER
            if INK_ROWS[0] <= row[0, middle] < INK_ROWS[1]:
                wanted = int(letters[0, line[0, middle], x])
            assert labels[y, x] == wanted
    assert (labels == 33).sum() == (labels == 50).sum() == (INK_ROWS[1] - INK_ROWS[0]) // PATCH


def test_the_loss_is_the_weighted_mean_over_patches_in_their_places() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, GRID, GRID, INSIDE**2 * (NO_LETTER + 1), dtype=torch.float64, requires_grad=True)
    letters = torch.randint(0, NO_LETTER + 1, (2, PATCHES, PATCHES))
    letters[:, ::2] = NO_LETTER
    total = weights = torch.zeros((), dtype=torch.float64)
    for row, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(PATCHES), torch.arange(PATCHES)).tolist():
        inside = (y % INSIDE) * INSIDE + x % INSIDE
        of_patch = scores[row, y // INSIDE, x // INSIDE].view(INSIDE**2, -1)[inside]
        weight = EMPTY_WEIGHT if letters[row, y, x] == NO_LETTER else 1.0
        total = total + weight * F.cross_entropy(of_patch[None], letters[row, y, x][None])
        weights = weights + weight
    expected = total / weights
    found = letters_loss(scores, letters)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-8)


def test_certain_and_right_costs_nothing() -> None:
    letters = torch.randint(0, NO_LETTER + 1, (1, PATCHES, PATCHES))
    cut = letters.unflatten(2, (GRID, INSIDE)).unflatten(1, (GRID, INSIDE)).transpose(2, 3)
    scores = 50.0 * F.one_hot(cut, NO_LETTER + 1).float().flatten(3)
    assert letters_loss(scores, letters) < 1e-6 < letters_loss(-scores, letters)


@pytest.mark.parametrize("stage", [stage for stage in CURRICULUM if stage.kinds], ids=lambda stage: stage.name)
def test_kinds_come_by_their_shares_and_evenly(stage) -> None:
    job = object.__new__(HeadJob)
    job.kinds = stage.kinds
    steps = [job.kind(step) for step in range(1000)]
    whole = sum(kind.share for kind in stage.kinds.values())
    for name, kind in stage.kinds.items():
        assert abs(steps.count(name) / 1000 - kind.share / whole) < 0.01
        places = [place for place, one in enumerate(steps) if one == name]
        gaps = [after - before for before, after in zip(places, places[1:], strict=False)]
        assert max(gaps) <= 3 * whole / kind.share


def asked(tmp_path, **given) -> argparse.Namespace:
    (tmp_path / "tokenizer.json").write_text("{}")
    flags = {"data": str(tmp_path), "out": str(tmp_path / "run"), "stages": None, "minutes": None, "steps": None}
    flags |= {"until": None, "after": None, "start": None, "device": "cpu", "seed": 0}
    return argparse.Namespace(**(flags | given))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"after": "text"}, "runs that stage itself"),
        ({"after": "txet", "stages": "see"}, "did you mean 'text'"),
        ({"until": "noon"}, "a time of day such as"),
        ({"until": "17:45", "steps": 3}, "one of --minutes, --steps and --until"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused_before_anything_is_built(tmp_path, given, says) -> None:
    with pytest.raises(InputError, match=says):
        cli.main(asked(tmp_path, **given))
