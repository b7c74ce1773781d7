"""Zips of repositories: unpacked whole, or refused before anything is written that could do harm."""

from __future__ import annotations

import errno
import io
import stat
import zipfile

import pytest

from app.intake import sniff
from app.looking import Looker
from dsv4 import limits
from dsv4.errors import InputError
from dsv4.repository import unzip as module
from dsv4.repository.pack import pack
from dsv4.repository.unzip import check_zip, unzip

FILES = {
    "lib/a.py": "from lib import b\n\ndef sail():\n    return b.wind()\n",
    "lib/b.py": "def wind():\n    return 3\n",
}


def zipped(files, *, how=zipfile.ZIP_DEFLATED, change=None):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", how) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = how
            if change:
                change(info)
            archive.writestr(info, text)
    held.seek(0)
    return held


@pytest.mark.parametrize("top", ["", "project-1.0/"])
def test_a_repository_comes_out_as_it_went_in(top, tmp_path):
    held = zipped({top + name: text for name, text in FILES.items()} | {top + "README.md": "# sails\n"})
    assert check_zip(held) == 3
    root = unzip(held, tmp_path / "out")
    assert root == tmp_path / "out" / top.rstrip("/")
    assert {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")} == FILES
    assert "def sail" in pack(root, budget=2000, query="sail").text
    with pytest.raises(InputError, match="not empty"):
        unzip(held, tmp_path / "out")


NAMES = ["../up.py", "a/../../up.py", "/etc/passwd", "c:/x", "a\\..\\b", "a\nb", "nul.txt", "a/con", "b /x", "x" * 1100,
         "a/" * 60 + "b", "."]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="no name of a file inside"):
        unzip(zipped({"fine.py": "1", name: "2"}), tmp_path / "deep" / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def link(info):
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def device(info):
    info.external_attr = (stat.S_IFCHR | 0o666) << 16


def test_links_devices_bombs_and_doubles_are_refused(tmp_path, monkeypatch):
    for change in (link, device):
        with pytest.raises(InputError, match="link or a device"):
            check_zip(zipped({"a": "/etc/passwd"}, change=change))
    with pytest.raises(InputError, match="far more than it is"):
        check_zip(zipped({"a.py": "0" * 5_000_000}))
    with pytest.raises(InputError, match="twice"):
        check_zip(zipped({"a.py": "1", "A.PY": "2"}))
    with pytest.raises(InputError, match="twice, or one that is a file and a folder"):
        unzip(zipped({"a": "1", "a/b": "2"}), tmp_path / "both")
    monkeypatch.setattr(module, "REPO_FILES", 2)
    with pytest.raises(InputError, match="holds 3 files; at most 2"):
        check_zip(zipped({"a": "1", "b": "2", "c": "3"}))
    monkeypatch.setattr(module, "REPO_BYTES", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        check_zip(zipped({"a": "0" * 11}))


def test_a_table_that_lies_about_sizes_is_found_out(tmp_path, monkeypatch):
    held = zipped({"a.py": "x" * 4000}, how=zipfile.ZIP_STORED)
    raw = bytearray(held.getvalue())
    at = raw.rindex((4000).to_bytes(4, "little"))
    raw[at : at + 4] = (10).to_bytes(4, "little")  # the unpacked size in the table
    with pytest.raises(InputError, match="no zip that can be read"):
        unzip(io.BytesIO(bytes(raw)), tmp_path / "lies")


@pytest.mark.parametrize("content", [b"PK\x03\x04nonsense", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_zip_is_said(content):
    with pytest.raises(InputError, match="no zip that can be read"):
        sniff(content)


def test_the_looker_unpacks_once_and_cleans_up(tmp_path):
    path = tmp_path / "r.zip"
    path.write_bytes(zipped(FILES).getvalue())
    assert sniff(path.read_bytes()) == ".zip"
    with Looker() as look:
        one = look(str(path))
        assert look(str(path)) is one and (one.source / "a.py").is_file()
    assert not one.source.exists()
    assert limits.REPO_BYTES > limits.UPLOAD_BYTES


def test_a_full_disk_is_not_the_zips_fault(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.py", "x = 1\n")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(OSError, match="No space left"):
        unzip(path, tmp_path / "out")
