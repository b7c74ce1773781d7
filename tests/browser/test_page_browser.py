"""The page as a browser gets it, without a browser: its parts, its files, and a drawing made over HTTP.

The same in a real browser, with clicks, is `make browser` (tests/browser/walk.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.page.named import NAMED
from dsv4 import EchoStudio
from tests.browser.walk import served


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(EchoStudio) as address:
        yield address


@pytest.fixture(scope="module")
def config(address: str) -> dict[str, Any]:
    return httpx.get(f"{address}/config").json()


def parts(config: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The components of one kind."""
    return [one for one in config["components"] if one["type"] == kind]


def run(address: str, config: dict[str, Any], target: int, inputs: list[Any]) -> list[Any]:
    """Click a button and do all that follows, as the page does; returns what was said to the page."""
    chain = next(d for d in config["dependencies"] if [target, "click"] in [list(t) for t in d["targets"]])
    session = f"test{target}"
    first = {"data": inputs, "fn_index": chain["id"], "session_hash": session}
    answer = httpx.post(f"{address}/gradio_api/run/predict", json=first, timeout=20)
    assert answer.status_code == 200, answer.text
    messages = [answer.json()]
    follower = next(d for d in config["dependencies"] if d["trigger_after"] == chain["id"])
    body = {"data": [None], "fn_index": follower["id"], "session_hash": session}
    assert httpx.post(f"{address}/gradio_api/queue/join", json=body, timeout=20).status_code == 200
    with httpx.stream(
        "GET", f"{address}/gradio_api/queue/data", params={"session_hash": session}, timeout=30
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                messages.append(json.loads(line[5:]))
                if messages[-1]["msg"] in ("process_completed", "close_stream"):
                    return messages
    raise AssertionError(f"the stream ended early: {messages[-1:]}")


def button(config: dict[str, Any], words: str) -> int:
    """The id of the button with these words."""
    return next(one["id"] for one in parts(config, "button") if one["props"]["value"] == words)


def test_six_rooms_and_no_sharing(config: dict[str, Any]) -> None:
    rooms = [one["props"]["label"] for one in parts(config, "tabitem")]
    assert rooms == ["Chat", "Create", "Gallery", "Queue", "Batch", "Model", "SVG", "Image", "Video"]
    assert config["analytics_enabled"] is False
    assert not {"plot", "model3d", "loginbutton", "duplicatebutton"} & {one["type"] for one in config["components"]}
    assert {event["api_name"] for event in config["dependencies"] if event["api_visibility"] != "private"} == set(NAMED)


def test_every_file_of_the_page_comes_from_here(address: str) -> None:
    text = httpx.get(f"{address}/").text
    head = text[: text.index("<script>")] if "<script>" in text else text
    linked = re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="([^"]+)"', text)
    assert linked and "fonts.googleapis" not in head
    for link in linked:
        assert not link.startswith(("http:", "https:", "//")), link
        if link.startswith(("./", "/")):
            assert httpx.get(f"{address}/{link.lstrip('./')}").status_code == 200, link


def test_a_drawing_is_made_over_http(address: str, config: dict[str, Any]) -> None:
    text = json.dumps(run(address, config, button(config, "Draw"), ["red heart icon", "", 0, 0, 1]))
    assert "<title>red heart icon</title>" in text and "/content" in text and "Done in" in text


def test_bad_input_over_http_is_a_sentence(address: str, config: dict[str, Any]) -> None:
    text = json.dumps(run(address, config, button(config, "Paint"), ["a tiger", "", None, 128, 1, 8, 2]))
    assert "seed must be a whole number, got nothing" in text and "Traceback" not in text
