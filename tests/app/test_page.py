"""The page's own logic: following a job, stopping it, saying what is wrong, showing SVG safely, counting tokens."""

from __future__ import annotations

import base64
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.page import build_page, stay_offline
from app.page.cost import choices, cost_line, picture_sizes
from app.page.loading import StudioLoader
from app.page.work import Done, Failed, StopButtons, Waiting, follow
from dsv4 import EchoStudio, InputError
from dsv4._parts import part
from dsv4.results import Picture, Progress

stay_offline()


class SlowStudio(EchoStudio):
    """Takes 50 steps of 20 ms for a picture, and counts those that it took."""

    name = "slow"

    def __init__(self) -> None:
        self.taken = 0

    def image(
        self, prompt: str, *, seed=0, size=128, steps=8, guidance=2.0, on_progress=None, cancelled=None
    ) -> Picture:
        for step in range(1, 51):
            if cancelled():
                break
            time.sleep(0.02)
            self.taken = step
            on_progress(Progress(step=step, total=50, preview=np.full((8, 8, 3), step, np.uint8)))
        return Picture(array=np.zeros((8, 8, 3), np.uint8), provenance={"seed": seed})


def ready(studio: Any) -> StudioLoader:
    """A loader that has `studio`."""
    loader = StudioLoader(lambda: studio, name=studio.name)
    assert loader.wait(10)
    return loader


def asked(session: str = "one") -> SimpleNamespace:
    """What the page knows of who asks."""
    return SimpleNamespace(session_hash=session)


def paint(studio: Any, on_progress: Any, cancelled: Any) -> Picture:
    return studio.image("a tiger", on_progress=on_progress, cancelled=cancelled)


def test_a_job_reports_its_steps_in_order_and_then_its_result() -> None:
    events = list(follow(ready(EchoStudio()), paint, threading.Event()))
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps == sorted(steps) and steps[-1] == 8
    assert isinstance(events[-1], Done) and not events[-1].stopped
    assert events[-1].result.array.shape == (128, 128, 3)


def test_merged_progress_loses_no_text() -> None:
    def talk(studio: Any, on_progress: Any, cancelled: Any) -> str:
        for index in range(200):
            on_progress(Progress(step=0, total=0, text_delta=f"{index} "))
        return "end"

    events = list(follow(ready(EchoStudio()), talk, threading.Event()))
    assert "".join(e.text_delta for e in events if isinstance(e, Progress)) == "".join(f"{i} " for i in range(200))


def test_stop_ends_a_job_within_a_step() -> None:
    studio, stop = SlowStudio(), threading.Event()
    events = []
    for event in follow(ready(studio), paint, stop):
        events.append(event)
        if isinstance(event, Progress):
            stop.set()
            seen = studio.taken
    assert isinstance(events[-1], Done) and events[-1].stopped
    assert studio.taken <= seen + 1


def test_a_closed_tab_ends_its_job_before_the_next_may_start() -> None:
    studio = SlowStudio()
    running = follow(ready(studio), paint, threading.Event())
    next(running)
    running.close()
    taken = studio.taken
    time.sleep(0.1)
    assert 1 <= taken < 50 and studio.taken == taken


def test_bad_input_is_a_sentence_and_a_defect_is_not_shown() -> None:
    def wrong(studio: Any, on_progress: Any, cancelled: Any) -> Picture:
        return studio.image("a tiger", size=100)

    def broken(studio: Any, on_progress: Any, cancelled: Any) -> None:
        raise RuntimeError("secret path")

    loader = ready(EchoStudio())
    (refused,) = follow(loader, wrong, threading.Event())
    assert isinstance(refused, Failed) and refused.theirs and "nearest is" in refused.message
    (failed,) = follow(loader, broken, threading.Event())
    assert isinstance(failed, Failed) and not failed.theirs and "secret" not in failed.message


def test_a_job_waits_for_the_model_and_starts_when_it_is_there() -> None:
    gate = threading.Event()

    def slow_factory() -> EchoStudio:
        gate.wait(10)
        return EchoStudio()

    events = []
    for event in follow(StudioLoader(slow_factory), paint, threading.Event()):
        events.append(event)
        gate.set()
    assert isinstance(events[0], Waiting) and isinstance(events[-1], Done)


def test_a_model_that_cannot_be_loaded_is_explained() -> None:
    def nothing() -> EchoStudio:
        raise InputError("no weights in 'nano'")

    loader = StudioLoader(nothing)
    (*_, last) = follow(loader, paint, threading.Event())
    assert loader.state == "failed"
    assert isinstance(last, Failed) and "no weights in 'nano'" in last.message


def test_stop_flags_are_apart_by_person_and_tab() -> None:
    stops = StopButtons()
    mine, other, theirs = stops.fresh("me", "svg"), stops.fresh("me", "image"), stops.fresh("you", "svg")
    stops.get("me", "svg").set()
    assert (mine.is_set(), other.is_set(), theirs.is_set()) == (True, False, False)
    stops.forget("me")
    assert other.is_set() and not theirs.is_set()
    assert stops.get("me", "svg") is not mine


def test_svg_is_shown_as_a_picture_only() -> None:
    from app.page.look import svg_preview

    evil = '<svg xmlns="http://www.w3.org/2000/svg" onload="x()"><script>x()</script></svg>'
    shown = svg_preview(evil, '"><script>y()</script>')
    assert "<script" not in shown and "onload" not in shown and shown.count("<img ") == 1
    source = shown.split("base64,")[1].split('"')[0]
    assert base64.b64decode(source).decode() == evil


def test_cost_is_told_for_every_mode(tmp_path: Path) -> None:
    path, words = tmp_path / "page.png", tmp_path / "words.png"
    Image.new("RGB", (1300, 900)).save(path)
    words.write_text("not a picture")
    modes = part("vision").MODES
    labels = dict((name, label) for label, name in choices((str(path), str(path))))
    assert labels.keys() == modes.keys()
    for name, mode in modes.items():
        assert labels[name].endswith(f" {2 * mode.num_tokens(1300, 900)}")
    assert f"<b>{modes['base'].num_tokens(1300, 900)} tokens</b>" in cost_line((str(path),), "base")
    assert "None of the files" in cost_line((str(words),), "base")


def test_a_picture_on_its_side_is_measured_upright(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(path, exif=exif)
    assert picture_sizes([str(path)]) == [(32, 64)]


@pytest.mark.parametrize("value", [None, 1.5, "3", True])
def test_a_number_that_is_none_is_refused(value: object) -> None:
    from app.page.kit import whole

    with pytest.raises(InputError, match="seed must be a whole number"):
        whole(value, "seed")


def test_names_of_files_come_from_the_prompt() -> None:
    from app.page.kit import Desk

    desk = Desk(loader=ready(EchoStudio()))
    assert desk.file("Red heart, please!", ".svg").name == "red-heart-please.svg"
    assert desk.file("../../etc/passwd", ".png").name == "etc-passwd.png"
    assert desk.file("鷺", ".png").name == "drawing.png"
    assert desk.file("a", ".svg") != desk.file("a", ".svg")


def test_frames_become_a_sheet_that_keeps_their_order() -> None:
    from app.page.video_tab import frame_sheet

    frames_FHW3 = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((6, 2, 3, 3), np.uint8)
    sheet_HW3 = frame_sheet(frames_FHW3)
    assert sheet_HW3.shape == (4, 12, 3)
    assert sheet_HW3[::2, ::3, 0].tolist() == [[0, 1, 2, 3], [4, 5, 255, 255]]
    assert frame_sheet(frames_FHW3[:1]).shape == (2, 3, 3)


def test_chat_streams_remembers_and_gives_back_what_was_refused() -> None:
    from app.page.chat_tab import begin_chat, history, make_chat
    from app.page.kit import Desk

    desk = Desk(loader=ready(EchoStudio()))
    send, answer = begin_chat(desk), make_chat(desk)
    _, talk, said, _ = send({"text": "what is a heron?", "files": []}, [], asked())
    assert talk == [{"role": "user", "content": "what is a heron?"}]
    *_, (answered, turns, _, line) = answer(said, [], talk, "tiny", asked())
    assert answered[-1] == {"role": "assistant", "content": "what is a heron?"} and "wrote 4" in line
    assert [message.text for message in history(turns)] == ["what is a heron?", "what is a heron?"]
    _, talk, said, _ = send({"text": "  ", "files": []}, answered, asked())
    *_, (after, _, box, line) = answer(said, turns, talk, "tiny", asked())
    assert after == answered and "the prompt is empty" in line
    assert box.value == {"text": "", "files": []}


def test_a_picture_alone_is_a_question() -> None:
    from app.page.chat_tab import begin_chat
    from app.page.kit import Desk

    _, talk, said, _ = begin_chat(Desk(loader=ready(EchoStudio())))({"text": "", "files": ["a.png"]}, [], asked())
    assert said["text"] == "What is in this picture?" and talk[0]["content"] == {"path": "a.png"}


def test_finished_files_are_whole_and_tell_how_they_were_made() -> None:
    from app.page.image_tab import make_image
    from app.page.kit import Desk
    from app.page.svg_tab import make_svg
    from app.page.video_tab import make_video

    desk = Desk(loader=ready(EchoStudio()))
    read = part("generation.files").read_provenance
    *_, svg = make_svg(desk)("red heart icon", 0, 0.0, asked())
    *_, picture = make_image(desk)("a tiger", 7, 64, 2, 2.0, asked())
    *_, clip = make_video(desk)("a tiger spinning", 1.0, 7, 2, 2.0, None, asked())
    assert svg[3].startswith("<svg") and "data:image/svg+xml" in svg[4]
    paths = [Path(svg[5].value if isinstance(svg[5].value, str) else svg[5].value["path"]), Path(picture[3])]
    made = clip[5].value
    paths.append(Path(made if isinstance(made, str) else made["path"]))
    assert [path.suffix for path in paths] == [".svg", ".png", ".mp4"]
    assert [read(path)["prompt"] for path in paths] == ["red heart icon", "a tiger", "a tiger spinning"]


def test_a_stopped_drawing_offers_no_file() -> None:
    from app.page.image_tab import make_image
    from app.page.kit import Desk

    studio = SlowStudio()
    desk = Desk(loader=ready(studio))
    running = make_image(desk)("a tiger", 0, 128, 8, 2.0, asked())
    first = next(running)
    assert "step" in first[2]
    desk.stops.get("one", "image").set()
    *_, last = running
    assert "Stopped" in last[2] and last[4].interactive is False and studio.taken < 50


def test_what_is_loaded_is_counted_by_part() -> None:
    from torch import nn

    from app.page.about_tab import describe, parameters

    model = SimpleNamespace(parts=lambda: {"core": nn.Linear(999, 1000), "eyes": nn.Linear(1999, 1000)})
    rows = dict(parameters(SimpleNamespace(model=model)))
    assert rows["Eyes"] == "2.0 million parameters" and rows["Together"] == "3.0 million parameters"
    assert "| Model | echo |" in describe(ready(EchoStudio()))


def test_every_source_that_the_page_names_is_in_the_notice() -> None:
    root = Path(__file__).resolve().parents[2]
    notice = (root / "assets" / "nano" / "NOTICE").read_text("utf-8")
    shown = (root / "app" / "page" / "sources.md").read_text("utf-8")
    documented = (root / "docs" / "data.md").read_text("utf-8")
    names = ("Lucide", "Feather", "Bootstrap Icons", "Phosphor", "Iconoir", "flat-color-icons", "Material Design Icons",
             "Twemoji", "Noto Emoji", "Open English WordNet", "Corpora by Darius Kazemi", "Unicode CLDR")  # fmt: skip
    assert [name for name in names for text in (notice, shown, documented) if name not in text] == []


def test_the_page_is_closed_to_other_programs_and_loads_nothing_from_elsewhere() -> None:
    page = build_page(ready(EchoStudio()))
    config = page.get_config_file()
    assert all(
        event["api_visibility"] == "private" for event in config["dependencies"] if event["targets"][0][1] != "unload"
    )
    from app.page import look

    assert "http" not in look.css() and "googleapis" not in look.theme()._get_theme_css()
