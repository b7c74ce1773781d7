"""Edits across files: tried in memory, shown as one patch that git applies, written whole or not at all."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading

import pytest

from app.cli import main
from dsv4 import InputError
from dsv4.repository import read_graph
from dsv4.repository.edit import apply, read_plan, try_plan
from dsv4.repository.remote import remote_chat

MOVE = {
    "why": "the rate moves to a file of its own",
    "edits": [
        {"path": "shop/tax.py", "old": "RATE = 0.2\n", "new": ""},
        {"path": "shop/rates.py", "create": "RATE = 0.3"},
        {"path": "shop/prices.py", "old": "from .tax import RATE as rate", "new": "from .rates import RATE as rate"},
        {"path": "tests/helpers.py", "delete": True},
    ],
}


def test_a_plan_is_tried_in_memory_and_its_patch_is_what_git_applies(shop, tmp_path):
    graph = read_graph(shop)
    tried = try_plan(graph, MOVE)
    assert (shop / "shop/tax.py").read_text().startswith("RATE") and not (shop / "shop/rates.py").exists()
    copy = tmp_path / "copy"
    copy.mkdir()
    for folder in ("shop", "tests"):
        shutil.copytree(shop / folder, copy / folder, symlinks=True)
    (tmp_path / "a.patch").write_text(tried.patch)
    subprocess.run(["git", "apply", str(tmp_path / "a.patch")], cwd=copy, check=True)
    assert apply(tried, shop) == ["shop/prices.py", "shop/rates.py", "shop/tax.py", "tests/helpers.py"]
    for path in ("shop/prices.py", "shop/rates.py", "shop/tax.py"):
        assert (shop / path).read_text() == (copy / path).read_text()
    assert not (shop / "tests/helpers.py").exists() and not (copy / "tests/helpers.py").exists()
    assert (shop / "shop/rates.py").read_text() == "RATE = 0.3"


def test_imports_that_break_are_named(shop):
    graph = read_graph(shop)
    assert list(graph.broken()) == []
    gone = try_plan(graph, {"edits": [{"path": "shop/tax.py", "old": "RATE = 0.2", "new": "TAX = 0.2"}]})
    assert gone.breaks == (("shop/prices.py", 5, "shop.tax defines no RATE"),)
    moved = try_plan(graph, {"edits": [{"path": "shop/prices.py", "delete": True}]})
    told = {(path, why) for path, _, why in moved.breaks}
    assert ("shop/__init__.py", "there is no module shop.prices") in told
    assert ("shop/sub/deep.py", "there is no module shop.prices") in told
    header = try_plan(graph, {"edits": [{"path": "c/include/list.h", "delete": True}]})
    assert header.breaks == (("c/main.c", 2, "what it imports is gone: c/include/list.h"),)
    syntax = try_plan(graph, {"edits": [{"path": "shop/tax.py", "old": "RATE = 0.2", "new": "RATE = ("}]})
    assert any(path == "shop/tax.py" and "does not parse" in why for path, _, why in syntax.breaks)
    fine = try_plan(graph, {"edits": [{"path": "shop/tax.py", "old": "RATE = 0.2", "new": "RATE = 0.21"}]})
    assert fine.breaks == ()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"path": "../x.py", "create": ""}, "not a path inside"),
        ({"path": "/etc/passwd", "create": ""}, "not a path inside"),
        ({"path": ".git/hooks/x", "create": ""}, "not a path inside"),
        ({"path": "shop/taxes.py", "old": "a", "new": "b"}, "did you mean 'shop/tax.py'"),
        ({"path": "shop/tax.py", "old": "return", "new": "b"}, "stands 2 times"),
        ({"path": "shop/tax.py", "old": "", "new": "b"}, "stands 0 times"),
        ({"path": "shop/tax.py", "create": "x"}, "is there already"),
        ({"path": "blob.bin", "create": "x"}, "is there already"),
        ({"path": "shop/tax.py", "delete": 1}, "delete is true"),
        ({"path": "shop/tax.py"}, "an edit has path with old and new"),
        ({"path": "shop/tax.py", "old": "RATE", "new": "RATE"}, "changes nothing"),
        ("nonsense", "an edit has path"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(shop, edit, says):
    with pytest.raises(InputError, match=says):
        try_plan(read_graph(shop), {"edits": [edit]})


def test_a_plan_is_found_in_what_a_model_says():
    said = 'Sure, {here}:\n```json\n{"why": "w", "edits": [{"path": "a", "delete": true}]}\n```\nDone.'
    assert read_plan(said)["edits"] == [{"path": "a", "delete": True}]
    with pytest.raises(InputError, match="holds no plan"):
        read_plan("I cannot do that {}")


def test_nothing_is_written_when_a_file_changed_or_the_disk_refuses(shop, monkeypatch):
    tried = try_plan(read_graph(shop), MOVE)
    held = (shop / "shop/prices.py").read_text()
    (shop / "shop/prices.py").write_text(held + "# later\n")
    with pytest.raises(InputError, match="has changed since"):
        apply(tried, shop)
    (shop / "shop/prices.py").write_text(held)
    before = {path: (shop / path).read_text() for path in ("shop/prices.py", "shop/tax.py", "tests/helpers.py")}
    real, calls = os.replace, []

    def refuse(old, new):
        calls.append(new)
        if len(calls) == 3:
            raise OSError("disk full")
        real(old, new)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        apply(tried, shop)
    assert {path: (shop / path).read_text() for path in before} == before
    assert not (shop / "shop/rates.py").exists()
    assert not [name for name in os.listdir(shop / "shop") if name.startswith(".")]


@pytest.fixture
def server():
    """A chat server that plans MOVE, and keeps what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers.get("Authorization"), body))
            bad = body["model"] == "bad"
            answer = {"error": "no such model"} if bad else {"choices": [{"message": {"content": json.dumps(MOVE)}}]}
            self.send_response(404 if bad else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/v1", asked
    running.shutdown()
    running.server_close()


def test_the_command_asks_a_server_shows_and_then_applies(shop, server, capsys, tmp_path, monkeypatch):
    url, asked = server
    monkeypatch.setenv("DSV4_API_KEY", "k")
    plan = tmp_path / "plan.json"
    told = ["repo", "edit", str(shop), "--task", "move the tax rate", "--url", url, "--model", "m"]
    assert main([*told, "--budget", "3000", "--save-plan", str(plan)]) == 3
    found = capsys.readouterr()
    assert "+from .rates import RATE as rate" in found.out and "nothing is written" in found.err
    assert "would break: tests/test_shop.py:1: what it imports is gone: tests/helpers.py" in found.err
    path, key, body = asked[0]
    assert path == "/v1/chat/completions" and key == "Bearer k" and body["model"] == "m"
    prompt = body["messages"][0]["content"]
    assert "<｜begin▁of▁repo▁name｜>" in prompt and "move the tax rate" in prompt and "RATE = 0.2" in prompt
    assert main(["repo", "edit", str(shop), "--plan", str(plan), "--apply"]) == 3
    assert not (shop / "shop/rates.py").exists()
    assert main(["repo", "edit", str(shop), "--plan", str(plan), "--apply", "--force", "--json"]) == 0
    capsys.readouterr()
    assert (shop / "shop/rates.py").exists()
    assert main([*told[:-1], "bad"]) == 2
    assert "answered 404" in capsys.readouterr().err


def test_a_studio_that_cannot_plan_is_one_clear_error(shop, capsys, monkeypatch):
    monkeypatch.setenv("DSV4_MODEL", "echo")
    assert main(["repo", "edit", str(shop), "--task", "x"]) == 2
    assert main(["repo", "edit", str(shop)]) == 2
    assert "either --task" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_one_clear_error():
    with pytest.raises(InputError, match="gave no chat answer"):
        remote_chat("http://127.0.0.1:9", "m", seconds=2)("hello")
    with pytest.raises(InputError, match="begins with http"):
        remote_chat("ftp://x", "m")
