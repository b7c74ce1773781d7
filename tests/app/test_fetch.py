"""The one place that opens addresses: only public ones, only as they are spelt, never further than its limits."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from app import fetch as fetching
from app.fetch import Forbidden, check_url, fetch, public_address
from dsv4 import InputError


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0/",
     "http://2130706433/", "http://0x7f.1/", "http://169.254.169.254/latest", "http://10.0.0.1/", "http://192.168.1.1/",
     "http://[fd00::1]/", "http://[fe80::1]/", "http://0.0.0.0/", "http://[2002:7f00:1::]/", "http://224.0.0.1/",
     "http://100.64.0.1/", "http://user@1.1.1.1/", "http://:pw@1.1.1.1/", "http://1.1.1.1:22/", "http:///path"],
)  # fmt: skip
def test_addresses_inside_are_forbidden(url):
    with pytest.raises(Forbidden):
        fetch(url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://x/", "ftp://x/", "unix:/x", "javascript:x", "//x/", "", "http://a b/",
     "http://ok.com\\@127.0.0.1/", "http://a\tb/", "http://a\r\nb/", "http://ümlaut/", "http://x:99999/", "http://["],
)  # fmt: skip
def test_what_is_no_plain_web_address_is_refused(url):
    with pytest.raises(InputError):
        check_url(url)


def test_a_name_with_one_private_address_among_public_ones_is_forbidden(monkeypatch):
    found = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(Forbidden):
        public_address("rebind.example", 80)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
    assert public_address("ok.example", 80) == "93.184.216.34"


@pytest.fixture
def site(monkeypatch):
    """A site on this machine that counts as public; `give` is what it answers, piece by piece."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    asked = []

    def answer(pieces, pause):
        channel, _ = server.accept()
        asked.append(channel.recv(1000))
        try:
            for piece in pieces:
                channel.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        channel.close()

    def give(*pieces, pause=0.0):
        threading.Thread(target=answer, args=(pieces, pause), daemon=True).start()

    real = socket.create_connection
    monkeypatch.setattr(fetching, "public_address", lambda host, _: "127.0.0.1")
    monkeypatch.setattr(socket, "create_connection", lambda _, **named: real(("127.0.0.1", port), **named))
    yield give, asked
    server.close()


def test_a_picture_is_read_from_the_address_that_was_checked(site):
    give, asked = site
    give(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", b"abc")
    assert fetch("http://pictures.example/a.png?b=c") == b"abc"
    assert asked[0].startswith(b"GET /a.png?b=c HTTP/1.1\r\nHost: pictures.example\r\n")


def test_redirects_and_errors_are_not_followed(site):
    give, _ = site
    for status in (b"302 Found\r\nlocation: http://127.0.0.1/", b"404 Not Found", b"500 Oh"):
        give(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        with pytest.raises(InputError, match="answered with status"):
            fetch("http://pictures.example/")


def test_too_long_and_too_slow_are_cut_off(site, monkeypatch):
    give, _ = site
    monkeypatch.setattr(fetching, "FETCH_BYTES", 1000)
    give(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 600] * 1000)
    with pytest.raises(InputError, match="more than 1,000 bytes"):
        fetch("http://pictures.example/")
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.5)
    for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: "):
        begun = time.monotonic()
        give(head, *[b"x"] * 100, pause=0.05)
        with pytest.raises(InputError):
            fetch("http://pictures.example/")
        assert time.monotonic() - begun < 2
