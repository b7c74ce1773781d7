"""What every request must pass before it is read: host, origin, length, time, and who asks; and the headers of answers.

Everything is closed but OPEN. A foreign `Host` means that a web page elsewhere points its own name at this machine; a
foreign `Origin` on a request that changes something means that it posts here behind the back of whoever looks at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import math
import re
import secrets
import time
from collections.abc import Collection, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from dsv4.limits import BATCH_BYTES, BODY_BYTES, BODY_SECONDS, UPLOAD_BYTES

from .below import inside
from .door import COOKIE, LOCAL, Door

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")
OPEN = ("/healthz", "/login")  # what answers without a secret, when there is one
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LINGER_SECONDS = 1.0
BROWSER = "dsv4_browser"  # a cookie that tells browsers apart, for fair turns; it opens nothing
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; frame-src 'self'; "
    "font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
Refusal = tuple[int, str, str, dict[str, str]]  # status, code, words, headers


class Guard:
    """Refuse what should not be read, say who asks (`scope["user"]`, `scope["lane"]`), dress the answers."""

    def __init__(self, app: ASGIApp, *, door: Door, hosts: Collection[str] = (), far: bool = False) -> None:
        """`hosts` are names beside those of this machine; `far` takes addresses in digits, for other machines."""
        self.app, self.door, self.far = app, door, far
        self.hosts = {*HOSTS, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        cookies = _cookies(headers.get("cookie", ""))
        browser = cookies.get(BROWSER, "")
        fresh = "" if browser.isalnum() and len(browser) == 32 else secrets.token_hex(16)
        most = body_limit(inside(scope))
        refusal = self._foreign(scope["method"], headers) or _too_much(headers, most)
        if refusal is None:
            refusal = self._enter(scope, headers, cookies)
            scope["lane"] = f"{scope.get('user', '')}/{browser}" if browser and not fresh else scope.get("user", "")
        answer = _Answer(send, new_browser=fresh if "text/html" in headers.get("accept", "") else "")
        if refusal is not None:
            await _drop(receive)
            await _refuse(answer, *refusal)
            return
        reader = answer.reader = _Reader(receive, most)
        with contextlib.suppress(_Cut):
            await self.app(scope, reader, answer)
        answer.reader = None
        if reader.refusal is not None and not answer.begun:
            if reader.refusal[0] == 413:
                await _drop(receive)
            await _refuse(answer, *reader.refusal)

    def _foreign(self, method: str, headers: dict[str, str]) -> Refusal | None:
        host = headers.get("host", "")
        if not self._known(host):
            return (
                400,
                "unknown_host",
                "unknown host name; open the page as http://127.0.0.1, or name it with --hosts",
                {},
            )
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "foreign_origin", "requests from other sites are refused", {}
        return None

    def _known(self, host: str) -> bool:
        spelt = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?", host)
        name = spelt[1].lower() if spelt else ""
        if name in self.hosts:
            return True
        if not self.far:
            return False
        try:  # an address in digits cannot be pointed here by a name server
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _enter(self, scope: Scope, headers: dict[str, str], cookies: dict[str, str]) -> Refusal | None:
        if not self.door.locked:
            scope["user"] = LOCAL
            return None
        address = scope["client"][0] if scope.get("client") else "unknown"
        scheme, _, key = headers.get("authorization", "").partition(" ")
        path = inside(scope)
        if key or (path == "/login" and scope["method"] == "POST"):
            wait = self.door.wrong.wait(address)
            if wait:
                return 429, "too_many_tries", "too many wrong secrets; wait a minute", _later(wait)
        user = None
        if key and scheme.lower() == "bearer":
            user = self.door.by_secret(key.strip(), address)
        elif not key and COOKIE in cookies:
            user = self.door.by_session(cookies[COOKIE])
            if user and scope["method"] not in SAFE_METHODS and "origin" not in headers:
                return 403, "foreign_origin", "a request with a session names the page that it comes from", {}
        if user is None and path not in OPEN:
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                return (
                    303,
                    "login",
                    "log in first",
                    {"location": f"{scope.get('root_path', '')}/login?next={quote(path)}"},
                )
            return (
                401,
                "invalid_api_key",
                "a valid key is needed: Authorization: Bearer KEY",
                {"www-authenticate": "Bearer"},
            )
        scope["user"] = user or ""
        if key and user:
            wait = self.door.requests.wait(user)
            if wait:
                return 429, "rate_limit_exceeded", "too many requests of this key in a minute", _later(wait)
            self.door.requests.count(user)
        return None


class _Cut(Exception):
    """Reading a body was given up; the reader says why."""


class _Reader:
    """A receive that counts bytes and seconds."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.refusal: Refusal | None = None
        self._receive, self._left = receive, most
        self._most, self._until, self._over = most, time.monotonic() + BODY_SECONDS, False

    async def __call__(self) -> Message:
        if self._over:
            return await self._receive()  # waits for the client to leave, which may take as long as it likes
        try:
            message = await asyncio.wait_for(self._receive(), max(0.01, self._until - time.monotonic()))
        except TimeoutError:
            self.refusal = 408, "timeout", f"the body did not arrive within {BODY_SECONDS} seconds", {}
            raise _Cut from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.refusal = _longer(self._most)
            raise _Cut
        self._over = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class _Answer:
    """A send that puts the headers of this house on every answer, and hears when reading was given up."""

    def __init__(self, send: Send, *, new_browser: str) -> None:
        self._send, self._browser, self.begun = send, new_browser, False
        self.reader: _Reader | None = None

    async def __call__(self, message: Message) -> None:
        if self.reader is not None and self.reader.refusal is not None and not self.begun:
            return  # what an app makes of a body that broke off; the refusal itself is sent by the guard
        if message["type"] == "http.response.start":
            self.begun = True
            message = {**message, "headers": self._dressed(message.get("headers", ()))}
        await self._send(message)

    def _dressed(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [(key.lower(), value) for key, value in given]
        strict = (b"content-security-policy", b"sandbox")  # a file may be held to less than the page
        kept = [pair for pair in headers if pair[0] not in {name for name, _ in HEADERS} or pair == strict]
        ours = [pair for pair in HEADERS if not (strict in kept and pair[0] == strict[0])]
        if self._browser:
            cookie = f"{BROWSER}={self._browser}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict"
            kept.append((b"set-cookie", cookie.encode()))
        return [*kept, *ours]


def body_limit(path: str) -> int:
    """The longest body that is read for a path, in bytes; a form around a file takes a little more than the file."""
    if path.endswith(("/v1/files", "/v1/archive")):
        return BATCH_BYTES + 2**16
    return UPLOAD_BYTES + 2**16 if path.endswith("/upload") else BODY_BYTES


def _too_much(headers: dict[str, str], most: int) -> Refusal | None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        return 415, "unsupported_encoding", "send the body as it is, not compressed", {}
    length = headers.get("content-length", "0")
    return _longer(most) if not length.isdecimal() or int(length) > most else None


def _longer(most: int) -> Refusal:
    return 413, "too_large", f"at most {most} bytes are taken", {}


def _later(seconds: float) -> dict[str, str]:
    return {"retry-after": str(math.ceil(seconds))}


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


async def _drop(receive: Receive) -> None:
    """Take in for a moment, and forget, what is still being sent: who is cut off while sending may lose the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass


async def _refuse(send: Send | _Answer, status: int, code: str, words: str, extra: dict[str, str]) -> None:
    kind = "authentication_error" if status == 401 else "rate_limit_error" if status == 429 else "invalid_request_error"
    body = json.dumps({"error": {"message": words, "type": kind, "param": None, "code": code}}).encode()
    more = [(key.encode(), value.encode()) for key, value in extra.items()]
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the body is not wanted
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
