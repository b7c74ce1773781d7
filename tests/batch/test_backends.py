"""Processes and Ray end in the bytes of a local run; workers that die cost no row but the one that kills them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from bench.kill import content, mixed_rows
from dsv4 import EchoStudio, InputError
from dsv4.batch import processes, run_batch
from dsv4.batch.processes import Item, Setup
from dsv4.batch.row import Job

SETTINGS = {"batch_size": 4, "seed": 7}


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_processes_end_in_the_same_bytes(tmp_path):
    run_batch("echo", mixed_rows(40), out=tmp_path / "local", **SETTINGS)
    report = run_batch("echo", mixed_rows(40), out=tmp_path / "many", backend="processes", workers=2, **SETTINGS)
    assert (report.done, report.failed) == (36, 4)
    assert content(tmp_path / "many") == content(tmp_path / "local")


def test_a_batch_begun_here_goes_on_elsewhere(tmp_path):
    seen: list = []
    rows = mixed_rows(24)
    run_batch("echo", rows, out=tmp_path / "out", on_row=seen.append, cancelled=lambda: len(seen) == 3, **SETTINGS)
    assert len(lines(tmp_path / "out")) < 24
    run_batch("echo", rows, out=tmp_path / "out", backend="processes", workers=1, **SETTINGS)
    run_batch(EchoStudio(), rows, out=tmp_path / "whole", **SETTINGS)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_cancelled_run_on_processes_keeps_what_is_done(tmp_path):
    seen: list = []
    rows = mixed_rows(24)
    stop = {"on_row": seen.append, "cancelled": lambda: len(seen) >= 2}
    part = run_batch("echo", rows, out=tmp_path / "out", backend="processes", workers=1, **stop, **SETTINGS)
    assert not part.complete and part.done + part.failed == len(lines(tmp_path / "out")) > 0
    run_batch("echo", rows, out=tmp_path / "out", backend="processes", workers=1, **SETTINGS)
    assert len(lines(tmp_path / "out")) == 24


class Deadly(processes.Worker):
    """Dies of one prompt."""

    def make(self, item: Item) -> list:
        if any(job.prompt == "die" for _, job in item.group):
            os._exit(1)
        return super().make(item)


def serve_deadly(connection, setup: Setup) -> None:
    """What runs in the worker of the test below."""
    processes.Worker = Deadly
    processes._serve(connection, setup)


def test_what_kills_its_worker_is_one_error_row(monkeypatch):
    monkeypatch.setattr(processes, "_Hand", type("Hand", (processes._Hand,), {"target": staticmethod(serve_deadly)}))
    jobs = [Job(line=n + 1, id=f"r{n}", task="chat", prompt="die" if n == 5 else "live") for n in range(8)]
    items = [Item(list(enumerate(jobs))[start : start + 4], {}) for start in (0, 4)]
    setup = Setup(model="echo", fingerprint=EchoStudio.fingerprint, seed=None)
    made = [one for some in processes.run_on_processes(iter(items), setup, workers=2) for one in some]
    assert sorted(one.place for one in made) == list(range(8))
    (bad,) = [one for one in made if one.failed]
    assert bad.place == 5 and bad.attempts == 2 and "the worker died" in json.loads(bad.line)["error"]


def test_a_model_that_does_not_load_in_a_worker_stops_the_run():
    for setup, says in (
        (Setup(model="echo", fingerprint="other", seed=None), "has other weights in a worker"),
        (Setup(model="no-such-model", fingerprint="x", seed=None), "unknown model 'no-such-model'"),
    ):
        with pytest.raises(InputError, match=says):
            list(processes.run_on_processes(one_item(), setup, workers=1))


def one_item():
    return iter([Item([(0, Job(line=1, id="a", task="chat", prompt="x"))], {})])


def die_at_once(connection, setup: Setup) -> None:
    os._exit(1)


def test_a_worker_that_cannot_start_stops_the_run_and_is_no_row_s_fault(monkeypatch):
    monkeypatch.setattr(processes, "_Hand", type("Hand", (processes._Hand,), {"target": staticmethod(die_at_once)}))
    setup = Setup(model="echo", fingerprint=EchoStudio.fingerprint, seed=None)
    with pytest.raises(OSError, match="could not start"):
        list(processes.run_on_processes(one_item(), setup, workers=1))


def test_workers_end_when_their_driver_is_killed(tmp_path, python, python_environment):
    code = (
        "import os, signal, multiprocessing\n"
        "from dsv4.batch import run_batch\n"
        "def die(report):\n"
        "    print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "rows = [{'id': f'{n}', 'task': 'svg', 'prompt': 'x'} for n in range(400)]\n"
        f"run_batch('echo', rows, out={str(tmp_path / 'out')!r}, backend='processes', workers=2, on_row=die)\n"
    )
    run = subprocess.run([python, "-c", code], env=python_environment, capture_output=True, text=True, timeout=60)
    workers = [int(one) for one in run.stdout.split()]
    assert len(workers) == 2, run.stderr
    for _ in range(200):
        if not any(_is_running(pid) for pid in workers):
            return
        time.sleep(0.05)
    raise AssertionError("the workers outlived their driver")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"backend": "rey"}, "unknown backend 'rey'; did you mean 'ray'"),
        ({"workers": 0}, "workers must be a whole number from 1"),
        ({"batch_size": 10**9}, "batch_size must be a whole number from 1 to 256"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 2**64}, "seed must be a whole number from 0"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(tmp_path, settings, says):
    with pytest.raises(InputError, match=says):
        run_batch("echo", mixed_rows(2), out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_ray_ends_in_the_same_bytes_or_says_that_it_is_absent(tmp_path):
    """Ray is an extra of 370 MB and in no lock; where it is installed, the batch really runs on it."""
    run = {"backend": "ray", "workers": 1, **SETTINGS}
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(InputError, match=r"pip install 'dsv4-studio\[ray\]'"):
            run_batch("echo", mixed_rows(12), out=tmp_path / "ray", **run)
        return
    run_batch("echo", mixed_rows(12), out=tmp_path / "local", **SETTINGS)
    report = run_batch("echo", mixed_rows(12), out=tmp_path / "ray", **run)
    assert report.complete and content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.parametrize(("backend", "kills"), [("local", 5), ("processes", 2)])
def test_kill_minus_nine_at_random_moments_changes_nothing(python, python_environment, backend, kills):
    """`dsv4 bench kill` is this with 400 rows and 50 kills."""
    program = Path(__file__).resolve().parents[2] / "bench" / "kill.py"
    command = [python, str(program), "--rows", "60", "--kills", str(kills), "--backend", backend]
    run = subprocess.run(command, env=python_environment, capture_output=True, text=True, timeout=200)
    found = json.loads(run.stdout)
    assert run.returncode == 0 and found["same_bytes"] and found["ledger_sound"], (found, run.stderr)
    assert found["lines"] == found["ids"] == 60 and found["kills"] >= kills - 1
