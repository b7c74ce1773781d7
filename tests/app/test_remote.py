"""`Studio.connect`: our verbs in front of our own server, behind a second one, and in front of one that only chats."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as Pixels

import dsv4
from app.cli import main
from dsv4 import EchoStudio, InputError, Message, Studio, image
from dsv4._parts import part
from dsv4.messages import Text
from dsv4.remote import RemoteStudio

CODE = "import sys; from app.cli import main; sys.exit(main())"
CHATTY = (
    'data: {"choices":[{"delta":{"content":"Here: <svg viewBox=\\"0 0 9 9\\"><script/>"}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"<rect width=\\"4\\" height=\\"4\\"/></svg>"},"finish_reason":"length"}],'
    '"usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":5}}}\n\ndata: [DONE]\n\n'
)


@contextmanager
def serving(home: Path, model: str):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DSV4_")}
    environment = {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "serve", "--port", "0", "--model", model, "--home", str(home)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        line = next(line for line in iter(process.stdout.readline, "") if line.startswith("Open "))
        address = line.split()[1]
        for _ in range(1200):
            if httpx.get(f"{address}/readyz").status_code == 200:
                break
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def test_our_own_server_and_a_second_one_in_front_of_it(tmp_path):
    echo, red = EchoStudio(), Pixels.new("RGB", (40, 30), "red")
    history = (Message(role="user", parts=(Text(text="one"),)), Message(role="assistant", parts=(Text(text="two"),)))
    with serving(tmp_path / "first", "echo") as inner, serving(tmp_path / "second", f"{inner}/v1") as outer:
        for address in (inner, outer):
            studio = Studio.connect(address)
            asked = ("three words here", image(red))
            pieces = list(studio.chat(*asked, history=history))
            assert "".join(pieces) == echo.chat(*asked).reply.text and len(pieces) > 1
            assert studio.chat("what is that?").reply.usage.read > 0
            made = studio.image("a red heart", seed=3, size=64)
            assert np.array_equal(made.array, echo.image("a red heart", seed=3, size=64).array)
            assert studio.svg("a blue star", seed=1).text.count("<circle") == 1
            assert dsv4.load(f"{address}/v1").name == studio.name
        clip = Studio.connect(inner).video("a ball", seconds=1, seed=2)
        assert clip.frames.shape == echo.video("a ball", seconds=1, seed=2).frames.shape
        # The command line passes every setting that a model here has.
        near = ["--model", f"{inner}/v1", "--quiet"]
        assert main(["video", "a ball", "-o", str(tmp_path / "one.mp4"), "--seconds", "1", *near]) == 0
        assert main(["svg", "a blue star", "-o", str(tmp_path / "star.svg"), *near]) == 0
        on = ["--after", str(tmp_path / "one.mp4"), "--seconds", "1"]
        assert main(["video", "a ball", "-o", str(tmp_path / "two.mp4"), *on, *near]) == 0
        lengths = [part("generation").read_clip(tmp_path / name).total for name in ("one.mp4", "two.mp4")]
        assert lengths[1] == 2 * lengths[0] - 1
        with pytest.raises(InputError, match="candidates must be 1"):
            Studio.connect(inner).svg("a star", candidates=2, temperature=0.5)
        stream = studio.chat("many words to be said", cancelled=lambda: True)
        assert stream.reply.stopped == "cancelled"
        with pytest.raises(InputError, match="unknown model 'echoo'; did you mean"):
            Studio.connect(inner, model="echoo")
        assert "echo" in Studio.connect(outer).name


class Chatty(BaseHTTPRequestHandler):
    """A server that only chats, and keeps what it was asked."""

    asked: list[bytes] = []

    def do_GET(self):
        self._give(200, b'{"data": [{"id": "big"}]}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.headers.get("Authorization"), body))
        if b"busy" in body:
            self._give(429, b'{"error": {"message": "too busy"}}')
        elif self.path != "/v1/chat/completions":
            self._give(404, b'{"error": {"message": "no pictures here"}}')
        elif b"break" in body:
            self._give(200, b'data: {"error": {"message": "it broke"}}\n\n')
        else:
            self._give(200, CHATTY.encode())

    def _give(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given):
        pass


@pytest.fixture
def chatty():
    server = HTTPServer(("127.0.0.1", 0), Chatty)
    Chatty.asked.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_server_that_only_chats(chatty, tmp_path):
    studio = Studio.connect(chatty, key="secret")
    reply = studio.chat("hello").reply
    assert (reply.stopped, reply.usage.read, reply.usage.written, reply.usage.cached) == ("length", 7, 2, 5)
    assert Chatty.asked[-1][0] == "Bearer secret" and b'"hello"' in Chatty.asked[-1][1]
    content = tmp_path / "a.png"
    Pixels.new("RGB", (40, 30), "red").save(content)
    followed = studio.svg(picture=image(content), trace="always")  # nobody is asked
    assert '<rect width="96" height="96" fill="#ff0000"/>' in followed.text
    assert followed.provenance["settings"]["made_by"] == "traced"
    with pytest.raises(InputError, match="no public interface redraws"):
        studio.svg(picture=image(content))
    drawn = studio.svg("a square")  # asked of the chat model, rebuilt here
    assert "<rect" in drawn.text and "script" not in drawn.text and "script" in drawn.raw
    with pytest.raises(InputError, match="answered 404: no pictures here"):
        studio.image("a heart")
    with pytest.raises(InputError, match="answered 429: too busy"):
        studio.svg("a busy bee")
    assert b"Answer with one SVG" not in Chatty.asked[-1][1], "a server that has no time is not asked in another way"
    with pytest.raises(InputError, match="it broke"):
        _ = studio.chat("break").reply
    with pytest.raises(InputError, match="read on this machine"):
        studio.read(image(Pixels.new("RGB", (9, 9))))
    (tmp_path / "code.py").write_text("def needle():\n    return 1\n")
    _ = studio.chat("where is the needle?", dsv4.repo(tmp_path)).reply
    assert b"def needle()" in Chatty.asked[-1][1]
    jobs = [{"id": "a", "task": "chat", "prompt": "hello"}]
    assert studio.batch(jobs, out=tmp_path / "out").done == 1


def test_addresses_that_are_none():
    with pytest.raises(InputError, match="begins with http"):
        RemoteStudio("localhost:8000")
    with pytest.raises(InputError, match="does not answer"):
        RemoteStudio("http://127.0.0.1:9/v1")
