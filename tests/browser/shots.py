"""Pictures of every room for docs/, with the shipped model at work: `python -m tests.browser.shots [--out docs]`.

Light and wide as most people see it, the chat and Create also in the dark, the chat and the gallery on a phone.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

import dsv4
from tests.browser.walk import ARGUMENTS, Walk, find_browser, served

TALL = 1500  # pixels of a picture at most; what is longer is cut off
SLOW = 180_000  # milliseconds: the model works on two cores


class Shots(Walk):
    """A visit whose pictures are WebP."""

    def shot(self, name: str) -> None:
        """Keep a picture of the page as it is."""
        assert self.shots is not None
        self.page.wait_for_timeout(700)
        content = self.page.screenshot(full_page=True)
        with Image.open(io.BytesIO(content)) as picture:
            kept = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, TALL)))
            kept.save(self.shots / f"studio_{name}.webp", quality=82, method=6)


def light(one: Shots, folder: Path) -> None:
    """Work in every room and keep what it looks like."""
    page = one.page
    page.set_viewport_size({"width": 1240, "height": 1340})  # so that the conversation is seen whole
    one.say("/image a rocket to the left of a red apple on a sky blue background")
    page.locator(".msg.assistant img.image").last.wait_for()
    one.say("What is to the left of the red apple?")
    page.locator(".msg.assistant").nth(1).locator("footer").wait_for()
    one.say("/svg red heart icon")
    page.locator(".msg.assistant img.svg").last.wait_for()
    one.shot("chat")
    page.set_viewport_size({"width": 1240, "height": 860})
    one.tab("Create")
    one.tab("SVG")
    page.locator("textarea:visible").first.fill("three heart icons")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#svg-line", has_text="Done in").wait_for()
    page.locator("#svg-result img.svg").wait_for()
    one.shot("create")
    one.tab("Image")
    page.locator("textarea:visible").first.fill("a tiger on a mint background")
    page.get_by_label("How many", exact=False).first.fill("4")
    page.get_by_role("button", name="Paint", exact=True).click()
    page.locator("#image-line", has_text="Done in").wait_for()
    page.wait_for_function("document.querySelectorAll('#image-result img').length === 4")
    page.get_by_role("button", name="Real weights of others").filter(visible=True).click()
    one.shot("image")
    one.tab("Video")
    page.locator("textarea:visible").first.fill("a soccer ball bouncing")
    page.get_by_role("button", name="Animate", exact=True).click()
    page.locator("#video-line", has_text="Done in").wait_for()
    page.locator("#video-result video").wait_for()
    one.shot("video")
    one.tab("Gallery")
    page.locator(".tile").nth(1).click()
    page.locator("#detail h2").wait_for()
    one.shot("gallery")
    rows = folder / "rows.jsonl"
    asked = ("What is a heron?", "What is the opposite of heavy?", "What is a spoon?", "What is a harbor?")
    bodies = [{"messages": [{"role": "user", "content": question}]} for question in asked * 12]
    url = "/v1/chat/completions"
    lines = [{"custom_id": f"word-{n}", "url": url, "body": body} for n, body in enumerate(bodies)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    one.tab("Batch")
    page.locator("#batch-upload").locator("xpath=preceding::input[@type='file'][1]").set_input_files(str(rows))
    page.locator("#batches", has_text=re.compile(r"[1-9]\d* done")).wait_for()
    one.shot("batch")
    one.tab("Queue")
    page.locator("#queue li").first.wait_for()
    one.shot("queue")
    one.tab("Model")
    page.locator("#plan-model input").click()
    page.get_by_role("option", name="deepseek-v4-flash").click()
    page.locator("#plan-ask").click()
    page.locator("#plan-answer table").first.wait_for()
    page.get_by_text("What it did here").wait_for()
    one.shot("model")


def main() -> int:
    """Make all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out, browser = parser.parse_args().out, find_browser()
    if browser is None:
        print("no browser found", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS, headless=True)

        def visit(address: str, query: str = "", width: int = 1240, height: int = 860) -> Any:
            one = Shots(chromium.new_page(viewport={"width": width, "height": height}), address, out)
            one.page.set_default_timeout(SLOW)
            one.open(query)
            return one

        with served(partial(dsv4.load, "nano"), "nano", home=Path(folder) / "home") as address:
            light(visit(address), Path(folder))
            dark = visit(address, "?__theme=dark")
            dark.shot("chat_dark")
            dark.tab("Create")
            dark.tab("SVG")
            dark.page.locator("#svg-result img.svg").wait_for()
            dark.shot("create_dark")
            phone = visit(address, width=375, height=760)
            phone.shot("chat_phone")
            phone.tab("Gallery")
            phone.page.locator(".tile").nth(1).wait_for()
            phone.shot("gallery_phone")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
