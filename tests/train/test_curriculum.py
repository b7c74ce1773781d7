"""The whole way on a tiny world: data, every stage of the curriculum, a second call that resumes, export, use."""

import argparse
import datetime
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.studio import Studio
from dsv4.train import cli
from dsv4.train.ahead import minutes_until
from dsv4.train.export import export
from dsv4.train.see_job import GRID, cell_labels
from dsv4.train.stages import CURRICULUM


def arguments(data, out) -> argparse.Namespace:
    return argparse.Namespace(
        data=str(data), out=str(out), stages=None, start=None, after=None, until=None, minutes=None, steps=1, rows=2,
        workers=0, seed=0,
        device="cpu", model_size="micro",
    )  # fmt: skip


def test_every_stage_runs_resumes_and_ends_in_a_model_that_answers(world, tmp_path, capsys):
    run = tmp_path / "run"
    assert cli.main(arguments(world, run)) == 0
    assert json.loads((run / "run.json").read_text())["finished"] == [stage.name for stage in CURRICULUM]
    losses = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in losses} == {stage.name for stage in CURRICULUM}
    assert all(0 < row["loss"] < 100 for row in losses)
    before = (run / "log.jsonl").read_text()
    assert cli.main(arguments(world, run)) == 0
    assert (run / "log.jsonl").read_text() == before
    export(run, world / "tokenizer.json", tmp_path / "model", size="micro")
    studio = Studio.load(tmp_path / "model")
    begun = Model.fresh(studio.model.tokenizer, size="micro")
    cli.start_from(tmp_path / "model", begun)
    for name, part in studio.model.parts().items():
        given = begun.parts()[name].state_dict()
        assert all(torch.equal(given[key], value) for key, value in part.state_dict().items())
    with pytest.raises(InputError, match="size micro, not nano"):
        cli.start_from(tmp_path / "model", Model.fresh(studio.model.tokenizer, size="nano", keep=()))
    assert studio.svg("heart icon", max_tokens=40).text.startswith("<svg")
    assert studio.image("a tiger", steps=1, size=64).array.shape == (64, 64, 3)


def test_settling_leaves_the_memory_as_it_is(world, tmp_path):
    args = arguments(world, tmp_path / "run")
    args.stages = "text"
    assert cli.main(args) == 0
    before = load_file(tmp_path / "run" / "weights" / "core.safetensors")
    args.stages, args.steps = "settle", 3
    assert cli.main(args) == 0
    after = load_file(tmp_path / "run" / "weights" / "core.safetensors")
    memory = {name for name in before if "table" in name}
    assert memory and all(torch.equal(before[name], after[name]) for name in memory)
    assert sum(not torch.equal(before[name], after[name]) for name in before) > len(before) // 2


def test_a_stage_may_get_ready_before_its_turn(world, tmp_path):
    """It waits for the stage before it, starts from that stage's weights, and has learnt nothing beforehand."""
    run, straight = tmp_path / "ahead", tmp_path / "straight"
    for folder in (run, straight):
        first = arguments(world, folder)
        first.stages = "text"
        assert cli.main(first) == 0
        later = arguments(world, folder)
        later.stages, later.after = "see,index", "text" if folder == run else None
        assert cli.main(later) == 0
    for part in ("core", "eyes"):
        made, expected = (load_file(folder / "weights" / f"{part}.safetensors") for folder in (run, straight))
        assert all(torch.equal(made[name], value) for name, value in expected.items())


def test_what_is_left_until_a_time_of_day_is_counted_behind_compiling(world, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(cli, "compile_ahead", lambda jobs, world: done.append("compiled"))
    monkeypatch.setattr(cli, "minutes_until", lambda clock: done.append("read") or 1e-4)
    args = arguments(world, tmp_path / "run")
    args.stages, args.steps, args.until = "text", None, "17:45"
    assert cli.main(args) == 0
    assert done == ["read", "compiled", "read"]  # once to refuse what is no time of day


def test_a_stage_goes_on_with_all_that_lies_in_the_folder_of_a_run(world, tmp_path, monkeypatch):
    """What only `see` learns may be carried to another run beside the model's parts."""
    begun = []
    monkeypatch.setattr(cli, "run_stage", lambda job, *others: begun.append(job))
    args = arguments(world, tmp_path / "run")
    args.stages = "see"
    assert cli.main(args) == 0
    (tmp_path / "run" / "weights").mkdir(parents=True)
    kept = {name: value + 1 for name, value in begun[0].parts["cells"].state_dict().items()}
    save_file(kept, tmp_path / "run" / "weights" / "cells.safetensors")
    assert cli.main(args) == 0
    assert all(torch.equal(begun[1].parts["cells"].state_dict()[name], value) for name, value in kept.items())
    before, after = (job.parts["letters"].state_dict() for job in begun)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_time_until_a_time_of_day():
    now = datetime.datetime(2026, 3, 1, 17, 30)
    assert minutes_until("17:45", now) == 15 and minutes_until("17:30:30", now) == 0.5
    assert minutes_until("17:00", now) == 23.5 * 60
    for wrong in ("soon", "25:00", "17"):
        with pytest.raises(InputError, match="--until"):
            minutes_until(wrong, now)


def test_cells_name_the_topmost_thing_over_their_middle():
    sprites = torch.tensor([[4, 9, -1]])
    places = torch.tensor([[[0.5, 0.5, 1.2, 0.0], [0.25, 0.25, 0.4, 0.0], [0.9, 0.9, 1.0, 0.0]]])
    grid = cell_labels(sprites, places, nothing=77).view(GRID, GRID)
    assert grid[7, 7] == 4 and grid[1, 1] == 9 and grid[2, 2] == 9 and grid[3, 3] == 4
    assert (cell_labels(sprites.fill_(-1), places, nothing=77) == 77).all()
