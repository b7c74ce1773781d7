"""Batches from the command line: what they print, how they stop, and which status they end with."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from app.cli import main


@pytest.fixture(autouse=True)
def echo_in_an_empty_folder(monkeypatch, tmp_path):
    """Commands run with the model that needs no weights, in a folder of their own."""
    monkeypatch.setenv("DSV4_MODEL", "echo")
    monkeypatch.chdir(tmp_path)


def write_rows(path: Path, count: int, **change) -> str:
    made = [{"id": f"r{index}", "task": "svg", "prompt": f"heart {index}", **change} for index in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path.name


def test_a_batch_runs_says_how_it_stands_and_ends_with_its_status(capsys, tmp_path):
    name = write_rows(tmp_path / "jobs.jsonl", 3)
    assert main(["batch", "validate", name]) == 0
    assert capsys.readouterr().out == "3 rows, 0 of them wrong\n"
    assert main(["batch", "run", name, "-o", "out"]) == 0
    assert capsys.readouterr().out == "3 done, 0 failed, 0 left of 3 in out\n"
    assert main(["batch", "status", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"done": 3, "failed": 0, "left": 0, "total": 3, "out": "out"}
    write_rows(tmp_path / "jobs.jsonl", 4)
    assert main(["batch", "run", name, "-o", "out"]) == 2
    assert "begun with another input" in capsys.readouterr().err


def test_failed_rows_are_status_three(capsys, tmp_path):
    name = write_rows(tmp_path / "jobs.jsonl", 2, seed=-1)
    assert main(["batch", "run", name, "-o", "out", "--quiet"]) == 3
    write_rows(tmp_path / "jobs.jsonl", 2, sed=1)
    assert main(["batch", "validate", name, "--json"]) == 3
    last = json.loads(capsys.readouterr().out)
    assert last["rows"] == 2 and "did you mean 'seed'" in last["faults"][1]["error"]


def test_settings_choose_the_backend(capsys, monkeypatch, tmp_path):
    name = write_rows(tmp_path / "jobs.jsonl", 2)
    monkeypatch.setenv("DSV4_BACKEND", "clowd")
    assert main(["batch", "run", name, "-o", "out"]) == 2
    assert "unknown backend 'clowd'" in capsys.readouterr().err
    assert main(["batch", "run", name, "-o", "out", "--backend", "processes", "--workers", "1", "--quiet"]) == 0
    (tmp_path / "dsv4.toml").write_text("workers = 99\n")
    assert main(["batch", "run", name, "-o", "out"]) == 2
    assert "dsv4.toml: workers are a whole number from 0" in capsys.readouterr().err


def test_what_a_row_says_cannot_write_to_the_terminal(capsys, tmp_path):
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"id": "a", "task": "\x1b[2J\nline 9: fine"}) + "\n")
    assert main(["batch", "validate", "jobs.jsonl"]) == 3
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.count("\n") == 2 and "\\x1b[2J\\nline 9" in out


def test_results_are_exported_as_tables(capsys, tmp_path):
    rows = [
        {"id": "a", "task": "chat", "prompt": "=1+1"},
        {"custom_id": "b", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "x"}},
        {"id": "c", "task": "svg", "prompt": " "},
    ]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["batch", "run", "jobs.jsonl", "-o", "out", "--quiet"]) == 3
    for name in ("t.jsonl", "t.csv", "t.parquet"):
        assert main(["batch", "export", "out", "-o", name]) == 0
        assert capsys.readouterr().out == f"3 rows in {name}\n"
    in_lines = [json.loads(line) for line in (tmp_path / "t.jsonl").open()]
    assert [(row["id"], row["ok"], row["task"]) for row in in_lines] == [
        ("a", True, "chat"),
        ("b", True, "image"),
        ("c", False, "svg"),
    ]
    assert in_lines[1]["file"] == "files/b.png" and in_lines[2]["code"] == "invalid_request"
    cells = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert cells[0]["text"] == "'=1+1" and [row["id"] for row in cells] == ["a", "b", "c"]
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [(row["id"], row["text"]) for row in table] == [("a", "=1+1"), ("b", None), ("c", None)]
    assert main(["batch", "export", "out", "-o", "t.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 3, "file": "t.csv"}


SLOW_ECHO = """
import sys, time
from dsv4.echo import EchoStudio
svg = EchoStudio.svg
def slowly(self, *given, **settings):
    time.sleep(0.05)
    return svg(self, *given, **settings)
EchoStudio.svg = slowly
from app.cli import main
sys.exit(main(["batch", "run", "jobs.jsonl", "-o", "out"]))
"""


def slow_batch(tmp_path, python, python_environment, rows: int = 200) -> subprocess.Popen[str]:
    """A batch of the command line in another process, some rows of it done."""
    write_rows(tmp_path / "jobs.jsonl", rows)
    environment = {**python_environment, "DSV4_MODEL": "echo"}
    child = subprocess.Popen(
        [python, "-c", SLOW_ECHO], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "out" / "files").glob("*.svg")) and child.poll() is None:
        time.sleep(0.02)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_finishes_the_row_and_says_130(tmp_path, python, python_environment, number):
    child = slow_batch(tmp_path, python, python_environment)
    child.send_signal(number)
    out, error = child.communicate(timeout=60)
    assert child.returncode == 130, error
    assert "Traceback" not in error and "left of 200" in out
    assert main(["batch", "run", "jobs.jsonl", "-o", "out", "--quiet"]) == 0
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 200


def test_two_interrupts_stop_at_once_and_lose_nothing(tmp_path, python, python_environment, capsys):
    child = slow_batch(tmp_path, python, python_environment)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None and "once more stops" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in error
    assert main(["batch", "run", "jobs.jsonl", "-o", "out"]) == 0
    assert capsys.readouterr().out == "200 done, 0 failed, 0 left of 200 in out\n"


def test_the_shell_is_told_what_may_come_next(capsys, python, python_environment):
    def words(*given: str) -> list[str]:
        assert main(["completion", "--words", *given]) == 0
        return capsys.readouterr().out.split()

    assert "batch" in words("") and words("ba") == ["batch"]
    assert words("batch", "") == ["run", "status", "validate", "export"]
    assert words("batch", "run", "jobs.jsonl", "--re") == ["--retry-failed"]
    assert words("svg", "--s") == ["--seed"] and "--words" not in words("completion", "--")
    assert words("batch", "run", "") == []
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out.replace("$(dsv4 ", f"$('{python}' -m dsv4 ")
    asked = f'{script}\nCOMP_WORDS=(dsv4 batch st); COMP_CWORD=2; _dsv4; echo "${{COMPREPLY[@]}}"'
    run = subprocess.run(["bash", "-c", asked], env=python_environment, capture_output=True, text=True, timeout=60)
    assert run.stdout == "status\n", run.stderr


def test_the_doctor_finds_a_port_that_is_taken(capsys, monkeypatch):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("DSV4_PORT", str(taken.getsockname()[1]))
        assert main(["doctor", "--quiet"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("BAD  port") and out.count("\n") == 1 and "--port" in out
    monkeypatch.setenv("DSV4_PORT", "0")
    assert main(["doctor", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_measuring_programs_are_listed_and_run(capfd):
    assert main(["bench"]) == 0
    assert {"batch", "kill", "start", "verbs"} <= {line.split()[0] for line in capfd.readouterr().out.splitlines()}
    assert main(["bench", "verbs", "--model", "echo", "--runs", "1"]) == 0
    assert '"verb": "chat"' in capfd.readouterr().out
