"""The soak in short, on a server in this process: fair turns, and nothing left behind. `dsv4 bench soak` is longer."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app.door import Door
from bench.soak import Held, Work, busy, left_behind, settled
from dsv4 import EchoStudio
from tests.browser.walk import served

PEOPLE = {f"person{number}": f"a-long-secret-{number}" for number in range(8)}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads open files from /proc")
def test_many_people_get_fair_turns_and_nothing_is_left_behind(tmp_path):
    with served(EchoStudio, home=tmp_path / "home", door=Door(PEOPLE)) as address:
        busy(address, PEOPLE, 80)
        before, threads = settled([os.getpid()], tmp_path / "home"), threading.active_count()
        for _ in range(2):  # a crowded machine may hold an asking thread back once; a queue without turns does always
            work = busy(address, PEOPLE, 240)
            after = settled([os.getpid()], tmp_path / "home")
            if left_behind(before, after, work) != ["somebody had to wait"]:
                break
    assert sum(work.done.values()) == 240 and sum(work.half.values()) == 120
    assert left_behind(before, after, work) == [] and threading.active_count() <= threads


def test_what_is_left_behind_is_told():
    floor = Held(memory=100, files=10, threads=4, temporary=0)
    fair = Work(total=4, half={"a": 1, "b": 1})
    assert left_behind(floor, floor, fair) == []
    worse = Held(memory=200, files=20, threads=9, temporary=3)
    assert len(left_behind(floor, worse, Work(total=8, half={"a": 4, "b": 1}, failed=["x"]))) == 6
