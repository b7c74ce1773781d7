"""The page's own logic: following a job from any moment, settings brought back, costs told, words kept harmless."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app.kinds import frame_sheet
from app.media import file_name
from app.page import build_page, stay_offline
from app.page.cost import choices, cost_line, picture_sizes
from app.presets import shelf
from dsv4 import InputError
from dsv4._parts import part

stay_offline()
from app.page import look, talk_view, work_rooms  # noqa: E402  (gradio is imported by these, offline by now)
from app.page.gallery_room import read_file, settings_from  # noqa: E402
from app.page.kit import watch, whole  # noqa: E402
from app.page.model_room import CHECKED, PRICES, describe  # noqa: E402
from app.page.planning import in_words, planned  # noqa: E402
from app.page.real_weights import listed  # noqa: E402

EVIL = '"><script>x()</script><img src=x onerror=y()>'


def views(house, job, seen=None):
    async def all_of():
        found = []
        async for view in watch(house, job.id, "me"):
            found.append(view)
            if seen is not None and seen(view):
                break
        return found

    return asyncio.run(asyncio.wait_for(all_of(), 20))


def test_a_job_is_followed_from_any_moment_on(house):
    job = house.submit("image", {"prompt": "slow tiger", "steps": 20}, owner="me")
    first = views(house, job, lambda view: view.preview)
    assert first[-1].preview.startswith(f"v1/jobs/{job.id}/preview/") and "Painting: step" in first[-1].line
    rest = views(house, job)
    assert rest[0].preview and rest[-1].job.state == "done" and "Done in" in rest[-1].line
    late = views(house, job)
    assert [view.job.state for view in late] == ["done"]


def test_words_come_while_they_are_said_and_none_is_lost(house):
    words = "slow " + " ".join(f"w{n}" for n in range(20))
    job = house.submit("chat", {"prompt": words}, owner="me")
    seen = [view.text for view in views(house, job)]
    assert len(set(seen)) > 5 and seen[-1] == words
    assert all(later.startswith(earlier) for earlier, later in zip(seen, seen[1:], strict=False))


def test_a_waiting_job_tells_its_place(house):
    running = house.submit("image", {"prompt": "slow", "steps": 30}, owner="me")
    waiting = [house.submit("svg", {"prompt": f"n{n}"}, owner="me") for n in range(3)]
    (first, *_) = views(house, waiting[2], lambda view: True)
    assert "before it" in first.line or "next in line" in first.line or "Loading" in first.line
    shown = work_rooms.queue_html(house, "me")
    assert shown.count('data-act="cancel"') == 4 and "next" in shown
    others = work_rooms.queue_html(house, "you")
    assert "data-act" not in others and "4 more jobs" in others
    house.cancel(running.id, "me")


def test_nothing_that_is_said_becomes_markup(house, over):
    talk = house.talks.begin("me")
    over(house, house.say(talk, "me", EVIL))
    talk = house.talks.get(talk.id, "me")
    shown = talk_view.conversation(house, "me", house.talks.page(talk)) + talk_view.talk_list([talk], talk.id)
    over(house, house.submit("svg", {"prompt": EVIL}, owner="me"))
    shown += work_rooms.queue_html(house, "me") + look.media(house.media.find("me")[0])
    shown += talk_view.growing(EVIL, "", "") + look.button(EVIL[:0] + "act", EVIL, EVIL, title=EVIL)
    assert "<script" not in shown and "<img src=x" not in shown and "&lt;script&gt;" in shown


def test_a_drawing_is_only_ever_a_picture(house, over):
    over(house, house.submit("svg", {"prompt": "a tiger"}, owner="me"))
    (asset,) = house.media.find("me", kind="svg")
    assert re.fullmatch(r'<img src="v1/files/file_\w+/content" alt="a tiger" class="svg">', look.media(asset))


def test_settings_come_back_from_every_kind_of_file(house, over, tmp_path):
    asked = {"svg": {"temperature": 0.5}, "image": {"size": 64, "steps": 3}, "video": {"seconds": 1.0}}
    for kind, params in asked.items():
        over(house, house.submit(kind, {"prompt": "a tiger", "seed": 7, **params}, owner="me"))
        (asset,) = house.media.find("me", kind=kind)
        found, settings = read_file(str(asset.path))
        assert found == kind and settings["prompt"] == "a tiger" and settings["seed"] == 7
        assert params.items() <= settings.items()
        assert settings_from(asset.made_by) == (found, settings)
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    (tmp_path / "words.png").write_text("words")
    for path in (tmp_path / "other.png", tmp_path / "words.png", None):
        with pytest.raises(InputError):
            read_file(path and str(path))
    settings = {"size": "big", "steps": [], "evil": 1, "guidance": 3}
    hostile = {"task": "image", "prompt": 7, "seed": "x", "settings": settings}
    assert settings_from(hostile) == ("image", {"prompt": "7", "guidance": 3, "seed": 0})


def test_a_batch_of_the_page_says_what_is_wrong_with_its_file(house, tmp_path):
    file = tmp_path / "rows.jsonl"
    for content, words in (("{}", "first line"), ("", "first line"), ('{"url": "/v1/nope"}', "must ask one of")):
        file.write_text(content)
        with pytest.raises(InputError, match=words):
            work_rooms.start_batch(house, str(file), "me")


def test_what_is_loaded_is_told_with_what_it_did(house, over):
    assert "is loading" in describe(SimpleNamespace(keeper=SimpleNamespace(state="loading", name="nano")))
    over(house, house.submit("chat", {"prompt": "one two three"}, owner="me"))
    shown = describe(house, "me")
    assert "| Model | echo |" in shown and "| chat | 1 |" in shown and "| 3 | 0 | 3 |" in shown
    assert CHECKED in shown and all(name in shown for name, *_ in PRICES)


def test_cost_is_told_for_every_mode(tmp_path: Path) -> None:
    path, words = tmp_path / "page.png", tmp_path / "words.png"
    Image.new("RGB", (1300, 900)).save(path)
    words.write_text("not a picture")
    modes = part("vision").MODES
    labels = {name: label for label, name in choices((str(path), str(path)))}
    assert labels.keys() == modes.keys()
    for name, mode in modes.items():
        assert labels[name].endswith(f" {2 * mode.num_tokens(1300, 900).sequence}")
    assert f"<b>{modes['base'].num_tokens(1300, 900).sequence} tokens</b>" in cost_line((str(path),), "base")
    assert "None of the files" in cost_line((str(words),), "base")
    assert "not taught code" in cost_line(("r.zip",), "base", "nano") and "taught" not in cost_line(("r.zip",), "base")


def test_pages_and_frames_are_counted_too(tmp_path, house, over):
    pdf, clip = tmp_path / "two.pdf", tmp_path / "clip.mp4"
    page = Image.new("RGB", (144, 72), "white")
    page.save(pdf, save_all=True, append_images=[page], resolution=72)
    over(house, house.submit("video", {"prompt": "a ball"}, owner="me"))
    clip.write_bytes(house.media.find("me", kind="video")[0].path.read_bytes())
    assert picture_sizes([str(pdf)]) == [(288, 144)] * 2
    assert picture_sizes([str(clip)]) == [(64, 64)] * 4
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    assert picture_sizes([str(tmp_path / "broken.pdf")]) == []


def test_a_picture_on_its_side_is_measured_upright(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(path, exif=exif)
    assert picture_sizes([str(path)]) == [(32, 64)]


@pytest.mark.parametrize("value", [None, 1.5, "3", True])
def test_a_number_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="seed must be a whole number"):
        whole(value, "seed")


def test_names_of_files_come_from_the_prompt() -> None:
    assert file_name("Red heart, please!", ".svg") == "red-heart-please.svg"
    assert file_name("../../etc/passwd", ".png") == "etc-passwd.png"
    assert file_name("鷺", ".png") == "drawing.png"


def test_frames_become_a_sheet_that_keeps_their_order() -> None:
    frames_FHW3 = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((6, 2, 3, 3), np.uint8)
    sheet_HW3 = frame_sheet(frames_FHW3)
    assert sheet_HW3.shape == (4, 12, 3)
    assert sheet_HW3[::2, ::3, 0].tolist() == [[0, 1, 2, 3], [4, 5, 255, 255]]
    assert frame_sheet(frames_FHW3[:1]).shape == (2, 3, 3)


def test_every_source_that_the_page_names_is_in_the_notice() -> None:
    root = Path(__file__).resolve().parents[2]
    notice = (root / "assets" / "nano" / "NOTICE").read_text("utf-8")
    shown = (root / "app" / "page" / "sources.md").read_text("utf-8")
    documented = (root / "docs" / "data.md").read_text("utf-8")
    names = ("Lucide", "Feather", "Bootstrap Icons", "Phosphor", "Iconoir", "flat-color-icons", "Material Design Icons",
             "Twemoji", "Noto Emoji", "Open English WordNet", "Corpora by Darius Kazemi", "Unicode CLDR")  # fmt: skip
    assert [name for name in names for text in (notice, shown, documented) if name not in text] == []


def test_the_page_is_closed_to_other_programs_and_loads_nothing_from_elsewhere(house) -> None:
    config = build_page(house).get_config_file()
    public = [event["api_name"] for event in config["dependencies"] if event["api_visibility"] != "private"]
    assert public == ["chat", "svg", "image", "video", "read"]
    assert "http" not in look.css() and "googleapis" not in look.theme()._get_theme_css()


def test_the_plan_is_that_of_the_command_and_its_errors_too():
    told = in_words(planned("deepseek-v4-flash", "q4", "laptop", 32_768, 1))
    assert "**It fits.**" in told and "| experts | 142.841 |" in told and "Start it with" in told
    large = in_words(planned("deepseek-v4-pro", "bf16", "laptop", 32_768, 1))
    assert "**It does not fit:** dense weights" in large and "nowhere" in large and "Start it" not in large


@pytest.mark.parametrize(
    ("asked", "says"),
    [(("/etc/passwd", "q4", "laptop", 1, 1), "there is no configuration"),
     (("deepseek-v4-pro", "bf17", "laptop", 1, 1), "did you mean 'bf16'"),
     (("deepseek-v4-pro", "q4", "--here", 1, 1), "unknown machine or device '--here'"),
     (("deepseek-v4-pro", "q4", "laptop", 0, 1), "context must be a whole number")],
)  # fmt: skip
def test_a_plan_that_cannot_be_made_says_why(asked, says):
    with pytest.raises(InputError, match=says):
        planned(*asked)


def test_real_weights_are_told_of_with_licence_memory_and_what_to_run(tmp_path):
    html = listed(shelf(tmp_path))
    for words in ("licence: Apache-2.0", "8.2 GB on a card (its paper)", "leaves out the EU", "no account needed",
                  f"hf download Lightricks/LTX-Video --local-dir {tmp_path}/ltx-video"):  # fmt: skip
        assert words in html, words
    assert html.count("not here") == 8 and "<script" not in html


def test_the_create_room_says_how_long_what_is_set_would_take():
    from types import SimpleNamespace

    from app.page.create_room import _Bench
    from dsv4 import forecast

    pace = {"seconds": 2e-9, "patch": 8, "heads": 6, "head_dim": 64, "ffn_dim": 1536}
    house = SimpleNamespace(keeper=SimpleNamespace(facts={"pace": pace}))
    paint, film = _Bench(house, "image"), _Bench(house, "video")
    one = forecast.seconds_at(pace, (1, 128, 128), steps=8, guidance=2.0)
    assert forecast.told(4 * one) in paint.timed(200, 4, 8, 2.0)
    long = forecast.seconds_at(pace, (48, 64, 64), steps=8, guidance=2.0)
    assert (
        film.timed(6, 8, 2.0) == f'<span class="soft">48 frames will take {forecast.told(long)} on this machine.</span>'
    )
    assert long > 48 * forecast.seconds_at(pace, (1, 64, 64), steps=8, guidance=2.0)
    assert _Bench(SimpleNamespace(keeper=SimpleNamespace(facts={})), "image").timed(64, 1, 8, 2.0) == ""
