"""Pictures of any side, clips of any length, clips that are gone on with, and the time that is told beforehand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from app.cli import main
from dsv4 import EchoStudio, InputError, Studio, forecast, image, limits, video
from dsv4.finish import clip_before_FHW3
from generation import JointHead, JointHeadConfig, read_clip, save_clip


@pytest.fixture(scope="module")
def nano() -> Studio:
    return Studio.load("nano")


def clip(path, count: int, *, fps: int = limits.CLIP_FPS, side: int = 64):
    frames = np.zeros((count, side, side, 3), np.uint8)
    frames[np.arange(count), :, :, 0] = np.linspace(10, 250, count).astype(np.uint8)[:, None, None]
    save_clip(path, frames, fps=fps, provenance=None)
    return frames


@pytest.mark.parametrize("size", [8, 72, 104, 248])
def test_pictures_have_any_side_that_is_a_multiple_of_eight(nano, size):
    assert nano.image("a red circle", size=size, steps=1).array.shape == (size, size, 3)
    assert EchoStudio().image("a red circle", size=size).array.shape == (size, size, 3)


@pytest.mark.parametrize("frames", [2, 11, 48])
def test_clips_have_any_number_of_frames(nano, frames):
    seconds = frames / limits.CLIP_FPS
    made = nano.video("a red circle moving right", seconds=seconds, steps=1, guidance=1.0)
    assert made.frames.shape == (frames, 64, 64, 3) and made.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("name", ["before.apng", "before.mp4"])
def test_a_clip_is_gone_on_with_from_its_last_frame(nano, tmp_path, name):
    frames = clip(tmp_path / name, 5)
    source = video(tmp_path / name)
    for studio in (nano, EchoStudio()):
        made = studio.video("a red circle moving right", after=source, seconds=0.5, steps=1)
        assert made.frames.shape == (5 + 4 - 1, 64, 64, 3)
        assert np.abs(made.frames[:5].astype(int) - frames).mean() < 3
    assert made.frames.dtype == np.uint8


def test_the_model_begins_with_the_last_frame_and_keeps_it(nano, tmp_path, monkeypatch):
    frames, given = clip(tmp_path / "a.apng", 3), {}
    flow = nano._flow

    def watched(ids, shape, seed, steps, guidance, first, *rest):
        given["first"] = first
        return flow(ids, shape, seed, steps, guidance, first, *rest)

    monkeypatch.setattr(nano, "_flow", watched)
    nano.video("a red circle", after=video(tmp_path / "a.apng"), seconds=0.5, steps=1)
    shown = ((given["first"].permute(1, 2, 0) + 1) * 127.5).round()
    assert torch.equal(shown, torch.from_numpy(frames[-1]).float())


def test_other_rates_and_sizes_are_brought_to_ours(tmp_path):
    clip(tmp_path / "fast.apng", 40, fps=20, side=96)
    before = clip_before_FHW3(video(tmp_path / "fast.apng"), 64, 4)
    assert before.shape == (16, 64, 64, 3) and before[0, 0, 0, 0] < before[-1, 0, 0, 0]
    clip(tmp_path / "slow.apng", 4, fps=2)
    assert len(clip_before_FHW3(video(tmp_path / "slow.apng"), 64, 4)) == 16


def test_what_cannot_be_gone_on_with_is_refused(tmp_path):
    clip(tmp_path / "a.apng", 4)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="not both"):
        EchoStudio().video("x", first_frame=image(tmp_path / "a.png"), after=video(tmp_path / "a.apng"))
    with pytest.raises(InputError, match=f"at most {limits.CLIP_FRAMES}"):
        clip_before_FHW3(video(tmp_path / "a.apng"), 64, limits.CLIP_FRAMES)
    (tmp_path / "b.mp4").write_bytes(b"no clip")
    with pytest.raises(InputError, match="is not a clip"):
        EchoStudio().video("x", after=video(tmp_path / "b.mp4"))


def test_the_command_goes_on_with_a_clip_and_says_how_long_it_takes(tmp_path, capsys):
    clip(tmp_path / "a.mp4", 6)
    out = tmp_path / "b.mp4"
    flags = ["--after", str(tmp_path / "a.mp4"), "--seconds", "0.5", "--steps", "1", "-o", str(out)]
    assert main(["video", "a red circle moving right", *flags]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("4 frames in about") and read_clip(out).total == 9


def test_time_grows_with_frames_steps_and_guidance():
    torch.manual_seed(0)
    head, clock = JointHead(JointHeadConfig.micro()), itertools.count(step=0.5)

    def told(shape, **more):
        return forecast.seconds_of(head, shape, clock=lambda: float(next(clock)), **{"steps": 4, **more})

    still, moving, long = told((1, 64, 64)), told((16, 64, 64)), told((48, 64, 64))
    assert told(forecast.SMALL, guidance=1.0) == pytest.approx(0.5 * 4)
    assert still < moving / 8 and moving * 3 < long < moving * 9
    assert told((16, 64, 64), steps=8) == pytest.approx(2 * moving)
    assert told((16, 64, 64), guidance=1.0) == pytest.approx(moving / 2)
    with pytest.raises(ValueError, match="frames asked"):
        told((10_000, 64, 64))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "a second"), (4.4, "4 seconds"), (37, "35 seconds"), (100, "two minutes"), (400, "7 minutes")],
)
def test_times_are_told_no_more_exactly_than_they_are(seconds, words):
    assert forecast.told(seconds) == f"about {words}"


def test_few_steps_go_unguided_unless_guidance_is_given(nano):
    assert [limits.guidance_for(steps) for steps in (1, 2, 3, 64)] == [1, 1, 2, 2]
    assert limits.guidance_for(1, 3.5) == 3.5
    for steps, guidance in ((0, None), (1, 0.5), (1, True)):
        with pytest.raises(InputError, match="must be a"):
            limits.guidance_for(steps, guidance)
    for studio in (EchoStudio(), nano):
        for steps, usual in ((1, 1), (3, 2)):
            made = studio.image("a red circle", size=64, steps=steps)
            assert made.provenance["settings"]["guidance"] == usual
            assert np.array_equal(made.array, studio.image("a red circle", size=64, steps=steps, guidance=usual).array)
