"""Many mixed jobs by several people on one server: does it end where it began, did everybody get their turns?

Run `dsv4 bench soak [--jobs 1000] [--users 8] [--model echo]`. A real `dsv4 serve` is warmed up, measured, kept busy
and measured again: memory, open files and threads of its processes, temporary files, and how far apart people were when
half of the work was done. The first of them asks for four times as much at once as the others. Status 1 when something
was left behind or somebody had to wait.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

MEGABYTES, FEWER = (
    64,
    0.5,
)  # that memory may grow by; the share of the busiest that everybody must have had by half-time
CHAT, IMAGE, VIDEO = "/v1/chat/completions", "/v1/images/generations", "/v1/videos"
AT_ONCE, GREEDY = 4, 16  # requests of one person, and of the first one


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a server holds: megabytes, open files and threads of its processes, temporary files."""

    memory: float
    files: int
    threads: int
    temporary: int


@dataclass
class Work:
    """What came of the jobs: how many by each person, at half-time too, how long each took, and what failed."""

    total: int
    done: dict[str, int] = field(default_factory=dict)
    half: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def over(self, user: str, seconds: float, fault: str) -> None:
        """One more."""
        with self.lock:
            self.done[user] = self.done.get(user, 0) + 1
            self.seconds.append(seconds)
            if fault:
                self.failed.append(fault)
            if sum(self.done.values()) == self.total // 2:
                self.half = dict(self.done)


def request(number: int) -> tuple[str, dict[str, Any]]:
    """(address, body) of a job: four kinds in turn, a stream among them."""
    words = f"thing {number}"
    said = {"messages": [{"role": "user", "content": f"what is {words}?"}], "max_tokens": 24}
    return (
        (CHAT, said),
        (IMAGE, {"prompt": words, "output_format": "svg", "seed": number, "max_tokens": 120}),
        (IMAGE, {"prompt": words, "seed": number, "size": "64x64", "steps": 4}),
        (VIDEO, {"prompt": words, "seconds": "0.5", "steps": 4}),
        (CHAT, {**said, "stream": True}),
    )[number % 5]


def ask(client: httpx.Client, number: int) -> str:
    """Do a job to its end; returns what was wrong, or nothing."""
    url, body = request(number)
    answer = client.post(url, json=body)
    if answer.status_code == 200 and url == VIDEO:
        name = answer.json()["id"]
        answer = client.get(f"/v1/jobs/{name}/events")
        if "event: done" not in answer.text:
            return f"{url}: {answer.text[-200:]}"
    return "" if answer.status_code == 200 else f"{url}: {answer.text[:200]}"


def busy(address: str, people: Mapping[str, str], jobs: int) -> Work:
    """All jobs, shared among people who each ask for some at once."""
    work, numbers = Work(total=jobs), iter(range(jobs))
    shares = {user: [] for user in people}
    for number, user in zip(numbers, [*people] * jobs, strict=False):
        shares[user].append(number)

    def person(user: str, secret: str, mine: list[int]) -> None:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        with httpx.Client(base_url=address, timeout=300, headers=headers) as client:
            for number in mine:
                begun = time.monotonic()
                try:
                    fault = ask(client, number)
                except httpx.HTTPError as error:
                    fault = f"{type(error).__name__}: {error}"
                work.over(user, time.monotonic() - begun, fault)

    threads = []
    for place, (user, mine) in enumerate(shares.items()):
        apart = AT_ONCE if place else GREEDY
        threads += [
            threading.Thread(target=person, args=(user, people[user], mine[start::apart])) for start in range(apart)
        ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return work


def held(pids: list[int], folder: Path) -> Held:
    """What these processes hold now, and the files in the folder's `work` and in its own place for temporary files."""
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    told = [{line.split(":")[0]: line.split(":")[1].split()[0] for line in text.splitlines() if ":" in line and
             line.split(":")[1].split()} for text in status]  # fmt: skip
    return Held(
        memory=sum(int(one["VmRSS"]) for one in told) / 1024,
        files=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
        threads=sum(int(one["Threads"]) for one in told),
        temporary=sum(1 for place in ("work", "tmp") for _ in (folder / place).glob("*")),
    )


def settled(pids: list[int], folder: Path) -> Held:
    """The same once nothing changes any more: connections close a moment after their client."""
    before = held(pids, folder)
    for _ in range(30):
        time.sleep(0.5)
        now = held(pids, folder)
        if (now.files, now.threads, now.temporary) == (before.files, before.threads, before.temporary):
            return now
        before = now
    return before


def tree(pid: int) -> list[int]:
    """A process and those that it started."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):  # a child belongs to the thread that started it
            found += [int(child) for child in children.read_text().split()]
    return found


@contextmanager
def serving(folder: Path, model: str, people: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """A server of its own on a folder, with its own place for temporary files: (address, process)."""
    users, temporary = folder / "users", folder / "tmp"
    users.write_text("".join(f"{name}:{secret}\n" for name, secret in people.items()))
    users.chmod(0o600)
    temporary.mkdir()
    command = [sys.executable, "-m", "dsv4", "serve", "--port", "0", "--model", model]
    child = subprocess.Popen(
        [*command, "--home", str(folder), "--users", str(users)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        address = next(line for line in child.stdout if line.startswith("Open http")).split()[1]
        headers = {"authorization": f"Bearer {next(iter(people.values()))}"}
        while httpx.get(f"{address}/readyz", headers=headers).status_code != 200:
            time.sleep(0.2)
        yield address, child.pid
    finally:
        child.terminate()
        child.wait()


def table(before: Held, after: Held, work: Work, seconds: float) -> list[str]:
    """The lines of the table."""
    rows = [("memory, MB", f"{before.memory:.0f}", f"{after.memory:.0f}")]
    rows += [
        (words, str(getattr(before, name)), str(getattr(after, name)))
        for name, words in (("files", "open files"), ("threads", "threads"), ("temporary", "temporary files"))
    ]
    lines = ["| | after the warm-up | after the jobs |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    spent, half = sorted(work.seconds), sorted(work.half.values())
    middle, late = spent[len(spent) // 2], spent[int(len(spent) * 0.99)]
    lines += [
        "",
        f"{work.total} jobs in {seconds:.0f} s, {len(work.failed)} failed. A job took {middle:.2f} s in the middle and "
        f"{late:.2f} s at the 99th of 100. At half-time each person had {half[0]} to {half[-1]} done.",
    ]
    return lines


def left_behind(before: Held, after: Held, work: Work) -> list[str]:
    """What is not as it should be."""
    half = sorted(work.half.values()) or [0]
    checks = (
        (not work.failed, f"{len(work.failed)} jobs failed: {work.failed[:2]}"),
        (after.memory <= before.memory + MEGABYTES, "memory grew"),
        (after.files <= before.files + 2, "files were left open"),
        (after.threads <= before.threads + 2, "threads were left"),
        (after.temporary <= before.temporary, "temporary files were left"),
        (half[0] >= FEWER * half[-1], "somebody had to wait"),
    )
    return [words for fine, words in checks if not fine]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--model", default="echo")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    people = {f"person{number}": f"a-long-secret-{number}" for number in range(args.users)}
    with tempfile.TemporaryDirectory(prefix="dsv4-soak-") as name:
        folder = Path(name)
        with serving(folder, args.model, people) as (address, pid):
            busy(address, people, max(100, args.jobs // 5))
            before, begun = settled(tree(pid), folder), time.monotonic()
            work = busy(address, people, args.jobs)
            seconds = time.monotonic() - begun
            after = settled(tree(pid), folder)
    wrong = left_behind(before, after, work)
    if args.json:
        print(json.dumps({"before": vars(before), "after": vars(after), "half": work.half, "seconds": seconds}))
    else:
        print("\n".join(table(before, after, work, seconds)))
    for words in wrong:
        print(f"soak: {words}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
