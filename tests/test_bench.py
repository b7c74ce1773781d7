"""The measuring program measures every verb and prints lines that a program can read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_verb_is_timed(python, python_environment):
    command = [python, str(ROOT / "bench" / "verbs.py"), "--model", "echo", "--runs", "2"]
    run = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["verb"] for line in lines[1:]] == ["load", "chat", "svg", "image", "video"]
    assert all(0 < line["median"] <= line["slowest"] for line in lines[2:])
    assert lines[0]["cores"] >= 1


def test_the_eyes_are_measured_beside_another_port(python, python_environment, tmp_path):
    lines = tmp_path / "rows.jsonl"
    command = [python, "-m", "dsv4", "bench", "vision", "--against", "transformers", "--size", "micro", "--runs", "1"]
    command += ["--modes", "tiny,small", "--jsonl", str(lines)]
    run = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=True, timeout=280)
    table = [row.split("|") for row in run.stdout.splitlines()[1:]]
    assert [row[0].strip() for row in table] == ["mode", "tiny", "small"] and len({len(row) for row in table}) == 1
    listed = subprocess.run([python, "-m", "dsv4", "bench"], env=python_environment, capture_output=True, text=True)
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"verbs", "vision"}
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["tokens"] for row in rows] == [73, 111]
    assert all(0 <= row["apart"] <= 3e-6 and row["ours"][0][0] > 0 and row["peer"][0][0] > 0 for row in rows)


def test_the_hands_are_timed(python, python_environment):
    command = [python, str(ROOT / "bench" / "hands.py"), "--model", "echo", "--runs", "1"]
    run = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line.get("what") for line in lines if line["row"] == 12] == ["picture", "clip"]
    (mask,) = [line for line in lines if "ours_us" in line]
    assert mask["tokens"] > 900 and 0 < mask["ours_us"] < 1000
    assert all(line["met"] for line in lines if line["row"] == 12)
