"""Faults of the machine under a batch, in real processes: each is told, loses nothing that was done, and can be mended.

The numbers are those of the project's list of faults. A full disk and too little memory are simulated by limits of the
process. Killed processes, signals and damaged ledgers are tested with the command line, the backends and the ledger.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from bench.kill import content
from dsv4 import EchoStudio
from dsv4.batch import batch_status, run_batch

RUN = """
import sys
{before}
from app.cli import main
sys.exit(main(["batch", "run", "jobs.jsonl", "-o", "out", "--model", "echo"]))
"""


def rows(count: int, task: str = "svg") -> list[dict]:
    return [{"id": f"r{index}", "task": task, "prompt": f"thing {index}", "seed": index} for index in range(count)]


@pytest.fixture
def run(tmp_path, python, python_environment):
    """Run the command on these rows in another process, after the given lines."""

    def start(made: list[dict], before: str = "") -> subprocess.CompletedProcess[str]:
        jobs, text = tmp_path / "jobs.jsonl", "".join(json.dumps(row) + "\n" for row in made)
        if not jobs.exists() or jobs.read_text() != text:
            jobs.write_text(text)
        return subprocess.run(
            [python, "-c", RUN.format(before=before)],
            env=python_environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return start


def lines(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]


def test_f7_a_full_disk_stops_the_run_in_one_line_and_it_goes_on_later(run, tmp_path):
    made = [{**row, "prompt": row["prompt"] * 40} for row in rows(200)]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))"
    stopped = run(made, limit)
    assert stopped.returncode == 1, stopped.stderr
    assert stopped.stderr.count("\n") == 1 and stopped.stderr.startswith("dsv4: ")
    done = batch_status(tmp_path / "out").done
    assert 0 < done < 200
    assert run(made).returncode == 0
    run_batch(EchoStudio(), tmp_path / "jobs.jsonl", out=tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("place", ["/proc/out", "jobs.jsonl/out", "/dev/null"])
def test_f8_a_folder_that_cannot_be_written_is_status_two(tmp_path, monkeypatch, capsys, place):
    from app.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.jsonl").write_text(json.dumps(rows(1)[0]))
    assert main(["batch", "run", "jobs.jsonl", "-o", place, "--model", "echo"]) == 2
    error = capsys.readouterr().err
    assert "as output folder" in error and error.count("\n") == 1


def test_f9_a_second_process_is_told_who_holds_the_batch(run, tmp_path, python, python_environment):
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(3)))
    code = (
        "import sys, time\n"
        "from dsv4.batch import run_batch\n"
        "def wait(report):\n"
        "    print(report.done, flush=True)\n"
        "    sys.stdin.readline()\n"
        "run_batch('echo', 'jobs.jsonl', out='out', on_row=wait)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen([python, "-c", code], env=python_environment, cwd=tmp_path, **pipes)
    assert first.stdout is not None and first.stdout.readline() == "1\n"
    second = run(rows(3))
    assert second.returncode == 2
    assert f"another process is running the batch in 'out' (process {first.pid})" in second.stderr
    assert batch_status(tmp_path / "out").done == 1  # looking is allowed meanwhile
    first.communicate("\n\n\n", timeout=60)
    assert first.returncode == 0 and run(rows(3)).returncode == 0


GREEDY = """
import resource
from dsv4.echo import EchoStudio
svg = EchoStudio.svg
def greedy(self, prompt, **given):
    if prompt == "thing 2":
        bytearray(3 * 2**30)
    return svg(self, prompt, **given)
EchoStudio.svg = greedy
held = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, held + 2**30))
"""


def test_f13_a_row_that_needs_too_much_memory_is_one_error_row(run, tmp_path):
    ended = run(rows(5), GREEDY)
    assert ended.returncode == 3, ended.stderr
    assert [line["ok"] for line in lines(tmp_path)] == [True, True, False, True, True]
    bad = lines(tmp_path)[2]
    assert bad["code"] == "internal" and bad["error"].startswith("MemoryError") and bad["attempts"] == 2


def test_f23_f24_neither_clock_nor_time_zone_is_in_the_results(tmp_path, monkeypatch):
    clip = {"custom_id": "v", "url": "/v1/videos", "body": {"prompt": "x", "seconds": 0.5}}
    made = [*rows(4), clip]
    run_batch(EchoStudio(), made, out=tmp_path / "now")
    real = time.time()
    for jump in (86_400.0, -86_400.0, 2**31 - real + 5):
        moved = tmp_path / f"moved{jump}"
        monkeypatch.setattr(time, "time", lambda jump=jump: real + jump)
        run_batch(EchoStudio(), made, out=moved)
        assert content(moved) == content(tmp_path / "now")


NO_ENCODER = """
import av
real = av.open
def broken(*given, **settings):
    raise av.error.EncoderNotFoundError(1, "no H.264 here")
av.open = broken
"""


def test_f26_a_missing_encoder_costs_the_clips_alone(run, tmp_path):
    made = [*rows(2), {"id": "clip", "task": "video", "prompt": "x", "seconds": 0.5}]
    ended = run(made, NO_ENCODER)
    assert ended.returncode == 3, ended.stderr
    bad = lines(tmp_path)[2]
    assert not bad["ok"] and bad["code"] == "internal" and "no H.264 here" in bad["error"]


def test_f29_many_rows_leave_nothing_behind(tmp_path, monkeypatch):
    """Memory, open files and temporary files are back at their floor after hundreds of mixed rows."""
    from bench.kill import mixed_rows

    own = tmp_path / "temporary"  # what others on this machine put into the usual place says nothing here
    own.mkdir()
    monkeypatch.setenv("TMPDIR", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(own))

    def held() -> tuple[int, int]:
        statm = Path("/proc/self/statm").read_text().split()
        return int(statm[1]) * 4096, len(os.listdir("/proc/self/fd"))

    run_batch(EchoStudio(), mixed_rows(100), out=tmp_path / "first")
    before, temporary = held(), set(own.iterdir())
    run_batch(EchoStudio(), mixed_rows(400), out=tmp_path / "out")
    memory, files = held()
    assert memory - before[0] < 40e6 and files <= before[1]
    assert set(own.iterdir()) <= temporary
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "files", "ledger.lock", "ledger.sqlite", "results.jsonl",
    ]  # fmt: skip


def test_an_input_that_changes_under_the_run_is_noticed(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(6)))

    def change(report) -> None:
        if report.done == 2:
            path.write_text(path.read_text().replace("thing 5", "thing X"))
            os.utime(path, (1, 1))

    with pytest.raises(ValueError, match="was changed while"):
        run_batch(EchoStudio(), path, out=tmp_path / "out", on_row=change)
    with pytest.raises(ValueError, match="begun with another input"):
        run_batch(EchoStudio(), path, out=tmp_path / "out")
