"""A real headless Chromium for the tests that need one; where none is installed they say so and are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.walk import ARGUMENTS, CHROMIUM, find_browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, one for all tests."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        pytest.skip(f"no browser is installed; looked for {', '.join(CHROMIUM)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, headless=True)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """An empty page of its own; see `closed_page`."""
    yield from closed_page(chromium)


def closed_page(chromium: Any) -> Iterator[Any]:
    """An empty page that cannot reach the network; what it asked for is in `page.asked`."""
    context = chromium.new_context(viewport={"width": 200, "height": 200})
    page = context.new_page()
    page.asked = []

    def refuse(route: Any) -> None:
        if route.request.url.startswith("http"):
            page.asked.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/*", refuse)
    yield page
    context.close()
