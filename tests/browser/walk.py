"""Walk through every room of the page in a real browser: `python -m tests.browser.walk [--shots FOLDER]`.

Starts the page on the echo studio, does in each room what a person would, and fails when something is missing, when a
request leaves the machine or when the page logs an error of its own. `make browser` runs it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from app.house import House
from app.server import bind, build_app
from dsv4 import EchoStudio
from dsv4.results import ChatStream, Clip, Picture, Progress

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
def served(
    factory: Any, name: str = "echo", *, home: Path | None = None, others: Sequence[Any] = (),
    weights: Path | None = None, **options: Any,
) -> Iterator[str]:  # fmt: skip
    """The address of the studio on `factory`, served by a thread as long as the context lasts.

    `factory` can be pickled, since the model has a process of its own; `others` and `weights` are
    those of the house, `options` those of `build_app`.
    """
    with tempfile.TemporaryDirectory(prefix="dsv4-test-") as folder:
        house = House(home or Path(folder) / "home", factory, name=name, others=others, weights=weights)
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
    """Echo, but slow where the prompt says so, so that there is something to stop, to leave and to come back to."""

    def chat(self, prompt: str, *pictures: Any, **settings: Any) -> ChatStream:
        stream = super().chat(prompt, *pictures, **settings)
        pieces = stream._pieces

        def slowly() -> Iterator[str]:
            for piece in pieces:
                time.sleep(0.25 if "slow" in prompt else 0)
                yield piece

        stream._pieces = slowly()
        return stream

    def image(self, prompt: str, *, on_progress: Any = None, **settings: Any) -> Picture:
        return super().image(prompt, on_progress=_slowly(prompt, on_progress), **settings)

    def video(self, prompt: str, *, on_progress: Any = None, **settings: Any) -> Clip:
        return super().video(prompt, on_progress=_slowly(prompt, on_progress, 1.5), **settings)


def _slowly(prompt: str, on_progress: Any, seconds: float = 0.5) -> Any:
    def show(progress: Progress) -> None:
        on_progress(progress)
        time.sleep(seconds if "slow" in prompt else 0)

    return show


class Walk:
    """One visit: a browser page with a record of what it asked for and what went wrong."""

    def __init__(self, page: Any, address: str, shots: Path | None) -> None:
        self.page, self.address, self.shots = page, address, shots
        self.foreign: list[str] = []
        self.broken: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.broken.append(str(error)))
        page.on("response", lambda answer: answer.status >= 500 and self.broken.append(f"{answer.status} {answer.url}"))

    def open(self, query: str = "") -> None:
        """Go to the page and wait until the model is there."""
        self.page.goto(f"{self.address}/{query}", wait_until="domcontentloaded")
        self.page.get_by_role("tab", name="Chat").wait_for()
        self.page.locator("#state .ready").wait_for()
        self.page.wait_for_timeout(500)  # what was there is brought back in a moment

    def tab(self, name: str) -> Any:
        """Open a tab, also one that a narrow page keeps behind its dots; returns its panel."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():
            self.page.locator(".overflow-menu > button").first.click()
            tab = self.page.locator(".overflow-dropdown").get_by_text(name, exact=True)
        tab.click()
        return self.page.get_by_role("tabpanel").filter(visible=True).last

    def shot(self, name: str) -> None:
        """Keep a picture of the page as it is now."""
        if self.shots is not None:
            self.page.wait_for_timeout(600)
            self.page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)

    def say(self, words: str) -> None:
        """Type into the chat and send it."""
        box = self.page.get_by_placeholder("Ask something, or")
        box.fill(words)
        self.page.wait_for_timeout(150)
        box.press("Enter")

    def answer(self, words: str) -> Any:
        """The answer that holds these words, finished: its buttons are there."""
        return self.page.locator(".msg.assistant", has_text=words).filter(has=self.page.locator("footer")).last

    def chat(self, picture: Path) -> None:
        """Ask, then about a picture whose cost is shown first; make a drawing; edit, again, branches."""
        panel = self.tab("Chat")
        self.shot("chat-empty")
        self.say("What is a heron?")
        self.answer("What is a heron?").wait_for()
        panel.locator("#say input[type=file]").set_input_files(str(picture))
        panel.get_by_text("1 picture (96 × 64)").wait_for()
        panel.get_by_text("Base · ").wait_for()
        self.shot("chat-cost")
        self.say("What is in this picture?")
        self.answer("[a picture of 96 x 64]").wait_for()
        self.say("/svg red heart icon")
        panel.locator(".msg.assistant img.svg").wait_for()
        self.shot("chat-answered")
        self.answer("[a picture of 96 x 64]").get_by_role("button", name="Another answer").click()
        panel.get_by_text("2 / 2").wait_for()
        panel.get_by_role("button", name="Earlier branch").last.click()
        panel.get_by_text("1 / 2").wait_for()
        panel.locator(".msg.user", has_text="What is a heron?").get_by_role("button", name="Edit").click()
        panel.get_by_text("Sending makes a new branch").wait_for()
        self.say("What is a stork?")
        self.answer("What is a stork?").wait_for()
        panel.get_by_role("button", name="Earlier branch").first.click()
        self.answer("What is a heron?").wait_for()

    def comes_back(self) -> None:
        """Reload in the middle of an answer and of a clip: both go on, and are there."""
        self.tab("Chat").get_by_role("button", name="New chat").click()
        self.page.locator(".welcome").first.wait_for()
        words = "slow " + " ".join(f"word{number}" for number in range(80))
        self.say(words)
        self.page.locator("#now", has_text="word3").wait_for()
        self.open()
        self.page.locator("#now", has_text="word9").wait_for()
        self.shot("chat-came-back")
        self.tab("Create")
        self.tab("Video")
        self.page.locator("textarea:visible").first.fill("a slow ball bouncing")
        self.page.get_by_role("button", name="Animate", exact=True).click()
        self.answer(words).wait_for(state="attached")
        self.page.locator("#video-line", has_text="step 2 of 8").wait_for()
        self.shot("video-running")
        self.open()
        self.tab("Create")
        self.tab("Video")
        self.page.locator("#video-line", has_text="step 5 of 8").wait_for()
        self.page.locator("#video-result video").wait_for()
        self.page.wait_for_function("document.querySelector('#video-result video').readyState >= 2", timeout=PATIENCE)
        self.shot("video")

    def stop(self) -> None:
        """Stop an answer: what was said stays. Stop a picture: it ends within a step."""
        self.tab("Chat").get_by_role("button", name="New chat").click()
        self.page.locator(".welcome").first.wait_for()
        self.say("slow " + "and so on " * 40)
        self.page.locator("#now", has_text="and so on").wait_for()
        self.page.locator("#say button.stop-button").click()
        self.answer("and so on").wait_for()
        self.page.get_by_text("Stopped.").first.wait_for()

    def svg(self) -> None:
        """Draw: code and picture appear, and the file can be fetched."""
        self.tab("Create")
        self.tab("SVG")
        self.page.get_by_role("button", name="three heart icons").click()
        self.page.get_by_role("button", name="Draw", exact=True).click()
        self.page.locator("#svg-result img.svg").wait_for()
        self.page.locator("#code", has_text="circle").wait_for()
        self.shot("svg")
        with self.page.expect_download() as download:
            self.page.locator("#svg-result").get_by_role("link", name="SVG").click()
        assert download.value.suggested_filename == "three-heart-icons.svg", download.value.suggested_filename

    def image(self) -> None:
        """Refuse an empty prompt with words, stop a slow picture, paint two, ask about one in the chat."""
        self.tab("Create")
        self.tab("Image")
        paint, page = self.page.get_by_role("button", name="Paint", exact=True), self.page
        paint.click()
        page.locator("#image-line .bad", has_text="the prompt is empty").wait_for()
        page.locator("textarea:visible").first.fill("a slow tiger")
        paint.click()
        page.locator("#image-line", has_text="Painting: step 2 of 8").wait_for()
        self.shot("image-running")
        begun = time.monotonic()
        page.get_by_role("button", name="Stop", exact=True).click()
        page.locator("#image-line", has_text="Stopped.").wait_for()
        assert time.monotonic() - begun < 3, "stopping took longer than the rest would have"
        page.get_by_role("button", name="an owl, flat style").click()
        paint.click()
        page.locator("#image-result img").first.wait_for()
        page.locator("#image-line", has_text="Done in").wait_for()
        self.shot("image")
        page.locator("#image-result").get_by_role("button", name="Ask about it").first.click()
        page.get_by_text("1 picture (128 × 128)").wait_for()
        self.say("What is in this picture?")
        self.answer("[a picture of 128 x 128]").wait_for()

    def gallery(self) -> None:
        """Find what was made, star it, bring its settings back; the same from a file."""
        self.tab("Gallery")
        self.page.locator(".tile").first.wait_for()
        self.page.get_by_placeholder("Search prompts and names").fill("owl")
        self.page.wait_for_function("document.querySelectorAll('.tile').length === 1", timeout=PATIENCE)
        self.page.locator(".tile").click()
        self.page.locator("#detail").get_by_role("button", name="☆ Star").click()
        self.page.locator("#detail").get_by_text("★ Starred").wait_for()
        self.page.get_by_placeholder("Search prompts and names").fill("")
        self.page.wait_for_function("document.querySelectorAll('.tile').length > 1", timeout=PATIENCE)
        self.shot("gallery")
        with self.page.expect_download() as download:
            self.page.locator("#detail").get_by_role("link", name="Download").click()
        file = download.value.path()
        self.page.locator("#detail").get_by_role("button", name="Use these settings").click()
        self.page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(a => a.offsetParent && a.value === 'an owl, flat style')"
        )
        copy = Path(file).with_suffix(".png")
        shutil.copyfile(file, copy)
        self.tab("Gallery")
        self.page.locator("input[type=file]").last.wait_for(state="attached")
        self.page.locator("#settings-of").locator("xpath=preceding::input[@type='file'][1]").set_input_files(str(copy))
        self.page.get_by_role("button", name="Paint", exact=True).wait_for()

    def work(self, folder: Path) -> None:
        """A batch from a file, and the queue."""
        rows = folder / "rows.jsonl"
        body = '"body": {"messages": [{"role": "user", "content": "slow hello"}]}'
        lines = [f'{{"custom_id": "r{n}", "url": "/v1/chat/completions", {body}}}' for n in range(8)]
        rows.write_text("\n".join(lines))
        self.tab("Batch")
        self.page.locator("#batch-upload").locator("xpath=preceding::input[@type='file'][1]").set_input_files(str(rows))
        self.page.locator("#batches", has_text="in progress").wait_for()
        self.shot("batch-running")
        self.tab("Queue")
        self.page.locator("#queue", has_text="slow hello").wait_for()
        self.shot("queue")
        self.tab("Batch")
        self.page.locator("#batches", has_text="8 done, 0 failed of 8").wait_for()
        self.page.locator("#batches").get_by_role("link", name="Results").wait_for()
        self.shot("batch")

    def model(self) -> None:
        """Read what is loaded, what it did, and whose work it rests on."""
        self.tab("Model")
        self.page.get_by_text("What is loaded").wait_for()
        self.page.get_by_text("What it did here").wait_for()
        self.page.get_by_text("Open English WordNet").first.wait_for()
        self.shot("model")

    def keyboard(self) -> None:
        """Ask something with the keyboard alone."""
        self.tab("Chat")
        self.page.get_by_placeholder("Ask something, or").focus()
        for _ in range(60):
            self.page.keyboard.press("Shift+Tab")
            if self.page.evaluate("document.activeElement.textContent.trim() === 'New chat'"):
                break
        else:
            raise AssertionError("New chat is not reached by Tab")
        self.page.keyboard.press("Enter")
        self.page.locator(".welcome").first.wait_for()
        self.page.wait_for_timeout(500)  # the box is emptied, also where the page was empty before
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(document.activeElement.placeholder || '').startsWith('Ask something')"):
                break
        self.page.keyboard.type("typed by hand")
        self.page.wait_for_timeout(200)
        self.page.keyboard.press("Enter")
        self.answer("typed by hand").wait_for()

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.foreign.append(request.url)


def walk(browser: str, shots: Path | None = None) -> None:
    """The whole visit, over a restart, in light and dark and on a phone's width; raises when anything is wrong."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        picture = folder / "scene.png"
        Image.new("RGB", (96, 64), "teal").save(picture)
        chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS, headless=True)
        visits: list[Walk] = []

        def visit(address: str, query: str = "", width: int = 1240, height: int = 900) -> Walk:
            one = Walk(chromium.new_page(viewport={"width": width, "height": height}), address, shots)
            visits.append(one)
            one.open(query)
            return one

        with served(PatientStudio, home=folder / "home") as address:
            first = visit(address)
            parts = (lambda: first.chat(picture), first.svg, first.image, first.comes_back, first.stop, first.gallery,
                     lambda: first.work(folder), first.model, first.keyboard)  # fmt: skip
            for part in parts:
                part()
        with served(PatientStudio, home=folder / "home") as address:
            after = visit(address, "?__theme=dark")
            after.answer("typed by hand").wait_for()  # another server, the same conversations
            after.shot("chat-dark")
            after.tab("Gallery")
            after.page.locator(".tile").first.click()
            after.shot("gallery-dark")
            phone = visit(address, width=375, height=760)
            phone.shot("chat-phone")
            wide = [phone.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")]
            for room in ("Create", "Gallery", "Queue", "Batch", "Model"):
                phone.tab(room)
                phone.shot(f"{room.lower()}-phone")
                wide.append(phone.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
        chromium.close()
    for one in visits:
        assert not one.foreign, f"requests left the machine: {one.foreign}"
        assert not one.broken, f"the page broke: {one.broken}"
    assert max(wide) <= 0, f"the page is {wide} pixels wider than a phone"


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
    print("every room works, nothing was lost, nothing left the machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
