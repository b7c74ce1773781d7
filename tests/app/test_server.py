"""The server as others meet it: ready or not, closed to foreign sites, polite about ports, quick to start and stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.server import bind, check_closed, is_loopback
from dsv4 import EchoStudio, InputError
from tests.app.studios import Late, broken, dead
from tests.browser.walk import served


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(EchoStudio) as address:
        yield address


def ready(address: str) -> None:
    """Wait until the model is there."""
    for _ in range(600):
        if httpx.get(f"{address}/readyz").status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError("the model did not come")


def test_the_page_and_the_probes_answer(address: str) -> None:
    ready(address)
    page = httpx.get(f"{address}/")
    assert page.status_code == 200 and "dsv4 studio" in page.text
    assert httpx.get(f"{address}/healthz").json()["status"] == "ok"
    assert httpx.get(f"{address}/readyz").json() == {"status": "ready", "model": "echo"}


def test_the_page_is_there_before_the_model(tmp_path: Path) -> None:
    with served(Late(tmp_path / "gate"), "nano") as address:
        assert httpx.get(f"{address}/").status_code == 200
        early = httpx.get(f"{address}/readyz")
        assert early.status_code == 503 and early.json()["status"] == "loading" and "retry-after" in early.headers
        assert httpx.get(f"{address}/healthz").status_code == 200
        (tmp_path / "gate").write_text("open")
        ready(address)
        assert httpx.get(f"{address}/readyz").json()["model"] == "echo"


@pytest.mark.parametrize(("factory", "reason"), [(broken, "no weights here"), (dead, "ended again and again")])
def test_a_broken_model_leaves_the_page_up(factory: Any, reason: str) -> None:
    with served(factory, "nano") as address:
        assert httpx.get(f"{address}/").status_code == 200
        for _ in range(400):
            answer = httpx.get(f"{address}/readyz")
            if answer.json()["status"] == "failed":
                break
            time.sleep(0.05)
        assert answer.status_code == 503 and answer.json()["status"] == "failed"
        asked = httpx.post(f"{address}/v1/videos", json={"prompt": "a tiger"})
        assert asked.status_code == 503 and reason in asked.json()["error"]["message"]


def test_every_answer_carries_the_security_headers(address: str) -> None:
    for path in ("/", "/healthz", "/config", "/nothing-here"):
        headers = httpx.get(f"{address}{path}").headers
        assert headers["x-content-type-options"] == "nosniff", path
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        script = re.search(r"script-src ([^;]*)", policy)
        assert script is not None and "unsafe-inline" not in script[1] and "http" not in policy


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", ""])
def test_foreign_host_names_are_refused(address: str, host: str) -> None:
    assert httpx.get(f"{address}/", headers={"Host": host}).status_code == 400


def test_other_sites_cannot_post(address: str) -> None:
    own = {"Origin": address}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = httpx.post(f"{address}/gradio_api/upload", files={"files": b"x"}, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert httpx.post(f"{address}/gradio_api/upload", files={"files": b"x"}, headers=own).status_code == 200


def test_long_bodies_are_refused_by_their_header(address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_files_of_the_machine_are_not_served(address: str) -> None:
    for path in ("/etc/passwd", "../../etc/passwd", "/proc/self/environ", "pyproject.toml", "%2e%2e/README.md"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404), path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_is_served(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_machines_are_served_only_behind_a_secret(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InputError, match="needs a password"):
        check_closed(host, {})
    check_closed(host, {"owner": "a long secret"})


def test_a_taken_port_is_explained() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(InputError, match="try another one with --port"):
        bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="port must be"):
        bind("127.0.0.1", 70000)


def test_the_program_says_where_it_is_and_stops_when_asked(python_environment: dict[str, str], tmp_path: Path) -> None:
    code = "import sys; from app import server; sys.exit(server.run('127.0.0.1', 0, model='echo'))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**python_environment, "PYTHONUNBUFFERED": "1", "DSV4_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        opened = next(line for line in lines if line.startswith("Open http://127.0.0.1:"))
        assert httpx.get(opened.split()[1] + "/healthz", timeout=20).status_code == 200
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors


def test_no_answer_waits_for_the_network_to_fill_a_packet() -> None:
    """asyncio leaves Nagle's delay on for sockets that do not say that they are TCP: 40 ms an answer."""
    with bind("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_scripts_and_styles_come_from_memory_and_are_kept_by_browsers(address: str) -> None:
    import gradio

    folder = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
    names = sorted(path.name for path in folder.glob("Index-*"))
    for name in names[:3] + names[-3:]:
        answer = httpx.get(f"{address}/assets/{name}")
        assert answer.content == (folder / name).read_bytes() and "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert any(kind in answer.headers["content-type"] for kind in ("javascript", "css"))
    for wrong in ("/assets/../routes.py", "/assets/%2e%2e/routes.py", "/assets/none-12345678.js", "/assets/"):
        assert httpx.get(f"{address}{wrong}").status_code in (400, 403, 404), wrong


def test_assets_are_packed_for_those_who_are_far(tmp_path: Path) -> None:
    import asyncio
    import gzip

    from app.page.assets import Assets

    (tmp_path / "a-12345678.js").write_text("x" * 5000)
    (tmp_path / "plain.js").write_text("y")
    told: list[Any] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        told.append("other")

    async def send(message: Any) -> None:
        told.append(message)

    def ask(path: str, client: str) -> list[Any]:
        told.clear()
        headers = [(b"accept-encoding", b"gzip, br")]
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": (client, 1)}
        asyncio.run(Assets(other, tmp_path)(scope, None, send))  # type: ignore[arg-type]
        return told

    start, body = ask("/assets/a-12345678.js", "10.0.0.7")
    assert (b"content-encoding", b"gzip") in start["headers"] and gzip.decompress(body["body"]) == b"x" * 5000
    assert ask("/assets/a-12345678.js", "127.0.0.1")[1]["body"] == b"x" * 5000
    assert ask("/assets/plain.js", "127.0.0.1") == ["other"]
