"""Files: they play back, hold their provenance, are whole or absent, and say in one line why they cannot be written."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from PIL import Image

from generation import read_provenance, save_apng, save_gif, save_mp4, save_png, save_svg, save_webm, save_webp
from generation.files import save_sidecar

MADE_BY = {"task": "image", "prompt": 'a "tiger" & <é>', "seed": 2**63 - 1, "model": "nano", "settings": {"steps": 8}}
SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">
  <path d="M1 1h9"/>
</svg>
"""


def clip(frames: int = 5, height: int = 16, width: int = 24) -> np.ndarray:
    """A bright square that moves to the right by two pixels a frame."""
    made = np.full((frames, height, width, 3), 40, dtype=np.uint8)
    for number in range(frames):
        made[number, 4:12, 2 * number : 2 * number + 8] = (230, 60, 20)
    return made


def written(path, kind: str, provenance) -> None:
    if kind == "png":
        save_png(path, clip()[0], provenance)
    elif kind == "svg":
        save_svg(path, SVG, provenance)
    else:
        save = {"mp4": save_mp4, "gif": save_gif, "webp": save_webp, "webm": save_webm, "apng": save_apng}[kind]
        save(path, clip(), fps=8, provenance=provenance)


@pytest.mark.parametrize("kind", ["png", "webp", "gif", "mp4", "webm", "apng", "svg"])
def test_provenance_comes_back_and_can_be_left_out(tmp_path, kind):
    path = tmp_path / f"made.{kind}"
    written(path, kind, MADE_BY)
    assert read_provenance(path) == MADE_BY
    written(path, kind, None)
    assert read_provenance(path) is None
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_a_sidecar_is_read_where_the_file_says_nothing(tmp_path):
    path = tmp_path / "made.png"
    save_png(path, clip()[0])
    assert save_sidecar(path, MADE_BY).name == "made.png.json"
    assert read_provenance(path) == MADE_BY


@pytest.mark.parametrize(("size", "played"), [((16, 24), (24, 16)), ((17, 23), (24, 18))])
def test_an_mp4_plays_back_with_its_frames_rate_and_size(tmp_path, size, played):

    frames = clip(6, *size)
    save_mp4(tmp_path / "clip.mp4", frames, fps=8)
    with av.open(str(tmp_path / "clip.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 8 and stream.frames == 6
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    assert (back.shape[2], back.shape[1]) == played and len(back) == 6
    gap = np.abs(back[:, : size[0], : size[1]].astype(int) - frames)
    assert gap[:, 5:11, 18:].mean() < 6 and gap.mean() < 12
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")  # it starts to play before all of it is there


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
def test_animations_keep_frames_and_time(tmp_path, kind):
    path = tmp_path / f"clip.{kind}"
    written(path, kind, None)
    with Image.open(path) as file:
        assert file.n_frames == 5 and file.size == (24, 16) and file.info["loop"] == 0
        total = 0
        for number in range(5):
            file.seek(number)
            file.load()
            total += file.info["duration"]
            assert np.abs(np.asarray(file.convert("RGB")).astype(int) - clip()[number]).max() <= 8
    assert total == pytest.approx(625, abs=10)


def test_pictures_come_back_to_the_bit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    for save, kind, picture in (
        (save_png, "png", noise),
        (save_png, "png", noise[..., :3]),
        (save_webp, "webp", clip()[0]),
    ):
        save(tmp_path / f"one.{kind}", picture)
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"one.{kind}")), picture)


def test_an_svg_stays_an_svg_and_holds_one_record(tmp_path):
    from defusedxml.ElementTree import parse

    save_svg(tmp_path / "a.svg", SVG, {"prompt": "old"})
    save_svg(tmp_path / "b.svg", (tmp_path / "a.svg").read_text(), MADE_BY)
    root = parse(tmp_path / "b.svg").getroot()
    assert [child.tag.rpartition("}")[2] for child in root] == ["metadata", "path"]
    assert json.loads(root[0].text)["schema"] == "dsv4-provenance/1"
    assert read_provenance(tmp_path / "b.svg") == MADE_BY
    with pytest.raises(ValueError, match="no <svg>"):
        save_svg(tmp_path / "c.svg", "<p>words</p>", MADE_BY)


@pytest.mark.parametrize("kind", ["png", "webp", "gif", "mp4", "webm", "apng", "svg"])
def test_paths_that_cannot_be_written_are_said_in_one_line(tmp_path, kind):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / f"folder.{kind}").mkdir()
    for path in (tmp_path / "none" / f"a.{kind}", tmp_path / "file" / f"a.{kind}", tmp_path / f"folder.{kind}"):
        with pytest.raises(OSError, match="cannot write") as error:
            written(path, kind, MADE_BY)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert sorted(left.name for left in tmp_path.iterdir()) == ["file", f"folder.{kind}"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "made.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="JSON"):
        save_mp4(path, clip(), fps=8, provenance={"seed": object()})
    assert path.read_bytes() == b"old" and [left.name for left in tmp_path.iterdir()] == ["made.mp4"]


@pytest.mark.parametrize(
    ("array", "fps", "says"),
    [
        (np.zeros((2, 8, 8), np.uint8), 8, r"shape \[F, H, W, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), 8, "a frame at least"),
        (np.zeros((2, 8, 8, 3), np.float32), 8, "must be uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, "fps must be above 0"),
    ],
)
def test_wrong_clips_are_refused(tmp_path, array, fps, says):
    for save, kind in ((save_mp4, "mp4"), (save_gif, "gif")):
        with pytest.raises(ValueError, match=says):
            save(tmp_path / f"a.{kind}", array, fps=fps)


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_provenance(tmp_path / "none.png")
    for kind in ("png", "mp4", "webm", "svg"):
        path = tmp_path / f"words.{kind}"
        path.write_text("these are words")
        with pytest.raises(ValueError, match="can be read"):
            read_provenance(path)
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><svg xmlns="http://www.w3.org/2000/svg">&b;</svg>'
    (tmp_path / "bomb.svg").write_text(bomb)
    with pytest.raises(ValueError, match="can be read"):
        read_provenance(tmp_path / "bomb.svg")


def test_one_clip_is_one_file_wherever_memory_lies(tmp_path):
    """With frames that look ahead, about one clip in 300 was coded otherwise for no reason of its own."""
    drawn = np.random.default_rng(0)
    clips = [drawn.integers(0, 255, (4, 64, 64, 3), dtype=np.uint8) for _ in range(8)]
    first: dict[int, bytes] = {}
    for turn in range(20):
        held = [np.zeros(int(drawn.integers(1, 300_000)), np.uint8) + turn for _ in range(int(drawn.integers(50)))]
        assert len(held) < 50  # it only has to be there
        for number, one in enumerate(clips):
            content = save_mp4(tmp_path / "clip.mp4", one, fps=8).read_bytes()
            assert first.setdefault(number, content) == content
    with av.open(str(tmp_path / "clip.mp4")) as made:
        assert {PictureType(frame.pict_type).name for frame in made.decode(video=0)} <= {"I", "P"}
