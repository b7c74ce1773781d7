"""Memory against experts in nano's recipe: equal sizes, and the judge of answers."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.train import ablate as compared


def test_both_forms_are_nearly_of_one_size():
    with torch.device("meta"):
        sizes = []
        for form in compared.FORMS:
            config = compared.shape(form, 8192)
            made = LanguageCore.from_config(config, canonical_ids=np.arange(8192))
            sizes.append(sum(p.numel() for p in made.parameters()))
    memory, experts = sizes
    assert memory < experts < 1.015 * memory


def test_an_answer_is_right_when_its_last_token_is():
    batch = {
        "ids": np.array([[5, 6, 7, 8, 9, 0]], np.int32),
        "targets": np.array([[-100, 7, 8, -100, 4, -100]], np.int32),
        "positions": np.arange(6, dtype=np.int32)[None],
        "segments": np.array([[0, 0, 0, 1, 1, 2]], np.int32),
    }

    def core(said: list[int]):
        logits = torch.nn.functional.one_hot(torch.tensor([said]), 10).float() * 50
        return lambda ids, **given: SimpleNamespace(logits_BTV=logits)

    device = torch.device("cpu")
    assert compared.scored(core([0, 7, 8, 0, 4, 0]), iter([batch]), device)["right"] == 1.0
    half = compared.scored(core([0, 7, 1, 0, 4, 0]), iter([batch]), device)
    assert (half["right"], half["count"]) == (0.5, 2)
    assert half["nats"] > 10


def test_the_table_names_what_was_asked():
    asked = {name: {"right": 0.5, "count": 4, "nats": 1.25} for _, _, name in compared.ASKED}
    record = {form: {"parameters": 10, "steps": 3, "asked": asked} for form in compared.FORMS}
    told = compared.table(record)
    assert "| icon by name | 50.0 % of 4 (1.250 nats) | 50.0 % of 4 (1.250 nats) |" in told


def test_showing_what_was_never_measured_says_what_measures_it(tmp_path):
    missing = tmp_path / "none"
    with pytest.raises(InputError, match=r"python -m dsv4\.train\.ablate --data build/data --out .*none"):
        compared.main(["--show", "--out", str(missing)])
    assert not missing.exists()
    (tmp_path / compared.RECORD).write_text("{")
    with pytest.raises(InputError, match="is no record"):
        compared.main(["--show", "--out", str(tmp_path)])


def test_a_kept_record_is_shown(tmp_path, capsys):
    asked = {name: {"right": 0.5, "count": 4, "nats": 1.25} for _, _, name in compared.ASKED}
    one = {"parameters": 10, "steps": 3, "asked": asked, "curve": [(0.0, 2.0), (1.0, 1.0)]}
    (tmp_path / compared.RECORD).write_text(json.dumps(dict.fromkeys(compared.FORMS, one)))
    assert compared.main(["--show", "--out", str(tmp_path)]) == 0
    assert "| icon by name | 50.0 % of 4" in capsys.readouterr().out
    assert (tmp_path / "engram_nano.svg").read_text().startswith("<svg")
