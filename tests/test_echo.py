"""The studio without a model: valid results at once, and the same refusals as the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsv4 import EchoStudio, InputError, image, load
from dsv4.messages import document, video

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def studio():
    return EchoStudio()


def test_chat_repeats_the_words_and_sees_the_pictures(studio, scene):
    stream = studio.chat("hello  there", image(scene))
    assert "".join(stream) == "[a picture of 96 x 64] hello there"
    reply = stream.reply
    assert (reply.stopped, reply.provenance["model"], reply.provenance["task"]) == ("end", "echo", "chat")


def test_chat_stops_at_its_limit_and_when_told(studio):
    short = studio.chat("one two three", max_tokens=2).reply
    assert (short.text, short.stopped) == ("one two", "length")
    stream = studio.chat("one two three")
    next(stream)
    stream.cancel()
    assert (stream.reply.text, stream.reply.stopped) == ("one", "cancelled")


def test_svg_is_well_formed_whatever_the_prompt_spells(studio):
    from defusedxml.ElementTree import fromstring

    for prompt in ("red heart", "</svg><script>alert(1)</script>", "&lt; \x00 \x1b[31m \ufffe 🐯", "]]>"):
        root = fromstring(studio.svg(prompt).text)
        assert [child.tag.split("}")[1] for child in root] == ["title", "circle"]


def test_the_same_seed_gives_the_same_result(studio):
    for verb in ("image", "video"):
        make = getattr(studio, verb)
        field = "array" if verb == "image" else "frames"
        one, two, other = (getattr(make("a tiger", seed=seed), field) for seed in (3, 3, 4))
        assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_sizes_are_as_asked(studio):
    assert studio.image("a tiger", size=192).array.shape == (192, 192, 3)
    assert studio.video("a tiger", seconds=1.5).frames.shape == (12, 64, 64, 3)


def test_a_clip_begins_with_its_first_frame(studio, scene):
    plain, begun = studio.video("a tiger"), studio.video("a tiger", first_frame=image(scene))
    assert not np.array_equal(plain.frames[0], begun.frames[0])
    assert np.array_equal(plain.frames[1:], begun.frames[1:])


def test_progress_counts_to_its_total_and_ends_when_cancelled(studio):
    seen = []
    studio.image("a tiger", steps=5, on_progress=seen.append)
    assert [(one.step, one.total) for one in seen] == [(step, 5) for step in range(1, 6)]
    assert seen[-1].preview.shape == (128, 128, 3)
    seen.clear()
    studio.video("a tiger", steps=9, on_progress=seen.append, cancelled=lambda: len(seen) == 2)
    assert len(seen) == 2


BAD = [
    ("chat", {"prompt": " "}, "the prompt is empty"),
    ("chat", {"prompt": "a", "mode": "basse"}, "unknown mode 'basse'; did you mean 'base'"),
    ("chat", {"prompt": "a", "mode": ["tiny"]}, "unknown mode"),
    ("chat", {"prompt": "a", "max_tokens": 0}, "max_tokens must be"),
    ("svg", {"prompt": "a", "temperature": 3}, "temperature must be"),
    ("image", {"prompt": "a", "size": 101}, "the nearest is 104"),
    ("image", {"prompt": "a", "steps": 0}, "steps must be"),
    ("video", {"prompt": "a", "seconds": 100}, "seconds must be"),
    ("video", {"prompt": "a", "seed": -1}, "seed must be"),
]


@pytest.mark.parametrize(("verb", "given", "says"), BAD)
@pytest.mark.parametrize("name", ["echo"])
def test_bad_input_is_refused(name, verb, given, says):
    with pytest.raises(InputError, match=says):
        getattr(load(name), verb)(**given)


@pytest.mark.parametrize("content", [b"", b"these are words", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_not_a_picture_is_refused(studio, tmp_path, content):
    path = tmp_path / "fake.png"
    path.write_bytes(content)
    with pytest.raises(InputError):
        studio.chat("what is this?", image(path))


def test_a_truncated_picture_is_refused(studio, scene, tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(scene.read_bytes()[:80])
    with pytest.raises(InputError):
        studio.chat("what is this?", image(path))


def test_many_pictures_are_refused_together(studio, scene):
    with pytest.raises(InputError, match="at most 16"):
        studio.chat("what are these?", *[image(scene)] * 17)


def test_a_path_must_be_wrapped(studio, scene):
    with pytest.raises(InputError, match=r"as image\(\.\.\.\)"):
        studio.chat("what is this?", scene)


def test_the_pages_of_a_document_are_seen_in_order(studio, tmp_path):
    from PIL import Image

    path = tmp_path / "pages.tiff"
    pages = [Image.new("RGB", (40 + index, 50), "white") for index in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    said = studio.chat("read", document(path)).reply.text
    assert said == "[a picture of 40 x 50] [a picture of 41 x 50] [a picture of 42 x 50] read"
    assert studio.chat("read", document(path, pages=(3,))).reply.text.startswith("[a picture of 42")
    with pytest.raises(InputError, match="has 3 pages; there is no page 4"):
        studio.chat("read", document(path, pages=(4,)))


def test_frames_of_a_clip_are_seen(studio, tmp_path):
    path = studio.video("a tiger", seconds=2).save(tmp_path / "clip.mp4")
    assert studio.chat("watch", video(path, frames=2)).reply.text.count("[a picture of 64 x 64]") == 2
    (tmp_path / "fake.mp4").write_bytes(b"these are words")
    with pytest.raises(InputError, match="is not a clip that can be read"):
        studio.chat("watch", video(tmp_path / "fake.mp4"))


def test_the_echo_needs_no_torch():
    code = (
        "import sys; from dsv4 import load; s = load('echo');"
        "s.chat('a').reply; s.svg('a'); s.image('a'); s.video('a');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_the_variable_chooses_the_model(monkeypatch):
    monkeypatch.setenv("DSV4_MODEL", "echo")
    assert isinstance(load(), EchoStudio)
