"""Clips that were written come back frame by frame, sampled and upright; what is none, or too much, is said."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from generation import clips, read_clip, save_apng, save_clip, save_mp4
from generation.files import CLIP_SUFFIXES

COUNT, HEIGHT, WIDTH = 60, 32, 48


def counted(frames: int = COUNT) -> np.ndarray:
    """Frames whose six top blocks spell their number in bits, so that each frame can be told from its neighbours."""
    made = np.full((frames, HEIGHT, WIDTH, 3), 40, np.uint8)
    for number in range(frames):
        for bit in range(6):
            made[number, :8, 8 * bit : 8 * bit + 8] = 230 if number >> bit & 1 else 20
    return made


def number_in(frame_HW3: np.ndarray) -> int:
    """The number that a frame spells."""
    return sum(1 << bit for bit in range(6) if frame_HW3[2:6, 8 * bit + 2 : 8 * bit + 6].mean() > 125)


@pytest.mark.parametrize("suffix", CLIP_SUFFIXES)
def test_every_frame_comes_back_in_order_and_samples_are_the_very_frames(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    save_clip(path, counted(), fps=12)
    whole = read_clip(path)
    assert [number_in(frame) for frame in whole.frames_NHW3] == list(range(COUNT)) == list(whole.numbers)
    assert whole.total == COUNT and whole.fps == pytest.approx(12, abs=0.1)
    assert whole.times == pytest.approx([number / 12 for number in range(COUNT)], abs=0.012)
    some = read_clip(path, 3)
    assert [number_in(frame) for frame in some.frames_NHW3] == [10, 30, 50] == list(some.numbers)
    assert len(read_clip(path, 500).numbers) == COUNT


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".apng", ".gif"])
@pytest.mark.parametrize("frames", [1, 17, 48])
def test_pyav_decodes_exactly_the_frames_that_were_written(tmp_path, suffix, frames):
    import av

    path = tmp_path / f"clip{suffix}"
    save_clip(path, counted(frames), fps=8)
    with av.open(str(path)) as film:
        seen = [number_in(frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
    assert seen == list(range(frames))


def test_far_frames_are_sought_and_still_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "_NEAR", 4)
    save_mp4(tmp_path / "clip.mp4", counted(), fps=8)
    assert [number_in(frame) for frame in read_clip(tmp_path / "clip.mp4", 5).frames_NHW3] == [6, 18, 30, 42, 54]


def turned(path, quarters: int) -> None:
    """Say in the film's track header that it is to be shown turned clockwise, as phones do."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    matrix = (cos, sin, 0, -sin, cos, 0, 0, 0, 0x4000)
    scaled = [value << 16 for value in matrix]
    data[place : place + 36] = struct.pack(">9i", *scaled)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_turned_film_comes_back_upright(tmp_path, quarters):
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:16, :16] = 255  # the corner at the top left
    path = tmp_path / "clip.mp4"
    save_mp4(path, np.stack([frame] * 3), fps=8)
    turned(path, quarters)
    shown = read_clip(path).frames_NHW3[1]
    assert np.abs(shown.astype(int) - np.rot90(frame, -quarters)).mean() < 8


def test_what_is_no_clip_or_too_much_is_said_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    with pytest.raises(FileNotFoundError, match="there is no clip"):
        read_clip(path)
    path.write_bytes(b"#EXTM3U\n#EXTINF:1,\nfile.ts\n" * 9)
    with pytest.raises(ValueError, match="not a clip that can be read; MP4"):
        read_clip(path)
    save_mp4(path, counted(9), fps=8)
    with pytest.raises(ValueError, match="frames must be at least 1"):
        read_clip(path, 0)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="holds no pictures"):
        read_clip(path)
    save_apng(tmp_path / "clip.apng", counted(9), fps=8)
    save_mp4(path, counted(9), fps=8)
    for name, limit in (("MAX_BYTES", 10), ("MAX_PIXELS", 99), ("MAX_FRAMES", 8), ("MAX_KEPT_BYTES", 99)):
        monkeypatch.setattr(clips, name, limit)
        for kind in ("mp4", "apng"):
            with pytest.raises(ValueError, match=f"limit is {limit}"):
                read_clip(tmp_path / f"clip.{kind}")
        monkeypatch.undo()
    monkeypatch.setattr(clips, "MAX_SECONDS", 1)
    with pytest.raises(ValueError, match="seconds; the limit is 1"):
        read_clip(path)


def test_an_unknown_ending_names_what_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"written as \.mp4, \.webm, \.webp, \.apng, \.gif, not '\.mov'"):
        save_clip(tmp_path / "clip.mov", counted(2), fps=8)
