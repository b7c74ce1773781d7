"""Who may come in: hosts, origins, secrets, sessions, rates; and that nobody sees what belongs to somebody else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import httpx
import pytest

from app import door as doors
from app.door import COOKIE, Door, Rate, people
from app.guard import OPEN, Guard
from app.login import safe_path
from dsv4 import EchoStudio, InputError
from tests.browser.walk import served

ANN, BOB = "ann-secret-1234", "bob-secret-1234"


@pytest.fixture(scope="module")
def door() -> Door:
    return Door({"ann": ANN, "bob": BOB})


@pytest.fixture(scope="module")
def address(door: Door) -> Iterator[str]:
    with served(EchoStudio, door=door) as address:
        yield address


@pytest.fixture(autouse=True)
def fresh_counts(door: Door) -> None:
    door.wrong, door.requests = Rate(5), Rate(600)


def key(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


CLOSED = [
    "/", "/config", "/docs", "/openapi.json", "/metrics", "/readyz", "/v1/models", "/v1/files", "/v1/videos",
    "/v1/jobs", "/v1/batches", "/mcp/", "/gradio_api/info", "/gradio_api/file=x", "/theme.css", "/nothing",
    "/v1/chat/completions/x",
]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_every_route_is_closed_without_a_key(address: str, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT"):
        assert httpx.request(method, f"{address}{path}").status_code == 401, method
    assert httpx.get(f"{address}{path}", params={"key": ANN, "api_key": ANN}).status_code == 401
    assert httpx.get(f"{address}{path}", headers={"accept": "text/html"}).headers["location"].startswith("/login?next=")


def test_what_is_open_is_this_and_no_more(address: str) -> None:
    assert OPEN == ("/healthz", "/login")
    for path in OPEN:
        assert httpx.get(f"{address}{path}").status_code == 200


def test_a_key_opens_and_a_wrong_one_is_slowed_down(address: str) -> None:
    assert httpx.get(f"{address}/v1/models", headers=key(ANN)).status_code == 200
    answers = [httpx.get(f"{address}/v1/models", headers=key(f"wrong {n}")).status_code for n in range(7)]
    assert answers == [401] * 5 + [429] * 2
    late = httpx.get(f"{address}/v1/models", headers=key(ANN))
    assert late.status_code == 429 and 0 < int(late.headers["retry-after"]) <= 60


OTHER = ["Basic YW5uOmFubg==", f"Token {ANN}", "Bearer", "Bearer x' OR '1'='1", "Bearer " + "x" * 9000]


@pytest.mark.parametrize("value", OTHER)
def test_other_ways_to_show_a_secret_do_not_open(address: str, value: str) -> None:
    assert httpx.get(f"{address}/v1/models", headers={"authorization": value}).status_code == 401


def test_a_key_has_a_rate(address: str, door: Door) -> None:
    door.requests = Rate(3)
    answers = [httpx.get(f"{address}/v1/models", headers=key(ANN)).status_code for _ in range(4)]
    assert answers == [200, 200, 200, 429]
    assert httpx.get(f"{address}/v1/models", headers=key(BOB)).status_code == 200


def enter(address: str, name: str, secret: str, **more: str) -> httpx.Response:
    return httpx.post(f"{address}/login", data={"name": name, "secret": secret, **more}, headers={"origin": address})


def test_a_login_gives_a_session_that_cannot_be_forged(address: str, door: Door) -> None:
    answer = enter(address, "ann", ANN, next="/docs")
    assert answer.status_code == 303 and answer.headers["location"] == "/docs"
    kept = answer.headers["set-cookie"]
    assert "HttpOnly" in kept and "samesite=strict" in kept.lower()
    session = answer.cookies[COOKIE]
    assert httpx.get(f"{address}/", cookies={COOKIE: session}).status_code == 200
    text, _, signature = session.rpartition(".")
    name, _, until = text.partition(".")
    forged = [f"{name}.{int(until) + 9}.{signature}", f"{text}.{'0' * 64}", f"{text}.", "", "..", session[:-1]]
    forged.append(f"Ym9i.{until}.{signature}")
    for cookie in forged:
        assert httpx.get(f"{address}/v1/models", cookies={COOKIE: cookie}).status_code == 401, cookie
    assert Door({"ann": "another secret"}).by_session(session) is None


def test_an_old_session_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    session = door.session("ann")
    assert door.by_session(session) == "ann"
    now = time.time()
    monkeypatch.setattr(doors.time, "time", lambda: now + doors.SESSION_SECONDS + 1)
    assert door.by_session(session) is None


@pytest.mark.parametrize(("name", "secret"), [("ann", "wrong"), ("bob", ANN), ("' OR 1 --", "x"), ("ann", "x" * 3000)])
def test_a_wrong_login_gets_the_same_answer_and_counts(address: str, name: str, secret: str) -> None:
    answers = [enter(address, name, secret) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert "do not belong together" in answers[0].text


def test_sessions_do_not_help_other_sites(address: str, door: Door) -> None:
    cookies = {COOKIE: door.session("ann")}
    post = {"url": f"{address}/v1/videos", "json": {"prompt": "a ball"}, "cookies": cookies}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {}, {"origin": "http://127.0.0.1:1"}):
        assert httpx.post(**post, headers=headers).status_code == 403, headers
    foreign = {"origin": address, "sec-fetch-site": "cross-site"}
    assert httpx.post(**post, headers=foreign).status_code == 403
    form = httpx.post(f"{address}/v1/files", files={"file": b"x"}, cookies=cookies, headers={"origin": "http://evil"})
    assert form.status_code == 403
    assert httpx.post(**post, headers={"origin": address}).status_code == 200


def test_what_is_mine_is_not_there_for_others(address: str) -> None:
    mine, theirs = httpx.Client(base_url=address, headers=key(ANN)), httpx.Client(base_url=address, headers=key(BOB))
    picture = mine.post("/v1/images/generations", json={"prompt": "a tiger"}).json()["data"][0]["file_id"]
    video = mine.post("/v1/videos", json={"prompt": "a ball"}).json()["id"]
    chat = mine.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]}).json()["id"]
    rows = b'{"custom_id":"a","url":"/v1/videos","body":{"prompt":"x"}}'
    file = mine.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", rows)}).json()["id"]
    batch = mine.post("/v1/batches", json={"input_file_id": file, "endpoint": "/v1/videos"}).json()["id"]
    paths = [f"/v1/files/{picture}", f"/v1/files/{picture}/content", f"/v1/videos/{video}",
             f"/v1/videos/{video}/content", f"/v1/jobs/{video}", f"/v1/jobs/{video}/events",
             f"/v1/chat/completions/{chat}", f"/v1/files/{file}/content", f"/v1/batches/{batch}"]  # fmt: skip
    for path in paths:
        assert theirs.get(path).status_code == 404, path
        assert mine.get(path).status_code in (200, 409), path
    for method, path in (("DELETE", f"/v1/files/{picture}"), ("DELETE", f"/v1/videos/{video}"),
                         ("POST", f"/v1/batches/{batch}/cancel"), ("POST", f"/v1/jobs/{video}/cancel")):  # fmt: skip
        assert theirs.request(method, path).status_code == 404
    for path in ("/v1/files", "/v1/videos", "/v1/jobs", "/v1/batches"):
        assert theirs.get(path).json()["data"] == []
    used = {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": picture}}]}]}
    assert theirs.post("/v1/chat/completions", json=used).status_code == 404


@pytest.mark.parametrize("goal", ["//evil.example", "/\\evil", "https://evil", "script:x", "/a/../b", "/a\r\nx: y", ""])
def test_a_login_leads_nowhere_else(goal: str) -> None:
    assert safe_path(goal) == "/"
    assert safe_path("/docs?a=b") == "/docs?a=b"


@pytest.mark.parametrize(
    ("host", "far", "known"),
    [("127.0.0.1:7860", False, True),
     ("LOCALHOST", False, True), ("[::1]:80", False, True),
     ("evil.example", True, False), ("192.168.1.5:7860", False, False), ("192.168.1.5:7860", True, True),
     ("studio.lan", False, True), ("", True, False), ("127.0.0.1.evil.example", True, False),
     ("[::1]evil", True, False)],
)  # fmt: skip
def test_names_that_this_server_answers_to(host: str, far: bool, known: bool) -> None:
    async def nothing(*_: object) -> None:
        return None

    assert Guard(nothing, door=Door({}), hosts=["studio.lan"], far=far)._known(host) is known


def test_people_come_from_a_password_and_a_private_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "users"
    file.write_text("# people\nann: a-long-secret\n\nbob:another-secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("DSV4_PASSWORD", "the-owners-secret")
    assert people(str(file)) == {"owner": "the-owners-secret", "ann": "a-long-secret", "bob": "another-secret"}
    if os.name == "posix":
        file.chmod(0o644)
        with pytest.raises(InputError, match="chmod 600"):
            people(str(file))
        file.chmod(0o600)
    for bad in ("ann", "ann:a-long-secret\nann:a-long-secret", ":x"):
        file.write_text(bad)
        with pytest.raises(InputError, match="line"):
            people(str(file))
    with pytest.raises(InputError, match="cannot be read"):
        people(str(tmp_path / "none"))
    with pytest.raises(InputError, match="too short"):
        Door({"ann": "short"})


def test_the_signing_key_is_private_and_survives_a_restart(tmp_path) -> None:
    session = Door({"ann": ANN}, tmp_path).session("ann")
    assert Door({"ann": ANN}, tmp_path).by_session(session) == "ann"
    assert (tmp_path / "session.key").stat().st_mode & 0o077 == 0
