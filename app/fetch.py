"""The one place that opens an address somebody named: off unless `--fetch` is given, and then for public pictures only.

The name is looked up once, every address behind it must be public, the connection goes to one of those very addresses,
no redirect is followed, and size and time are capped while reading.
Source: the lessons of CVE-2026-24779 and CVE-2026-100650 (a redirect trusted, a size counted too late).
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from dsv4.errors import InputError
from dsv4.limits import FETCH_BYTES, FETCH_SECONDS

PORTS = {"http": 80, "https": 443}


class Forbidden(InputError):
    """An address that is not to be opened."""


def fetch(url: str) -> bytes:
    """The bytes behind a public http or https address; blocks, so call it in a thread. Raises InputError, Forbidden."""
    split = check_url(url)
    host, port = split.hostname or "", split.port or PORTS[split.scheme]
    address = public_address(host, port)
    until = time.monotonic() + FETCH_SECONDS
    try:
        with socket.create_connection((address, port), timeout=FETCH_SECONDS) as raw, _within(FETCH_SECONDS, raw):
            channel = (
                ssl.create_default_context().wrap_socket(raw, server_hostname=host) if split.scheme == "https" else raw
            )
            connection = http.client.HTTPConnection(host, port)
            connection.sock = channel
            path = (split.path or "/") + (f"?{split.query}" if split.query else "")
            connection.request("GET", path, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise InputError(f"the address answered with status {answer.status}; redirects are not followed")
            return _read(answer, channel, until)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"the address could not be read: {type(error).__name__}") from error


def check_url(url: str) -> SplitResult:
    """The parts of an address that may be opened as far as its spelling goes; raises InputError or Forbidden."""
    if any(character <= " " or character in '\\<>"`{}|^' or ord(character) > 126 for character in url):
        raise InputError("the address holds characters that no address has")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise InputError(f"this is not an address: {error}") from error
    if split.scheme not in PORTS:
        raise InputError("only http and https addresses are read")
    if split.username is not None or split.password is not None or not split.hostname:
        raise Forbidden("addresses with a user name, or without a host, are not read")
    if port not in (None, 80, 443):
        raise Forbidden("only the ports 80 and 443 are read")
    return split


def public_address(host: str, port: int) -> str:
    """An address of `host` in digits; raises Forbidden unless every one it has is public."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise InputError(f"there is no host '{host[:80]}'") from error
    for one in found:
        address = ipaddress.ip_address(one.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        if not address.is_global or not inner.is_global or address.is_multicast:
            raise Forbidden("the address does not lead to the public network")
    return sorted(found)[0]


@contextlib.contextmanager
def _within(seconds: float, channel: socket.socket) -> Iterator[None]:
    """End a connection from outside when its time is over, also one that drips its headers byte by byte."""

    def end() -> None:
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(answer: http.client.HTTPResponse, channel: socket.socket, until: float) -> bytes:
    pieces, length = [], 0
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise InputError(f"the address took longer than {FETCH_SECONDS} seconds")
        channel.settimeout(left)
        piece = answer.read1(65536)
        if not piece:
            if answer.length or time.monotonic() >= until:  # cut off, by the other side or by the clock
                raise InputError(f"the address did not give all of it within {FETCH_SECONDS} seconds")
            return b"".join(pieces)
        length += len(piece)
        if length > FETCH_BYTES:
            raise InputError(f"the address gives more than {FETCH_BYTES:,} bytes")
        pieces.append(piece)
