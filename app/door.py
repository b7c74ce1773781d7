"""Who is asking: nobody but this machine without a password, else a name with its secret, as a key or through a login.

A secret serves as API key (`Authorization: Bearer ...`) and as password of the page. A login gives a signed cookie.
Wrong secrets are counted by address and slowed down; comparisons take the same time whatever they find.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from dsv4.errors import InputError
from dsv4.limits import LOGIN_TRIES, REQUESTS_A_MINUTE

LOCAL = "local"  # who asks when there is no password: whoever sits at this machine
COOKIE = "dsv4_session"
SESSION_SECONDS = 14 * 24 * 3600
SHORTEST = 10  # characters of a secret
ENTRIES = 10_000  # addresses that are counted at once


class Rate:
    """At most so many in a minute for each name, in a sliding window of the monotonic clock."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._times: collections.OrderedDict[str, collections.deque[float]] = collections.OrderedDict()

    def wait(self, name: str) -> float:
        """Seconds until `name` may try again; 0 when it may now. Counts nothing."""
        times = self._recent(name)
        return 60 - (time.monotonic() - times[0]) if len(times) >= self.most else 0.0

    def count(self, name: str) -> None:
        """One more by `name`."""
        self._recent(name).append(time.monotonic())

    def _recent(self, name: str) -> collections.deque[float]:
        times = self._times.setdefault(name, collections.deque())
        self._times.move_to_end(name)
        while times and time.monotonic() - times[0] > 60:
            times.popleft()
        while len(self._times) > ENTRIES:
            self._times.popitem(last=False)
        return times


class Door:
    """The people who may come in. Without any, everybody on this machine is LOCAL and there is nothing to log in to."""

    def __init__(self, people: Mapping[str, str], folder: Path | None = None) -> None:
        """`people` maps names to secrets; `folder` keeps the key that signs sessions over a restart."""
        for name, secret in people.items():
            if not name.isprintable() or not name.strip() or len(secret) < SHORTEST:
                raise InputError(f"the secret of '{name}' is too short: it needs {SHORTEST} characters at least")
        self._digests = {name: _digest(secret) for name, secret in people.items()}
        self._key = _signing_key(folder) if people else b""
        self.wrong, self.requests = Rate(LOGIN_TRIES), Rate(REQUESTS_A_MINUTE)

    @property
    def locked(self) -> bool:
        """Whether a secret is needed."""
        return bool(self._digests)

    def by_secret(self, secret: str, address: str) -> str | None:
        """Whose secret this is; a wrong one counts against the address."""
        found = self._whose(secret)
        if found is None:
            self.wrong.count(address)
        return found

    def login(self, name: str, secret: str, address: str) -> bool:
        """Whether this name has this secret; if not, it counts against the address, whichever of them was wrong."""
        right = self._whose(secret) == name.strip() and self.locked
        if not right:
            self.wrong.count(address)
        return right

    def _whose(self, secret: str) -> str | None:
        digest, found = _digest(secret), None
        for name, known in self._digests.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def session(self, name: str) -> str:
        """A cookie for somebody who has logged in."""
        text = f"{base64.urlsafe_b64encode(name.encode()).decode()}.{int(time.time()) + SESSION_SECONDS}"
        return f"{text}.{self._sign(text, name)}"

    def by_session(self, cookie: str) -> str | None:
        """Whose session a cookie is; None when it is forged, over, or of somebody who is no longer let in."""
        text, _, signature = cookie.rpartition(".")
        coded, _, until = text.partition(".")
        try:
            name = base64.urlsafe_b64decode(coded.encode()).decode()
        except ValueError:
            return None
        if name not in self._digests or not hmac.compare_digest(signature.encode(), self._sign(text, name).encode()):
            return None
        return name if until.isdecimal() and int(until) > time.time() else None

    def _sign(self, text: str, name: str) -> str:
        # The secret is part of the key: who gets a new one is logged out everywhere.
        return hmac.new(self._key + self._digests[name], text.encode(), "sha256").hexdigest()


def people(users_file: str | None = None) -> dict[str, str]:
    """Names and secrets from DSV4_PASSWORD (for the name `owner`) and from a file of `name:secret` lines.

    Raises InputError for a file that is missing, that others may read, or with a line that is neither.
    """
    found = {"owner": os.environ["DSV4_PASSWORD"]} if os.environ.get("DSV4_PASSWORD") else {}
    if not users_file:
        return found
    path = Path(users_file)
    try:
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"'{path}' holds secrets, but others may read it; run: chmod 600 '{path}'")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file of users '{path}' cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        name, colon, secret = line.strip().partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not name.strip() or name.strip() in found:
            raise InputError(f"'{path}', line {number}: write name:secret, each name once")
        found[name.strip()] = secret.strip()
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _signing_key(folder: Path | None) -> bytes:
    if folder is None:
        return secrets.token_bytes(32)
    path = folder / "session.key"
    if not path.is_file():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()
