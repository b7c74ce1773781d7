"""Clips that begin with what an earlier row made: a picture as the first frame, a clip that is gone on with."""

from __future__ import annotations

import numpy as np
import pytest

from dsv4 import EchoStudio, InputError
from dsv4.batch import read_rows, run_batch
from generation.clips import read_clip
from tests.batch.test_run import content, results

CHAIN = [
    {"id": "clip", "task": "video", "prompt": "first", "seconds": 0.5},
    {"id": "on", "task": "video", "prompt": "second", "seconds": 0.5, "after": "clip"},
    {"id": "further", "task": "video", "prompt": "third", "seconds": 0.5, "after": "on"},
    {"id": "still", "task": "image", "prompt": "a picture", "size": 64},
    {"id": "moved", "task": "video", "prompt": "moved", "seconds": 0.5, "after": "still"},
    {"id": "drawn", "task": "svg", "prompt": "a drawing"},
    {"id": "drawn-moved", "task": "video", "prompt": "moved", "seconds": 0.5, "after": "drawn"},
]


def frames(folder, name: str) -> np.ndarray:
    return read_clip(folder / "files" / f"{name}.mp4").frames_NHW3.astype(int)


@pytest.mark.parametrize("size", [None, 3])
def test_a_chain_of_clips_grows_and_pictures_become_first_frames(tmp_path, size):
    report = run_batch(EchoStudio(), CHAIN, out=tmp_path / "out", batch_size=size)
    assert (report.done, report.failed) == (7, 0)
    counts = [len(frames(tmp_path / "out", name)) for name in ("clip", "on", "further", "moved")]
    assert counts == [4, 7, 10, 4]
    first, on = frames(tmp_path / "out", "clip"), frames(tmp_path / "out", "on")
    assert np.abs(on[:4] - first).mean() < 4  # written twice as MP4
    plain = {**CHAIN[4], "id": "alone"}
    del plain["after"]
    run_batch(EchoStudio(), [plain], out=tmp_path / "alone")
    moved, alone = frames(tmp_path / "out", "moved"), frames(tmp_path / "alone", "alone")
    assert np.abs(moved[0] - alone[0]).mean() > 10 > np.abs(moved[1:] - alone[1:]).mean()


def test_an_interrupted_chain_ends_in_the_same_bytes(tmp_path):
    run_batch(EchoStudio(), CHAIN, out=tmp_path / "whole")
    asked = iter([False, False, True])
    run_batch(EchoStudio(), CHAIN, out=tmp_path / "parts", cancelled=lambda: next(asked, True))
    assert len(results(tmp_path / "parts")) < 7
    run_batch(EchoStudio(), CHAIN, out=tmp_path / "parts")
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_what_there_is_not_to_begin_with_is_an_error_of_its_row(tmp_path):
    rows = [
        {"id": "a", "task": "video", "prompt": "x", "after": "b"},
        {"id": "b", "task": "chat", "prompt": "hello"},
        {"id": "c", "task": "video", "prompt": "x", "after": "b"},
        {"id": "d", "task": "video", "prompt": "x", "after": "d"},
        {"id": "e", "task": "video", "prompt": "x", "after": "nobody"},
        {"id": "f", "task": "video", "prompt": " ", "seconds": 0.5},
        {"id": "g", "task": "video", "prompt": "x", "after": "f"},
        {"id": "h", "task": "image", "prompt": "x", "after": "b"},
    ]
    report = run_batch(EchoStudio(), rows, out=tmp_path / "out")
    assert (report.done, report.failed) == (1, 7)
    told = {line["id"]: line.get("error", "") for line in results(tmp_path / "out")}
    assert "no earlier row has the id 'b'" in told["a"] and "'nobody'" in told["e"]
    assert "made no picture and no clip" in told["c"] and "made no picture and no clip" in told["g"]
    assert "stands without images" in told["d"] and "unknown key" in told["h"]
    assert "no earlier row" in read_rows(rows)[0][0].fault
    with pytest.raises(InputError, match="use backend local"):
        run_batch("echo", CHAIN, out=tmp_path / "many", backend="processes", workers=1)
