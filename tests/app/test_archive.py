"""An archive brings everything to another studio; one that is wrong leaves nothing; limits of keeping are held."""

from __future__ import annotations

import errno
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.archive import read_archive, write_archive
from app.house import House
from app.retention import let_go
from dsv4 import EchoStudio, InputError
from dsv4.limits import ARCHIVE_FILES
from tests.browser.walk import served


@pytest.fixture
def lived(house, over, tmp_path) -> tuple[House, Path]:
    """A house where something was said and made, and its archive."""
    talk = house.talks.begin("me")
    over(house, house.say(talk, "me", "/image a tiger"))
    head = house.talks.get(talk.id, "me").head
    over(house, house.say(house.talks.get(talk.id, "me"), "me", "edited", parent=None))
    over(house, house.say(house.talks.get(talk.id, "me"), "me", "what is it", parent=head))
    over(house, house.submit("svg", {"prompt": "a heart", "seed": 7}, owner="me"))
    house.media.star(house.media.find("me", kind="svg")[0].id, "me", True)
    return house, write_archive(house, "me", tmp_path / "all.zip")


def test_everything_comes_to_another_studio_and_may_come_twice(lived, tmp_path):
    house, path = lived
    other = House(tmp_path / "other", EchoStudio, name="echo")
    for times in (1, 2):
        counts = read_archive(other, "you", path)
        assert counts == {"conversations": 1, "messages": 6, "files": 2}
        assert len(other.talks.list("you")) == times and len(other.media.find("you")) == 2 * times
    (before,), after = house.talks.list("me"), other.talks.list("you")[0]
    pages = [[(one.role, one.text, one.branch, len(one.shown)) for one in at.talks.page(talk)]
             for at, talk in ((house, before), (other, after))]  # fmt: skip
    assert pages[0] == pages[1] and len(pages[0]) == 4
    drawing = other.media.find("you", kind="svg", starred=True)[0]
    assert (
        drawing.made_by["seed"] == 7
        and drawing.path.read_bytes() == house.media.find("me", kind="svg")[0].path.read_bytes()
    )
    assert write_archive(other, "me", tmp_path / "none.zip").stat().st_size < 500
    other.close()


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with other contents."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return kept.getvalue()


def table(change: Callable[[dict], object]) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        told = json.loads(files["studio.json"])
        change(told)
        files["studio.json"] = json.dumps(told).encode()

    return apply


def first(files: dict[str, bytes]) -> str:
    return next(name for name in files if name.startswith("media/"))


def link(path: Path) -> bytes:
    kept = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(kept, "a") as archive:
        one = zipfile.ZipInfo(f"media/{'0' * 64}.png")
        one.external_attr = 0o120777 << 16
        archive.writestr(one, "/etc/passwd")
    return kept.getvalue()


def twice(path: Path) -> bytes:
    kept = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(kept, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("studio.json", "{}")
    return kept.getvalue()


def torn(path: Path) -> bytes:
    """The archive with its table's compressed bytes made nonsense."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("studio.json").header_offset + 30 + len("studio.json")
    content[start : start + 8] = b"\xff" * 8
    return bytes(content)


WRONG = {
    "slip": (lambda files: files.update({"../../evil": b"x"}), "no archive of a studio"),
    "absolute": (lambda files: files.update({"/etc/x": b"x"}), "no archive of a studio"),
    "42": (lambda files: files.update({f"media/{'0' * 64}.png": b"\0" * 50_000_000}), "far more than it is"),
    "many": (lambda files: files.update({f"media/{n:064x}.png": b"" for n in range(ARCHIVE_FILES)}), "files; at most"),
    "other bytes": (lambda files: files.update({first(files): b"x"}), "is not what it was"),
    "missing": (lambda files: files.pop(first(files)), "lacks the file"),
    "no table": (lambda files: files.pop("studio.json"), "no studio.json"),
    "broken table": (lambda files: files.update({"studio.json": b"[" * 100_000}), "no studio.json"),
    "another form": (table(lambda told: told.update(form=9)), "not of form 1"),
    "a stray": (table(lambda told: told["messages"][0].update(talk="talk_x")), "belongs nowhere"),
    "a role": (table(lambda told: told["messages"][0].update(role="system")), "belongs nowhere"),
    "a purpose": (table(lambda told: told["media"][0].update(purpose="batch")), "a file of kind"),
    "a type": (table(lambda told: told["media"][0].update(suffix="../x")), "a file of kind"),
    "a row": (table(lambda told: told["talks"].append(7)), "a row in talks"),
    "an id twice": (table(lambda told: told["media"].append(told["media"][0])), "an id in media twice"),
    "no list": (table(lambda told: told.update(media={})), "no list of media"),
}


def test_an_archive_that_is_wrong_leaves_nothing_behind(lived, tmp_path):
    _, path = lived
    wrong = {name: (rewritten(path, change), says) for name, (change, says) in WRONG.items()}  # 78
    wrong |= {"a link": (link(path), "a link"), "twice": (twice(path), "twice"), "none": (b"PK", "not an archive"),
              "torn": (torn(path), "not an archive")}  # fmt: skip
    with served(EchoStudio) as address, httpx.Client(base_url=address, timeout=30) as client:
        for name, (content, says) in wrong.items():
            refused = client.post("/v1/archive", files={"file": ("a.zip", content)})
            assert refused.status_code == 422 and says in refused.json()["error"]["message"], (name, refused.text)
            assert client.get("/v1/files").json()["data"] == [], name
        assert client.post("/v1/archive", json={}).status_code == 415
        good = client.post("/v1/archive", files={"file": ("a.zip", path.read_bytes())})
        assert good.json() == {"object": "archive", "conversations": 1, "messages": 6, "files": 2}
        again = client.get("/v1/archive")
        assert again.headers["content-type"] == "application/zip"
        assert len(zipfile.ZipFile(io.BytesIO(again.content)).namelist()) == 3


def test_a_full_disk_is_not_the_fault_of_the_archive(lived, tmp_path, monkeypatch):
    _, path = lived
    other = House(tmp_path / "other", EchoStudio, name="echo")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        read_archive(other, "you", path)
    monkeypatch.undo()
    assert other.media.find("you") == [] and list(other.media.work.iterdir()) == []
    other.close()


def test_what_is_old_goes_when_that_was_asked_for_and_stars_stay(lived, monkeypatch):
    house, _ = lived
    loose = house.media.keep(b"x" * 1000, owner="me", name="a.png", suffix=".png", purpose="made")
    assert let_go(house, days=0, gigabytes=0) == (0, 0) and let_go(house, days=3, gigabytes=1) == (0, 0)
    monkeypatch.setattr("app.retention._held", lambda _: 2 * 10**9)
    assert let_go(house, days=0, gigabytes=1) == (0, 1)
    with pytest.raises(InputError):
        house.media.get(loose.id, "me")
    later = time.time() + 4 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert let_go(house, days=3, gigabytes=0) == (1, 1)
    assert [asset.kind for asset in house.media.find("me")] == ["svg"] and house.talks.list("me") == []
