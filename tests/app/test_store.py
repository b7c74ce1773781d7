"""The database and the media: what survives, what is refused, and in which words."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from app import store as stores
from app.media import Media, clean_name
from app.store import NAME, Store, filesystem, home
from dsv4 import InputError


def test_what_was_written_is_there_again(tmp_path):
    first = Store(tmp_path)
    with first.change() as change:
        change.execute("INSERT INTO turn VALUES ('a', 3)")
    first.close()
    again = Store(tmp_path)
    assert again.row("SELECT served FROM turn WHERE lane = 'a'") == {"served": 3}
    assert again.sound()
    again.close()


def test_a_change_is_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.change() as change:
        change.execute("INSERT INTO turn VALUES ('a', 1)")
        with store.change() as inner:
            inner.execute("INSERT INTO turn VALUES ('b', 1)")
        raise RuntimeError
    assert store.rows("SELECT * FROM turn") == []
    store.close()


def test_a_second_server_is_told_who_has_the_folder(tmp_path):
    first = Store(tmp_path)
    with pytest.raises(InputError, match=f"process {os.getpid()}"):
        Store(tmp_path)
    first.close()
    Store(tmp_path).close()


def test_the_lock_ends_with_its_process(tmp_path):
    code = f"import time; from pathlib import Path; from app.store import Store; s = Store(Path({str(tmp_path)!r}))"
    child = subprocess.Popen([sys.executable, "-c", f"{code}; print('up', flush=True); time.sleep(60)"],
                             stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    with pytest.raises(InputError, match="another studio"):
        Store(tmp_path)
    child.kill()
    child.wait()
    Store(tmp_path).close()


def test_old_files_migrate_with_a_backup_and_broken_migrations_roll_back(tmp_path, monkeypatch):
    store = Store(tmp_path)
    with store.change() as change:
        change.execute("INSERT INTO turn VALUES ('kept', 7)")
    store.close()
    later = [*stores.MIGRATIONS, "CREATE TABLE extra (a TEXT); INSERT INTO nowhere VALUES (1)"]
    monkeypatch.setattr(stores, "MIGRATIONS", later)
    with pytest.raises(sqlite3.Error):
        Store(tmp_path)
    connection = sqlite3.connect(tmp_path / NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'extra'").fetchone() is None
    connection.close()
    monkeypatch.setattr(stores, "MIGRATIONS", [*later[:-1], "CREATE TABLE extra (a TEXT)"])
    store = Store(tmp_path)
    assert store.rows("SELECT * FROM extra") == []
    assert store.row("SELECT served FROM turn") == {"served": 7}
    store.close()
    backup = sqlite3.connect(tmp_path / "studio.v1.backup.sqlite")
    assert backup.execute("SELECT served FROM turn").fetchone() == (7,)
    backup.close()


def test_a_newer_file_and_garbage_are_refused_and_left_alone(tmp_path):
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="version 99, which a newer dsv4 wrote"):
        Store(tmp_path)
    (tmp_path / NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        Store(tmp_path)
    assert (tmp_path / NAME).read_bytes().startswith(b"not a database")


def test_a_folder_that_cannot_be_used_is_explained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--home"):
        Store(tmp_path / "file")
    monkeypatch.setattr(stores, "filesystem", lambda folder: "nfs4")
    with pytest.raises(InputError, match="network file system"):
        Store(tmp_path / "far")


def test_where_things_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("DSV4_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    monkeypatch.delenv("DSV4_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "dsv4"
    if sys.platform == "linux":
        assert filesystem(tmp_path)


@pytest.fixture
def media(tmp_path):
    store = Store(tmp_path / "home")
    yield Media(store)
    store.close()


def keep(media, content=b"one", owner="me", **more):
    return media.keep(content, owner=owner, name="a.png", suffix=".png", purpose="made", **more)


def test_equal_files_are_kept_once_and_go_with_the_last_owner(media):
    mine, yours = keep(media), keep(media, owner="you")
    assert mine.path == yours.path and mine.path.read_bytes() == b"one" and mine.id != yours.id
    media.drop(mine.id, "me")
    assert yours.path.is_file()
    media.drop(yours.id, "you")
    assert not yours.path.exists()


def test_a_file_of_somebody_else_is_as_good_as_none(media):
    mine = keep(media)
    for act in (media.get, media.drop, lambda name, owner: media.star(name, owner, True)):
        with pytest.raises(InputError, match="there is no file"):
            act(mine.id, "you")
    assert media.find("you") == []


def test_the_gallery_finds_by_words_kind_and_star(media):
    tiger = keep(media, b"1", made_by={"prompt": "a tiger 100%"})
    keep(media, b"2", made_by={"prompt": "a rocket"})
    media.star(tiger.id, "me", True)
    assert [one.id for one in media.find("me", words="100%")] == [tiger.id]
    assert [one.id for one in media.find("me", starred=True)] == [tiger.id]
    assert len(media.find("me", kind="image")) == 2 and media.find("me", kind="video") == []
    assert len(media.find("me", limit=1)) == 1


def test_files_that_nobody_has_are_swept(media):
    mine = keep(media)
    stray = mine.path.with_name("f" * 64 + ".png")
    stray.write_bytes(b"left by a kill")
    assert media.sweep() == 1 and not stray.exists() and mine.path.exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../etc/passwd", "passwd"), ("C:\\x\\y.png", "y.png"), ("a\nb\x00c.png", "a_b_c.png"), ("", "file"),
     ("." * 9, "file"), ("x" * 500 + ".png", "x" * 116 + ".png")],
)  # fmt: skip
def test_names_of_uploads_are_harmless(name, shown):
    assert clean_name(name) == shown


def test_many_small_changes_are_quick(tmp_path):
    store = Store(tmp_path)
    begun = time.monotonic()
    for number in range(500):
        with store.change() as change:
            change.execute("INSERT INTO turn VALUES (?, 1)", (str(number),))
    assert time.monotonic() - begun < 5
    store.close()
