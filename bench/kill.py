"""Kill a batch, or its workers, at random moments, and see that it ends in the bytes of an undisturbed run.

Run `python bench/kill.py [--rows 400] [--kills 50] [--backend local|processes|ray]`; it prints one JSON object and
ends with status 1 if a line is missing, doubled or different. Rows are of every task and both forms, some are wrong.
`--what worker` lets the run live and kills the processes that make its rows; `workers` are those that were seen, so
more than two of them say that dead ones were replaced. Echo's rows are done before much can be killed: `--model nano`.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dsv4 import InputError
from dsv4.batch import batch_status

RUN = """
import sys, time
from dsv4.batch import run_batch
slow = {"on_row": lambda report: time.sleep(0.02)}  # else the rows are done before anybody can kill
if __name__ == "__main__":  # workers that are started anew import this file
    model, jobs, out, backend = sys.argv[1:]
    run_batch(model, jobs, out=out, backend=backend, workers=2, batch_size=4, seed=7, **slow)
"""
HERE = Path(__file__).resolve().parents[1]
WORKER = ("spawn_main", "ray::MapWorker", "MapBatches(RayWorker)")  # what the names of processes that make rows hold


def mixed_rows(count: int) -> list[dict[str, Any]]:
    """Rows of every task in turn, every second one in OpenAI's form, one in ten that cannot be run."""
    from PIL import Image

    kept = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(kept, "PNG")
    address = "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode()
    rows: list[dict[str, Any]] = []
    for index in range(count):
        prompt = " " if index % 10 == 9 else f"thing number {index}"
        task = ("chat", "svg", "image", "video")[index // 2 % 4]
        if index % 2:
            row: dict[str, Any] = {"id": f"row-{index}", "task": task, "prompt": prompt}
            rows.append({**row, **({"seconds": 0.5} if task == "video" else {})})
            continue
        parts = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": address}}]
        url, body = {
            "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]}),
            "svg": ("/v1/images/generations", {"prompt": prompt, "output_format": "svg"}),
            "image": ("/v1/images/generations", {"prompt": prompt, "size": "64x64", "output_format": "webp"}),
            "video": ("/v1/videos", {"prompt": prompt, "seconds": "0.5"}),
        }[task]
        rows.append({"custom_id": f"row-{index}", "method": "POST", "url": url, "body": body})
    return rows


def settled(out: Path) -> int:
    """How many rows have their line."""
    try:
        report = batch_status(out)
    except (InputError, OSError):  # not begun yet, or just being begun
        return 0
    return report.done + report.failed


def content(out: Path) -> dict[str, bytes]:
    """Every result file with its bytes."""
    paths = [out / "results.jsonl", *sorted((out / "files").iterdir())]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def killed_run(child: subprocess.Popen[bytes], out: Path, rows: int, chance: random.Random, patience: float) -> bool:
    """Kill the child after a few more rows, or at any moment from its start on; False when it was done before."""
    begun, moment = time.monotonic(), chance.uniform(0, min(patience, 0.6))
    goal = settled(out) + chance.randint(1, max(1, rows // 60)) if chance.random() < 0.75 else None
    while child.poll() is None:
        if goal is None and time.monotonic() - begun > moment or goal is not None and settled(out) >= goal:
            break
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.03))
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return child.returncode == -signal.SIGKILL


def workers_of(driver: int) -> list[int]:
    """The processes below `driver` that make rows, by number; those of Ray are children of its own children."""
    parents, named = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # gone meanwhile
            continue
        if any(word in name for word in WORKER):
            named.append(int(folder.name))

    def below(pid: int) -> bool:
        return pid == driver or pid in parents and below(parents[pid])

    return sorted(pid for pid in named if below(pid))


def kill_workers(child: subprocess.Popen[bytes], out: Path, rows: int, kills: int, chance: random.Random):
    """Kill one worker after the other at even shares of the rows; returns those killed and all that were seen."""
    killed: list[int] = []
    seen: set[int] = set()
    while child.poll() is None:
        found = workers_of(child.pid)
        seen.update(found)
        left = [pid for pid in found if pid not in killed]
        if left and len(killed) < kills and 0 < rows * (len(killed) + 1) // (kills + 1) <= settled(out) < rows:
            killed.append(chance.choice(left))
            os.kill(killed[-1], signal.SIGKILL)
        time.sleep(0.05)
    return killed, seen


def main() -> int:
    """Run undisturbed, run disturbed, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--backend", default="local")
    parser.add_argument("--what", choices=("run", "worker"), default="run")
    parser.add_argument("--model", default="echo")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance, started = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        jobs, whole, out = (Path(folder) / name for name in ("jobs.jsonl", "whole", "killed"))
        jobs.write_text("".join(json.dumps(row) + "\n" for row in mixed_rows(args.rows)))

        script = Path(folder) / "run.py"
        script.write_text(RUN)
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))}

        def run(into: Path, backend: str) -> subprocess.Popen[bytes]:
            program = [sys.executable, str(script), args.model, str(jobs), str(into), backend]
            return subprocess.Popen(program, start_new_session=True, env={**os.environ, **paths})

        begun = time.monotonic()
        run(whole, "local").wait()
        patience, kills, seen = time.monotonic() - begun, 0, set[int]()
        last = None
        if args.what == "worker":
            last = run(out, args.backend)
            killed, seen = kill_workers(last, out, args.rows, args.kills, chance)
            kills = len(killed)
        else:
            for _ in range(args.kills):
                kills += killed_run(run(out, args.backend), out, args.rows, chance, patience)
        last = last or run(out, args.backend)
        status, lines = last.wait(), [json.loads(line) for line in (out / "results.jsonl").open()]
        with sqlite3.connect(out / "ledger.sqlite") as ledger:
            sound = ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        ids = {line.get("custom_id", line["id"]) for line in lines}
        same = content(out) == content(whole)
    found = {"rows": args.rows, "model": args.model, "backend": args.backend, "killed": args.what, "kills": kills}
    found |= {"workers": len(seen)} if args.what == "worker" else {}
    found |= {"lines": len(lines), "ids": len(ids)}
    found |= {"same_bytes": same, "ledger_sound": sound, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(found))
    return int(not (same and sound and status == 0 and len(lines) == len(ids) == args.rows))


if __name__ == "__main__":
    sys.exit(main())
