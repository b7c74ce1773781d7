"""Two gloo processes learn what one learns, sharded or with spread experts; a killed run goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.errors import InputError
from dsv4.rack.run import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Ids and a configuration on disk, as arguments."""
    folder = tmp_path_factory.mktemp("given")
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, 64, 4000).astype(np.int32))
    (folder / "micro.json").write_text(json.dumps(presets.micro(64).to_dict()))
    return ["--ids", str(folder / "ids.npy"), "--config", str(folder / "micro.json"), "--rows", "4", "--length", "20",
            "--save-every", "2", "--lr", "1e-3"]  # fmt: skip


def start(arguments, ranks=2):
    """The processes that torchrun would start."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port = tried.getsockname()[1]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks),
              "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # fmt: skip
    return [
        subprocess.Popen([sys.executable, "-m", "dsv4.rack.run", *arguments], env={**shared, "RANK": str(rank)},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]  # fmt: skip


def finished(processes):
    """Lines of the first process, once all have ended well."""
    said = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    return [json.loads(line) for line in said[0][0].splitlines() if line.startswith("{")]


def weights(folder, tmp_path):
    """All weights and moments of a run's newest checkpoint, as one process reads them."""
    newest = next(Path(folder).glob("step-*"))
    dcp_to_torch_save(newest, tmp_path / "whole.pt")
    return torch.load(tmp_path / "whole.pt", weights_only=False)


def alone(arguments, capsys):
    """The same with one process, here."""
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    capsys.readouterr()
    assert main(arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def assert_equal(one, other):
    assert set(one["weights"]) == set(other["weights"]) and len(one["weights"]) > 50
    start = LanguageCore.from_config(presets.micro(64)).state_dict()
    for name, tensor in one["weights"].items():
        assert tensor.shape == start[name].shape
        assert torch.allclose(tensor, other["weights"][name], atol=1e-5), name


def test_two_processes_learn_what_one_does_and_a_killed_one_goes_on(given, tmp_path, capsys):
    """Sharded until one of two is killed, then on from the checkpoint with spread experts; beside one process."""
    killed, seen = start([*given, "--out", str(tmp_path / "two"), "--steps", "5000"]), []
    for line in killed[0].stdout:
        seen += [json.loads(line)] if line.startswith("{") else []
        if len(seen) == 3:
            break
    killed[1].kill()
    killed[0].kill()
    for process in killed:
        process.communicate()
    done = json.loads((tmp_path / "two" / "latest.json").read_text())["step"]
    steps = done + 2
    resumed = finished(start([*given, "--out", str(tmp_path / "two"), "--steps", str(steps), "--experts", "spread"]))
    one = alone([*given, "--out", str(tmp_path / "one"), "--steps", str(steps)], capsys)
    assert done >= 2 and [line["step"] for line in resumed] == [steps - 1, steps] and len(one) == steps
    assert np.allclose([line["loss"] for line in seen], [line["loss"] for line in one[:3]], atol=1e-5)
    assert np.allclose([line["loss"] for line in resumed], [line["loss"] for line in one[-2:]], atol=1e-5)
    assert one[0]["loss"] != one[-1]["loss"]
    assert_equal(weights(tmp_path / "one", tmp_path), weights(tmp_path / "two", tmp_path))
    # One process goes on with what two have written.
    further = alone([*given, "--out", str(tmp_path / "two"), "--steps", str(steps + 1)], capsys)
    again = alone([*given, "--out", str(tmp_path / "one"), "--steps", str(steps + 1)], capsys)
    assert len(further) == 1 and abs(further[0]["loss"] - again[0]["loss"]) < 1e-5


def test_what_does_not_fit_is_said(given, tmp_path, capsys):
    with pytest.raises(InputError, match="one of shard, spread"):
        alone([*given, "--out", str(tmp_path / "x"), "--experts", "both"], capsys)
    with pytest.raises(InputError, match="unknown configuration 'huge'"):
        alone([*given, "--out", str(tmp_path / "x"), "--config", "huge"], capsys)
    assert not (tmp_path / "x").exists()
