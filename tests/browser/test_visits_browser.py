"""Visits in a real browser: reload, restart, two people, a phone, the dark, the keyboard alone, and what axe finds.

The long walk through every room, with pictures of each, is `make browser`.
"""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from app.door import Door
from app.shelf import Choice
from tests.app.proxy import proxied
from tests.app.studios import Second
from tests.browser.walk import PatientStudio, Walk, served

ROOMS = ("Chat", "Create", "Gallery", "Queue", "Batch", "Model")
# What axe finds in parts that are not ours, by rule: pieces of the page's library, as it ships them.
UPSTREAM: dict[str, str | tuple[str, ...]] = {
    "image-redundant-alt": 'img[alt="Settings"]',  # the icon beside the word, in the foot of the page
    "aria-prohibited-attr": ".large",  # the empty field of a picture
    "color-contrast": (".cm-", ".\u037c"),  # the colours of code in its editor; all other words are held to it
}
DARK = "document.body.classList.contains('dark')"
ANN, BOB = "ann-secret-1234", "bob-secret-1234"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that outlives a server."""
    return tmp_path_factory.mktemp("studio") / "home"


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with served(PatientStudio, home=home) as address:
        yield address


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    """Open the studio as somebody; at the end nothing may have left the machine and nothing may have broken."""
    visits: list[Walk] = []

    def begin(address: str, query: str = "", *, width: int = 1240, **options: Any) -> Walk:
        context = chromium.new_context(viewport={"width": width, "height": 860}, **options)
        one = Walk(context.new_page(), address, None)
        visits.append(one)
        one.open(query)
        if "dark" in query:
            one.page.wait_for_function(DARK)
        return one

    yield begin
    for one in visits:
        one.page.context.close()
        assert not one.foreign, f"requests left the machine: {one.foreign}"
        assert not one.broken, f"the page broke: {one.broken}"


def test_a_reload_in_the_middle_loses_nothing(address, visit):
    one = visit(address)
    words = "slow " + " ".join(f"word{number}" for number in range(24))
    one.say(words)
    one.page.locator("#now", has_text="word2").wait_for()
    other = one.page.context.new_page()  # a second tab on the same conversation
    again = Walk(other, address, None)
    again.open()
    again.page.locator("#now", has_text="word9").wait_for()
    one.open()
    for tab in (one, again):
        tab.answer(words).wait_for()
        assert tab.page.locator(".msg.assistant .text").last.inner_text() == words
    one.tab("Create")
    one.tab("Video")
    one.page.locator("textarea:visible").first.fill("a slow ball")
    one.page.get_by_role("button", name="Animate", exact=True).click()
    one.page.locator("#video-line", has_text="step 2 of 8").wait_for()
    one.open()
    one.tab("Create")
    one.tab("Video")
    one.page.locator("#video-line", has_text="step 5 of 8").wait_for()
    one.page.locator("#video-result video").wait_for()
    one.page.wait_for_function("document.querySelector('#video-result video').readyState >= 2")


def test_a_drawing_is_changed_by_words_and_a_paper_is_read(address, visit, scene):
    one = visit(address)
    one.tab("Create")
    one.tab("SVG")
    one.page.get_by_role("button", name="red heart icon").click()
    one.page.get_by_role("button", name="Draw", exact=True).click()
    one.page.locator("#svg-result img.svg").wait_for()
    before = one.page.locator("#svg-result img.svg").get_attribute("src")
    one.page.locator("#svg-wish textarea, #svg-wish input").fill("make it blue")
    one.page.get_by_role("button", name="Change", exact=True).click()
    one.page.wait_for_function(
        "before => { const one = document.querySelector('#svg-result img.svg'); "
        "return one && one.getAttribute('src') !== before }", arg=before,
    )  # fmt: skip
    panel = one.tab("Chat")
    panel.locator("#say input[type=file]").set_input_files(str(scene))
    panel.get_by_text("1 picture (96 × 64)").wait_for()
    one.say("/read")
    one.answer("A page of 96 x 64").wait_for()
    assert one.answer("A page of 96 x 64").locator("img").count() == 1  # the page with its boxes drawn in
    assert one.answer("A page of 96 x 64").locator("a.file").count() == 2


def test_another_server_has_the_history_in_the_dark_and_on_a_phone(home, chromium, visit, tmp_path):
    with served(PatientStudio, home=tmp_path / "home") as address:
        one = visit(address)
        one.say("remember the heron")
        one.answer("remember the heron").wait_for()
    with served(PatientStudio, home=tmp_path / "home") as address:
        dark = visit(address, "?__theme=dark")
        dark.answer("remember the heron").wait_for()
        ink = dark.page.evaluate("getComputedStyle(document.querySelector('.welcome, .msg.assistant .text')).color")
        assert sum(map(int, ink.strip("rgb()").split(",")[:3])) > 600, ink  # light words, so the ground is dark
        phone = visit(address, width=375, has_touch=True)
        phone.answer("remember the heron").wait_for()
        for room in ROOMS:
            phone.tab(room)
            wide = phone.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{room} is {wide} pixels wider than the phone"


def test_two_people_and_two_tabs_at_once(visit, tmp_path):
    with served(PatientStudio, home=tmp_path / "home", door=Door({"ann": ANN, "bob": BOB})) as address:
        people = {}
        for name, secret in (("ann", ANN), ("bob", BOB)):
            headers = {"authorization": f"Bearer {secret}"}
            people[name] = visit(address, extra_http_headers=headers)
        for name, one in people.items():
            one.say(f"slow words of {name} and some more")
        for name, one in people.items():
            one.answer(f"slow words of {name}").wait_for()
            one.tab("Queue")
            text = one.page.locator("#queue").inner_text()
            other = "bob" if name == "ann" else "ann"
            assert other not in text, "what belongs to one is shown to the other"


def test_everything_is_reached_by_the_keyboard(address, visit):
    one = visit(address)
    one.keyboard()
    page = one.page
    for name in ROOMS:
        tab = page.get_by_role("tab", name=name, exact=True)
        tab.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "name => [...document.querySelectorAll('[role=tab][aria-selected=true]')].some(tab => "
            "tab.textContent.trim() === name)", arg=name,
        )  # fmt: skip
    page.get_by_role("tab", name="Create", exact=True).focus()
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName === 'TEXTAREA'"):
            break
    page.keyboard.type("a heart by hand")
    page.keyboard.press("Shift+Enter")
    page.locator("#svg-result img.svg[alt='a heart by hand']").wait_for()


def test_axe_finds_nothing_that_is_ours(address, visit):
    one = visit(address)
    one.say("/svg red heart icon")
    one.page.locator(".msg.assistant img.svg").first.wait_for()
    found: dict[str, list[str]] = {}
    for query in ("", "?__theme=dark"):
        one.open(query)
        if query:
            one.page.wait_for_function(DARK)
        for room in ROOMS:
            one.tab(room)
            one.page.wait_for_timeout(300)
            for fault in Axe().run(one.page).response["violations"]:
                where = [node["target"][0] for node in fault["nodes"]]
                where = [place for place in where if not place.startswith(UPSTREAM.get(fault["id"], "-"))]
                found.setdefault(fault["id"], []).extend(f"{query}{room}: {place}" for place in where)
    assert not any(found.values()), "\n".join(f"{rule}: {one}" for rule, places in found.items() for one in places[:8])


GIVE = """([kind, content]) => {
  const bytes = Uint8Array.from(atob(content), one => one.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], `${kind}.png`, {type: 'image/png'}));
  const box = document.querySelector('#say textarea'), named = {bubbles: true, cancelable: true};
  if (kind === 'paste') box.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, ...named}));
  else for (const name of ['dragenter', 'dragover', 'drop']) box.dispatchEvent(
    new DragEvent(name, {dataTransfer: data, ...named}));
}"""


def test_pictures_are_pasted_and_dropped(address, visit, scene):
    one = visit(address)
    one.tab("Chat")
    content = base64.b64encode(scene.read_bytes()).decode()
    one.page.evaluate(GIVE, ["paste", content])
    one.page.get_by_text("1 picture (96 × 64)").wait_for()
    one.page.evaluate(GIVE, ["drop", content])
    one.page.get_by_text("2 pictures (96 × 64, 96 × 64)").wait_for()
    one.say("What are they?")
    one.answer("[a picture of 96 x 64] [a picture of 96 x 64] What are they?").wait_for()


def test_a_picture_is_described_and_redrawn(address, visit, scene):
    one = visit(address)
    one.tab("Create")
    one.tab("SVG")
    page = one.page
    page.get_by_role("button", name="From a picture").click()
    page.get_by_role("button", name="Redraw as SVG").click()
    page.locator("#svg-line .bad", has_text="there is no picture yet").wait_for()
    page.locator("#redraw-picture input[type=file]").set_input_files(str(scene))
    page.locator("#redraw-picture img").wait_for()
    page.get_by_role("button", name="Describe", exact=True).click()
    page.locator("#svg-line", has_text="Seen: [a picture of 96 x 64] What is in this picture?").wait_for()
    page.wait_for_function(
        "[...document.querySelectorAll('textarea')].some(a => a.offsetParent && a.value.startsWith('[a picture of'))"
    )
    page.get_by_role("button", name="Redraw as SVG").click()
    page.locator("#svg-result img.svg[alt='a picture of 96 x 64']").wait_for()
    page.locator("#code", has_text="circle").wait_for()
    page.locator("#redraw-trace").get_by_label("always").check()
    page.get_by_role("button", name="Redraw as SVG").click()
    page.locator("#svg-result", has_text="traced, not drawn from words").wait_for()


def test_a_zip_of_a_repository_is_asked_about(address, visit, tmp_path):
    shop, broken = tmp_path / "shop.zip", tmp_path / "broken.zip"
    with zipfile.ZipFile(shop, "w") as archive:
        archive.writestr("shop-main/README.md", "# Shop")
        archive.writestr("shop-main/shop/price.py", "def price():\n    return 3\n")
    broken.write_bytes(shop.read_bytes()[:60])
    one = visit(address)
    panel = one.tab("Chat")
    panel.get_by_role("button", name="New chat").click()
    one.page.locator(".welcome", has_text="ZIP of a repository").wait_for()
    one.page.wait_for_timeout(500)  # the box is emptied too
    panel.locator("#say input[type=file]").set_input_files(str(shop))
    panel.locator("#cost", has_text="A repository takes the room").wait_for()
    one.say("where is the price made?")
    one.answer("[a repository of 2 files] where is the price made?").wait_for()
    with one.page.expect_download() as download:  # what was sent can be had back
        panel.locator(".msg.user a.file", has_text="shop.zip").click()
    assert Path(download.value.path()).read_bytes() == shop.read_bytes()
    one.open()
    one.answer("[a repository of 2 files] where is the price made?").wait_for()
    said = panel.locator(".msg.user").count()
    panel.locator("#say input[type=file]").set_input_files(str(broken))
    one.page.wait_for_timeout(500)
    one.say("and of this?")
    panel.locator("#chat-line .bad", has_text="this is no zip that can be read").wait_for()
    assert panel.locator(".msg.user").count() == said, "what was refused is in the conversation"
    assert one.page.get_by_placeholder("Ask something, or").input_value() == "and of this?"


def test_a_model_is_chosen_weights_are_told_of_and_a_plan_is_made(visit, tmp_path):
    others = (Choice(name="second", factory=Second),)
    with served(PatientStudio, home=tmp_path / "home", others=others) as address:
        one = visit(address)
        one.page.locator("#model input").click()
        one.page.get_by_role("option", name="second").click()
        one.say("who are you?")
        one.answer("second: who are you?").wait_for()
        one.tab("Create")
        one.tab("Video")
        panel = one.page.locator("#video-weights")
        panel.get_by_role("button", name="Real weights of others").click()
        panel.get_by_text("None of them is here").wait_for()
        for words in ("wan2.2-ti2v-5b", "licence: Apache-2.0", "8.2 GB on a card", "hf download Lightricks/"):
            panel.get_by_text(words).first.wait_for()
        one.tab("Model")
        one.page.get_by_text("What else can be chosen").wait_for()
        one.page.locator("#plan-model input").click()
        one.page.get_by_role("option", name="deepseek-v4-flash").click()
        one.page.locator("#plan-ask").click()
        one.page.locator("#plan-answer", has_text="It fits.").wait_for()
        assert one.page.locator("#plan-answer table").count() == 2


def test_everything_works_below_a_path_of_another_server(visit, tmp_path):
    root = "/ai/studio"
    with served(PatientStudio, home=tmp_path / "home", root_path=root) as address, proxied(address, root) as below:
        one = visit(below)
        one.say("slow words that stream through a proxy")
        one.page.locator("#now", has_text="slow words").wait_for()
        one.answer("slow words that stream through a proxy").wait_for()
        one.say("/svg red heart icon")
        picture = one.page.locator(".msg.assistant img.svg").last
        picture.wait_for()
        one.page.wait_for_function("document.querySelector('.msg.assistant img.svg')?.naturalWidth > 0")
        one.page.locator("#say input[type=file]").set_input_files(str(_small(tmp_path)))
        one.page.get_by_text("1 picture (96 × 64)").wait_for()
        one.tab("Create")
        one.tab("Image")
        one.page.locator("textarea:visible").first.fill("a tiger")
        one.page.get_by_role("button", name="Paint", exact=True).click()
        one.page.locator("#image-line", has_text="Done in").wait_for()
        one.page.wait_for_function("document.querySelector('#image-result img')?.naturalWidth > 0")


def _small(folder: Path) -> Path:
    Image.new("RGB", (96, 64), "teal").save(folder / "small.png")
    return folder / "small.png"
