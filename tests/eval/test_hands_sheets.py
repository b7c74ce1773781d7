"""Contact sheets come from one command, few steps are judged beside many, and a redrawn scene is scored."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dsv4.errors import InputError
from dsv4.eval import few_steps, redraw, sheets


def test_sheets_of_every_kind_that_needs_no_eyes(tmp_path, capsys):
    kinds = ["icons", "moving", "clips", "first_frames"]
    assert sheets.main(["--model", "echo", "--out", str(tmp_path / "sheets"), "--only", ",".join(kinds)]) == 0
    for kind in kinds:
        sheet = np.asarray(Image.open(tmp_path / "sheets" / f"{kind}.webp"))
        assert sheet.shape[1] > 800 and sheet.std() > 10
    assert capsys.readouterr().out.count(".webp") == 4
    with pytest.raises(InputError, match="did you mean 'icons'"):
        sheets.main(["--model", "echo", "--only", "icon", "--out", str(tmp_path)])


def test_steps_are_compared_on_the_same_prompts(monkeypatch, capsys):
    asked = []

    def make(_, prompts, *, steps, guidance, rows, size, frames):
        asked.append((steps, guidance, tuple(prompts)))
        return [np.full((frames, size, size, 3), steps, np.uint8) for _ in prompts]

    monkeypatch.setattr(few_steps, "make_frames", make)

    def row(_, make):
        return [bool((frames > 2).all()) for frames in make(["a", "b"], few_steps.PICTURE)]

    monkeypatch.setitem(few_steps.ROWS, "one", row)
    table = few_steps.compare(SimpleNamespace(model=None), [1, 4], ["one"], guidance=1.5)
    assert asked == [(1, 1.5, ("a", "b")), (4, 1.5, ("a", "b"))]
    assert [table["one"][steps]["hits"] for steps in ("1", "4")] == [0, 2]
    assert "4 steps" in capsys.readouterr().out
    for wrong in (["--steps", "many"], ["--steps", "0"], ["--rows", "shape"]):
        with pytest.raises(InputError):
            few_steps.main(["--data", "nowhere", *wrong])


def test_a_redrawn_scene_is_scored_by_its_likeness(monkeypatch):
    shown = np.full((512, 512, 3), 200, np.uint8)
    monkeypatch.setattr(redraw, "cases", lambda *_, **__: iter([("a cat", shown), ("a dog", shown)]))
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><circle cx="9" cy="9" r="9"/></svg>'

    class Studio:
        def svg(self, *, picture, trace):
            assert Image.open(io.BytesIO(picture.source)).size == (512, 512)
            return SimpleNamespace(text=drawing, provenance={"settings": {"seen": "A cat.", "likeness": 0.75}})

    rows, cells = redraw.run(Studio(), "unused", "one", limit=2)
    assert [row["ssim"] for row in rows] == [0.75, 0.75] and rows[0]["caption"] == "a cat"
    assert cells[0][0] == "SSIM 0.75, words: A cat." and len(cells[0][1]) == 2
    monkeypatch.undo()
    with pytest.raises(InputError, match="unknown kind of picture"):
        list(redraw.cases("nowhere", "photo", limit=1))
