"""Faults under the studio, in real processes: each ends in words or in the same result, and the next request works.

The numbers are those of the project's list of faults. `docs/faults.md` says which test holds which, and which of them
are simulated.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import app.server as servers
from app import house as houses
from app.cli import main
from app.house import House
from app.store import NAME, Store
from dsv4 import InputError
from tests.app.studios import Faulty, Late, SlowStudio, Weights
from tests.app.test_house import running, until
from tests.browser.walk import served

CHAT, IMAGE, VIDEO = "/v1/chat/completions", "/v1/images/generations", "/v1/videos"
ROOT = Path(__file__).resolve().parents[2]


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@contextmanager
def client_of(factory: Any, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server on `factory` whose model is there."""
    with served(factory, **options) as address, httpx.Client(base_url=address, timeout=30) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client
        assert client.post(CHAT, json=said("next")).json()["choices"][0]["message"]["content"] == "next"


CHILD = """
import sys, time
from pathlib import Path
from app.house import House
from tests.app.studios import SlowStudio
if __name__ == "__main__":
    house = House(Path(sys.argv[1]), SlowStudio, name="echo")
    house.start()
    talk = house.talks.begin("me")
    answer = house.say(talk, "me", "slow " + " ".join(f"w{n}" for n in range(400)))
    jobs = [house.submit(kind, {"prompt": f"slow {kind}"}, owner="you") for kind in ("video", "image", "svg")]
    print(talk.id, answer.id, *(job.id for job in jobs), flush=True)
    time.sleep(600)
"""


def test_f1_f2_a_server_that_is_killed_keeps_the_words_and_does_the_work_again(tmp_path, over):
    (tmp_path / "child.py").write_text(CHILD)
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "home")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert child.stdout is not None
    talk, answer, *jobs = child.stdout.readline().split()
    until(lambda: "w9" in words_in(tmp_path / "home", answer), 40)
    child.send_signal(signal.SIGKILL)
    child.wait()
    house = House(tmp_path / "home", SlowStudio, name="echo")
    last = house.talks.page(house.talks.get(talk, "me"))[-1]
    assert last.state == "failed" and last.text.startswith("slow w0 w1") and "interrupted" in last.meta["error"]
    assert [house.jobs.get(name).state for name in jobs] == ["queued"] * 3 and not list(
        house.media.folder.glob("*/*/*")
    )
    house.start()
    retried = house.answer_again(house.talks.get(talk, "me"), "me", last)
    house.cancel(retried.id, "me")
    assert [over(house, house.jobs.get(name)).state for name in jobs] == ["done"] * 3
    assert house.store.sound() and len(list(house.media.folder.glob("*/*/*"))) == 3
    house.close()


def words_in(home: Path, job: str) -> str:
    """What an answer has said so far, read beside the process that writes it."""
    if not (home / NAME).is_file():
        return ""
    with sqlite3.connect(home / NAME) as connection:
        try:
            rows = connection.execute(
                "SELECT data FROM event JOIN job ON job.seq = event.job WHERE job.id = ? AND event.kind = 'text'",
                (job,),
            ).fetchall()
        except sqlite3.OperationalError:
            return ""
    return "".join(json.loads(data)["delta"] for (data,) in rows)


def test_f7_a_full_disk_is_507_and_work_goes_on_when_there_is_room(monkeypatch):
    """Simulated: SQLite is told that its file may grow no more."""
    kept: list[House] = []
    monkeypatch.setattr(houses.House, "start", lambda self, begin=houses.House.start: (kept.append(self), begin(self)))
    with client_of(SlowStudio) as client:
        store = kept[0].store
        before = store.rows("PRAGMA max_page_count")[0]["max_page_count"]
        store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        (pages,) = store.rows("PRAGMA page_count")
        store.rows(f"PRAGMA max_page_count = {pages['page_count']}")
        refused = client.post(IMAGE, json={"prompt": "tiger " * 3000})
        assert refused.status_code == 507 and refused.json()["error"]["code"] == "disk_full"
        store.rows(f"PRAGMA max_page_count = {before}")
        assert client.post(IMAGE, json={"prompt": "tiger"}).status_code == 200 and store.sound()


def test_f8_f28_a_folder_or_port_that_cannot_be_used_is_status_two(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["serve", "--model", "echo", "--port", "0", "--home", str(tmp_path / "file")]) == 2
    assert "--home" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", "echo", "--port", port, "--home", str(tmp_path / "home")]) == 2
    assert "try another one with --port" in capsys.readouterr().err


def test_f10_a_damaged_or_lost_database_is_told_and_never_replaced(tmp_path):
    house = House(tmp_path, SlowStudio, name="echo")
    house.media.keep(b"x" * 100, owner="me", name="a.png", suffix=".png", purpose="made")
    house.store.close()
    whole = (tmp_path / NAME).read_bytes()
    for damage in (whole[: len(whole) // 2 + 100], b"", None):
        (tmp_path / NAME).unlink(missing_ok=True)
        if damage is not None:
            (tmp_path / NAME).write_bytes(damage)
        with pytest.raises(InputError, match="begin anew|in its place"):
            Store(tmp_path)
        assert damage is None or (tmp_path / NAME).read_bytes() == damage
    (tmp_path / NAME).write_bytes(whole)
    store = Store(tmp_path)
    assert store.row("SELECT count(*) AS n FROM media") == {"n": 1} and store.sound()
    store.close()


def test_f13_f14_f15_f26_a_machine_that_fails_costs_one_request():
    """Memory is limited for real; a full and a lost accelerator and a missing codec are simulated by what is raised."""
    with client_of(Faulty) as client:
        hog = client.post(IMAGE, json={"prompt": "hog"})
        assert hog.status_code == 507 and "memory" in hog.json()["error"]["message"]
        assert client.post(IMAGE, json={"prompt": "full always"}).status_code == 507
        assert client.post(IMAGE, json={"prompt": "full once, tried again"}).status_code == 200
        codec = client.post(IMAGE, json={"prompt": "no codec"})
        assert codec.status_code == 400 and "no encoder" in codec.json()["error"]["message"]
        gone = client.post(IMAGE, json={"prompt": "gone"})
        assert gone.status_code == 500 and "broke" in gone.json()["error"]["message"]
        assert client.post(IMAGE, json={"prompt": "a new process"}).status_code == 200


def test_f15_pictures_of_no_numbers_are_no_pictures(monkeypatch):
    import torch

    import generation
    from dsv4.studio import Studio

    studio = Studio.load("nano")
    bad = torch.full((1, 3, 1, 64, 64), float("nan"))
    monkeypatch.setattr(generation, "sample_flow", lambda *_, **__: bad)
    with pytest.raises(RuntimeError, match="no pixels"):
        studio.image("a tiger")
    monkeypatch.undo()
    assert studio.image("a tiger", steps=1, size=64).array.shape == (64, 64, 3)


def test_f16_weights_that_change_under_a_running_server_are_not_taken(tmp_path):
    (tmp_path / "weights").write_text("one")
    house = House(tmp_path / "home", Weights(tmp_path / "weights"), name="echo")
    house.start()
    until(lambda: house.keeper.state == "ready")
    (tmp_path / "weights").write_text("two")
    os.kill(house.keeper.pid or 0, signal.SIGKILL)
    until(lambda: house.keeper.state == "failed")
    with pytest.raises(InputError, match="weights were changed"):
        house.submit("svg", {"prompt": "x"}, owner="me")
    house.close()


def test_f17_who_leaves_stops_nothing_and_leaves_nothing_behind():
    with client_of(SlowStudio) as client:
        with client.stream("POST", CHAT, json=said("slow " * 12, stream=True)) as stream:
            name = json.loads(next(line for line in stream.iter_lines() if line.startswith("data:"))[5:])["id"]
        whole = client.get(f"{CHAT}/{name}").json()  # waits for the end of what nobody follows
        assert whole["choices"][0]["message"]["content"] == ("slow " * 12).strip()
        port = int(str(client.base_url).rsplit(":", 1)[1].strip("/"))
        for head in (f"POST {IMAGE} HTTP/1.1", "POST /v1/files HTTP/1.1"):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                kind = "application/json" if "images" in head else "multipart/form-data; boundary=x"
                raw.sendall(f"{head}\r\nHost: localhost\r\nContent-Type: {kind}\r\n".encode())
                raw.sendall(b"Content-Length: 9999\r\n\r\n--x\r\n")
        assert client.get("/v1/files").json()["data"] == []


def test_f19_who_reads_slowly_slows_nobody():
    with client_of(SlowStudio) as client:
        port = int(str(client.base_url).rsplit(":", 1)[1].strip("/"))
        body = json.dumps(said("word " * 3500, stream=True)).encode()
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            raw.connect(("127.0.0.1", port))
            raw.sendall(
                f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            begun = time.monotonic()
            for _ in range(3):
                assert client.post(IMAGE, json={"prompt": "a tiger", "steps": 1}).status_code == 200
            assert time.monotonic() - begun < 10


def test_f21_f22_cancelling_works_at_every_phase_and_twice(tmp_path, over):
    gate = tmp_path / "gate"
    loading = House(tmp_path / "loading", Late(gate), name="echo")
    loading.start()
    early = loading.submit("image", {"prompt": "x"}, owner="me")
    assert loading.cancel(early.id, "me").state == "cancelled"
    gate.write_text("open")
    assert over(loading, loading.submit("svg", {"prompt": "x"}, owner="me")).state == "done"
    loading.close()
    house = House(tmp_path / "home", SlowStudio, name="echo")
    house.start()
    for step in (1, 3, 4):  # begun, in the middle, and while what was made is encoded and kept
        job = house.submit("video", {"prompt": "slow ball", "steps": 4}, owner="me")
        until(lambda job=job, step=step: house.jobs.get(job.id).step >= step)
        house.cancel(job.id, "me")
        house.cancel(job.id, "me")
        ended = over(house, job)
        assert ended.state == "cancelled" or step == 4  # at its last step it may be done first
        assert len(house.made(ended)) == (ended.state == "done")
        assert house.cancel(job.id, "me").state == ended.state
    assert list(house.media.work.iterdir()) == [] and house.store.sound()
    house.close()


def test_f23_a_clock_that_jumps_changes_no_order(house, over, monkeypatch):
    """Simulated: the wall clock of this process jumps; leases and turns do not look at it."""
    real = time.time
    first = house.submit("image", {"prompt": "slow one"}, owner="me")
    running(house, first)
    names = []
    for jump in (86_400.0, -86_400.0, 2**31 - real()):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        names.append(house.submit("svg", {"prompt": "later"}, owner="me"))
    assert [house.jobs.place(job) for job in names] == [0, 1, 2] or house.jobs.get(first.id).over
    done = [over(house, job) for job in (first, *names)]
    assert {job.state for job in done} == {"done"} and all(job.seconds >= 0 for job in done)
    assert [job.id for job in house.jobs.list("me")] == [job.id for job in (*names[::-1], first)]


def test_f27_programs_are_served_when_the_page_cannot_be_built(monkeypatch):
    def broken(_: House) -> None:
        raise ImportError("no page today")

    monkeypatch.setattr(servers, "build_page", broken)
    with client_of(SlowStudio) as client:
        page = client.get("/")
        assert page.status_code == 503 and "The API works" in page.text
        assert client.get("/docs").status_code == 200


def test_f28_the_other_kind_of_address_is_served():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        listening = servers.bind("::1", 0)
    except InputError:
        pytest.skip("this machine has no address ::1")
    with listening:
        assert listening.family == socket.AF_INET6


def test_f18_two_tabs_on_one_conversation_lose_and_double_nothing(house, over):
    """Each tab follows from the last event that it saw; what both say is kept; of two changes the later one counts."""
    talk = house.talks.begin("me")
    words = "slow " + " ".join(f"w{n}" for n in range(30))
    job = house.say(talk, "me", words)
    until(lambda: "w3" in house.jobs.text(job))
    seen: dict[str, list[Any]] = {"stays": house.jobs.events(job), "closes": house.jobs.events(job)}
    until(lambda: "w9" in house.jobs.text(job))  # the second tab is closed here, and opened again later
    seen["stays"] += house.jobs.events(job, seen["stays"][-1].seq)
    over(house, job)
    for events in seen.values():
        events += house.jobs.events(job, events[-1].seq)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert "".join(event.data["delta"] for event in events if event.kind == "text") == words
    head = house.talks.get(talk.id, "me").head
    both = [house.say(talk, "me", text, parent=head) for text in ("from one tab", "from the other")]
    assert [over(house, one).state for one in both] == ["done", "done"]
    page = house.talks.page(house.talks.get(talk.id, "me"))
    assert [said.text for said in page][-1] == "from the other" and page[-2].branches == 2
    house.talks.turn(page[-2], -1)
    assert house.talks.page(house.talks.get(talk.id, "me"))[-1].text == "from one tab"
    asset = house.made(over(house, house.submit("svg", {"prompt": "x"}, owner="me")))[0]
    for star in (True, True, False):
        house.media.star(asset.id, "me", star)
    assert not house.media.get(asset.id, "me").star
