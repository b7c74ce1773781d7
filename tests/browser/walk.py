"""Walk through every tab of the page in a real browser: `python -m tests.browser.walk [--shots FOLDER]`.

Starts the page on the echo studio, does on each tab what a person would, and fails when something is missing, when a
request leaves the machine or when the page logs an error of its own. `make browser` runs it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from app.house import House
from app.server import bind, build_app
from dsv4 import EchoStudio
from dsv4.results import Picture, Progress

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 30_000  # milliseconds for anything to appear; generous, since test machines are shared


def find_browser() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


@contextmanager
def served(factory: Any, name: str = "echo", *, home: Path | None = None, **options: Any) -> Iterator[str]:
    """The address of the studio on `factory`, served by a thread as long as the context lasts.

    `factory` can be pickled, since the model has a process of its own; `options` are those of `build_app`.
    """
    with tempfile.TemporaryDirectory(prefix="dsv4-test-") as folder:
        house = House(home or Path(folder) / "home", factory, name=name)
        listening = bind("127.0.0.1", 0)
        app = build_app(house, **options)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise RuntimeError("the page did not start")
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


class PatientStudio(EchoStudio):
    """Echo, but a slow picture when asked for one, so that there is something to stop."""

    def image(self, prompt: str, *, on_progress: Any = None, **settings: Any) -> Picture:
        def slowly(progress: Progress) -> None:
            on_progress(progress)
            time.sleep(0.4)

        return super().image(prompt, on_progress=slowly if "slow" in prompt else on_progress, **settings)


class Walk:
    """One visit: a browser page with a record of what it asked for and what went wrong."""

    def __init__(self, page: Any, address: str, shots: Path | None) -> None:
        self.page, self.address, self.shots = page, address, shots
        self.foreign: list[str] = []
        self.broken: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.broken.append(str(error)))

    def open(self, query: str = "") -> None:
        """Go to the page and wait until the model is there."""
        self.page.goto(f"{self.address}/{query}", wait_until="domcontentloaded")
        self.page.get_by_role("tab", name="Chat").wait_for()
        self.page.locator("#state .ready").wait_for()

    def tab(self, name: str) -> Any:
        """Open a tab, also one that a narrow page keeps behind its dots; returns its panel."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():
            self.page.locator(".overflow-menu > button").click()
            tab = self.page.locator(".overflow-dropdown").get_by_text(name, exact=True)
        tab.click()
        return self.page.get_by_role("tabpanel").filter(visible=True)

    def shot(self, name: str) -> None:
        """Keep a picture of the page as it is now."""
        if self.shots is not None:
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)

    def chat(self, picture: Path) -> None:
        """Ask a question, then one about a picture whose cost is shown first; an empty message is answered kindly."""
        panel = self.tab("Chat")
        self.shot("chat-empty")
        box = panel.get_by_placeholder("Ask something …")
        box.fill("What is a heron?")
        box.press("Enter")
        panel.get_by_test_id("bot").get_by_text("What is a heron?").wait_for()
        panel.locator("#say input[type=file]").set_input_files(str(picture))
        panel.get_by_text("1 picture (96 × 64)").wait_for()
        panel.get_by_text("Base · ").wait_for()
        self.shot("chat-cost")
        box.fill("What is in this picture?")
        box.press("Enter")
        panel.get_by_test_id("bot").get_by_text("[a picture of 96 x 64]").wait_for()
        assert not panel.get_by_role("button", name="Share").filter(visible=True).count(), "sharing leaves the machine"
        self.shot("chat-answered")
        panel.get_by_role("button", name="New chat").click()
        panel.get_by_test_id("bot").first.wait_for(state="detached")

    def svg(self) -> None:
        """Draw: code and picture appear, and the file can be fetched."""
        panel = self.tab("SVG")
        self.shot("svg-empty")
        panel.get_by_role("button", name="three heart icons").click()
        panel.get_by_role("button", name="Draw", exact=True).click()
        panel.get_by_text("Done: ").wait_for()
        source = panel.locator("#preview img").get_attribute("src")
        assert source is not None and source.startswith("data:image/svg+xml;base64,"), source
        assert "circle" in panel.locator("#code").inner_text()
        self.shot("svg")
        with self.page.expect_download() as download:
            panel.get_by_role("link", name="Download SVG").or_(panel.get_by_role("button", name="Download SVG")).click()
        assert download.value.suggested_filename == "three-heart-icons.svg", download.value.suggested_filename

    def image(self) -> None:
        """Paint, then refuse an empty prompt with words, then ask about the picture in the chat."""
        panel = self.tab("Image")
        panel.get_by_role("button", name="Paint", exact=True).click()
        panel.locator(".status.bad").get_by_text("the prompt is empty").wait_for()
        panel.get_by_label("What should it paint?").fill("a slow tiger")
        panel.get_by_role("button", name="Paint", exact=True).click()
        panel.get_by_text("Painting: step 2 of 8").wait_for()
        self.shot("image-running")
        begun = time.monotonic()
        panel.get_by_role("button", name="Stop", exact=True).click()
        panel.get_by_text("Stopped.").wait_for()
        assert time.monotonic() - begun < 3, "stopping took longer than the rest would have"
        panel.get_by_role("button", name="Stop", exact=True).wait_for(state="hidden")
        panel.get_by_role("button", name="an owl, flat style").click()
        panel.get_by_role("button", name="Paint", exact=True).click()
        panel.get_by_text("Done: 128 × 128").wait_for()
        panel.locator("#picture img").wait_for()
        self.shot("image")
        panel.get_by_role("button", name="Ask about it").click()
        self.page.get_by_role("tabpanel").filter(visible=True).get_by_text("1 picture (128 × 128)").wait_for()

    def video(self) -> None:
        """Animate: the clip is there and this browser can play it."""
        panel = self.tab("Video")
        panel.get_by_role("button", name="a rocket moving up").click()
        panel.get_by_role("button", name="Animate", exact=True).click()
        panel.get_by_text("Done: 16 frames").wait_for()
        clip = panel.locator("#clip video")
        clip.wait_for()
        self.page.wait_for_function("document.querySelector('#clip video').readyState >= 2", timeout=PATIENCE)
        self.shot("video")

    def model(self) -> None:
        """Read what is loaded and whose work it rests on."""
        panel = self.tab("Model")
        panel.get_by_text("What is loaded").wait_for()
        panel.get_by_text("Open English WordNet").first.wait_for()
        self.shot("model")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.foreign.append(request.url)


def walk(browser: str, shots: Path | None = None) -> None:
    """The whole visit, in light and dark and on a phone's width; raises when anything is not as it should be."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with served(PatientStudio) as address, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        picture = Path(folder) / "scene.png"
        Image.new("RGB", (96, 64), "teal").save(picture)
        chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS, headless=True)
        visit = Walk(chromium.new_page(viewport={"width": 1240, "height": 900}), address, shots)
        begun = time.monotonic()
        visit.open()
        print(f"ready to use after {time.monotonic() - begun:.1f} s")
        for part in (lambda: visit.chat(picture), visit.svg, visit.image, visit.video, visit.model):
            part()
        dark = Walk(chromium.new_page(viewport={"width": 1240, "height": 900}), address, shots)
        dark.open("?__theme=dark")
        dark.shot("chat-dark")
        dark.tab("SVG").get_by_role("button", name="Draw", exact=True).wait_for()
        dark.shot("svg-dark")
        phone = Walk(chromium.new_page(viewport={"width": 390, "height": 800}), address, shots)
        phone.open()
        phone.shot("chat-phone")
        phone.tab("Image").get_by_role("button", name="Paint", exact=True).wait_for()
        wide = phone.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        phone.shot("image-phone")
        chromium.close()
        for one in (visit, dark, phone):
            assert not one.foreign, f"requests left the machine: {one.foreign}"
            assert not one.broken, f"the page broke: {one.broken}"
        assert wide <= 0, f"the page is {wide} pixels wider than a phone"


def main() -> int:
    """Walk once; status 1 when there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=Path, help="a folder for pictures of the page")
    shots = parser.parse_args().shots
    browser = find_browser()
    if browser is None:
        print(f"no browser found; install one of: {', '.join(CHROMIUM)}", file=sys.stderr)
        return 1
    if shots is not None:
        shots.mkdir(parents=True, exist_ok=True)
    walk(browser, shots)
    print("every tab works, nothing left the machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
