"""Served below a path of another server: page, API, streams, login and files are all found there."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from app.below import checked_root
from app.door import Door
from dsv4 import EchoStudio, InputError
from tests.app.proxy import proxied
from tests.browser.walk import served

ROOT = "/ai/studio"
SECRET = "ann-secret-1234"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(EchoStudio, root_path=ROOT) as address:
        yield address


@pytest.mark.parametrize("strip", [True, False], ids=["root taken away", "root left"])
def test_page_and_api_are_served_below_a_path(address, strip):
    with proxied(address, ROOT, strip=strip) as below, httpx.Client(timeout=30) as client:
        page = client.get(f"{below}/")
        assert page.status_code == 200 and "dsv4 studio" in page.text
        assert client.get(f"{below}/config").json()["root"].endswith(ROOT)
        assert client.get(below, follow_redirects=True).url == f"{below}/"
        made = client.post(f"{below}/v1/images/generations", json={"prompt": "x", "response_format": "url"}).json()
        assert made["data"][0]["url"].startswith(f"{below}/v1/files/")
        assert client.get(made["data"][0]["url"]).headers["content-type"] == "image/png"
        said = {"messages": [{"role": "user", "content": "one two"}], "stream": True}
        with client.stream("POST", f"{below}/v1/chat/completions", json=said) as stream:
            assert [line for line in stream.iter_lines() if line][-1] == "data: [DONE]"
        assert client.post(f"{below}/v1/files", headers={"origin": "http://evil.example"}).status_code == 403
        assert f"curl {below}/v1/" in client.get(f"{below}/docs").text
        assert client.get(f"{below}/v1/models").json()["data"][0]["id"] == "echo"


def test_without_the_proxy_it_is_found_at_both_paths(address):
    assert httpx.get(f"{address}/healthz").status_code == httpx.get(f"{address}{ROOT}/healthz").status_code == 200
    bare = httpx.get(f"{address}{ROOT}?a=1")
    assert bare.status_code == 307 and bare.headers["location"] == f"{ROOT}/?a=1"
    assert httpx.get(f"{address}{ROOT}x/healthz").status_code == 404


def test_a_login_leads_back_below_the_path(tmp_path):
    door = Door({"ann": SECRET}, tmp_path)
    with served(EchoStudio, root_path=ROOT, door=door) as address, proxied(address, ROOT) as below:
        asked = httpx.get(f"{below}/", headers={"accept": "text/html"})
        assert asked.status_code == 303 and asked.headers["location"] == f"{ROOT}/login?next=/"
        form = {"name": "ann", "secret": SECRET, "next": "/docs"}
        origin = {"origin": below.removesuffix(ROOT)}
        entered = httpx.post(f"{below}/login", data=form, headers=origin)
        assert entered.status_code == 303 and entered.headers["location"] == f"{ROOT}/docs"
        assert httpx.get(f"{below}/v1/models").status_code == 401
        assert httpx.get(f"{below}/docs", cookies=dict(entered.cookies)).status_code == 200


@pytest.mark.parametrize("root", ["studio", "/a b", "//evil.example", "/a/../b", "/a?b", "http://x"])
def test_what_is_no_root_is_refused(root):
    with pytest.raises(InputError, match="like /studio"):
        checked_root(root)
    assert checked_root("/studio/") == "/studio" and checked_root("/") == ""
