"""A person's own drawings and pictures: what is read, what is refused, that a tiny model learns them, and resumes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from app.cli import main
from dsv4._parts import asset
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.quant.policy import eight_bits
from dsv4.studio import Studio
from dsv4.tokenizer import Tokenizer
from dsv4.train import own, own_image, own_svg
from dsv4.train.own_pairs import DRAWINGS, PICTURES, read_pairs
from generation.svg import rasterise, tokenise

KITE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="M12 2L20 12L12 22L4 12Z" fill="red"/></svg>'
)
DISC = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="9" fill="blue"/></svg>'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a micro model of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    model = Model.fresh(Tokenizer.from_file(asset("nano") / "tokenizer.json"), size="micro")
    model.save(folder, policy=eight_bits, about={"name": "tiny", "size": "micro"})
    return folder


@pytest.fixture
def drawings(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "zorb-kite.svg").write_text(KITE)
    (folder / "b.svg").write_text(DISC)
    (folder / "captions.txt").write_text("b.svg: the acme disc.\n")
    return folder


def test_captions_are_those_of_the_file_or_the_names(drawings):
    assert [pair.caption for pair in read_pairs(drawings, DRAWINGS)] == ["the acme disc", "zorb kite"]
    (drawings / "captions.txt").unlink()
    rows = [{"file": "b.svg", "caption": "  one\tdisc "}, {"file": "zorb-kite.svg", "caption": "kite: a red one"}]
    (drawings / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [pair.caption for pair in read_pairs(drawings, DRAWINGS)] == ["one disc", "kite: a red one"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("captions.txt", "bb.svg: disc", "did you mean 'b.svg'"),
        ("captions.txt", "b.svg disc", "line 1: wanted `file: caption`"),
        ("captions.txt", "b.svg:", "line 1: the prompt is empty"),
        ("captions.txt", "b.svg: Zorb Kite", "are both called"),
        ("captions.jsonl", "{}", "keep one"),
        ("bad.svg", "<svg><oops", "bad.svg"),
        ("bad.svg", '<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg"/>', "cannot be learnt"),
    ],
)
def test_a_folder_that_cannot_be_learnt_is_refused(drawings, name, text, told, capsys):
    (drawings / name).write_text(text)
    assert main(["train", "svg", "--data", str(drawings), "--out", str(drawings.parent / "run")]) == 2
    assert told in capsys.readouterr().err
    assert not (drawings.parent / "run").exists()


def test_an_empty_folder_a_long_picture_and_a_used_folder_are_refused(tmp_path, drawings, tiny):
    with pytest.raises(InputError, match=r"holds no \.png"):
        read_pairs(drawings, PICTURES)
    Image.new("RGB", (90, 20)).save(tmp_path / "long.png")
    with pytest.raises(InputError, match="90 x 20"):
        own_image.read_pictures(tmp_path)
    assert main(["train", "svg", "--data", str(drawings), "--out", str(drawings), "--start", str(tiny)]) == 2


def test_what_is_lost_on_the_way_is_told(drawings):
    wild = KITE.replace("</svg>", '<text x="2" y="8">hi</text></svg>')
    (drawings / "zorb-kite.svg").write_text(wild)
    _, (disc, kite) = own_svg.read_drawings(drawings)
    assert "left out 1 <text>" in kite.lost and disc.lost == ""


def test_a_tiny_model_draws_the_new_icons_exactly_and_a_second_call_goes_on(
    drawings, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(own_svg, "REHEARSED", 3)
    monkeypatch.setattr(own_svg, "LONGEST_ANSWER", 30)
    monkeypatch.setattr(own, "DRAW_RATES", own.Rates(matrices=0.02, rest=5e-3, rows=2e-2))
    run = tmp_path / "run"
    command = ["train", "svg", "--data", str(drawings), "--out", str(run), "--start", str(tiny), "--rows", "1"]

    class Killed(Exception):
        pass

    saved = own.run_stage.__globals__["save_checkpoint"]
    monkeypatch.setattr(own, "CHECKPOINT_MINUTES", 0.0)

    def save_then_die(folder, *given, step, elapsed):
        saved(folder, *given, step=step, elapsed=elapsed)
        if step == 5:
            raise Killed

    monkeypatch.setitem(own.run_stage.__globals__, "save_checkpoint", save_then_die)
    with pytest.raises(Killed):
        main([*command, "--steps", "60"])
    monkeypatch.setitem(own.run_stage.__globals__, "save_checkpoint", saved)
    monkeypatch.setattr(own, "CHECKPOINT_MINUTES", 60.0)
    assert main([*command, "--steps", "60"]) == 0
    assert "drawn exactly: 0 of 2 before, 2 after" in capsys.readouterr().out
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 60 and steps.count(1) == 1  # the second call did not begin again
    studio = Studio.load(run / "model")
    drawn, meant = studio.svg("zorb kite").text, tokenise(KITE).text
    np.testing.assert_array_equal(rasterise(drawn, 64), rasterise(meant, 64))
    (drawings / "b.svg").write_text(KITE.replace("red", "green"))
    with pytest.raises(InputError, match="run over other files"):
        own.begin(_arguments(drawings, run, tiny), read_pairs(drawings, DRAWINGS), own.DRAW_RATES)


def test_a_tiny_head_learns_own_pictures(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(own_image, "REHEARSED", 4)
    monkeypatch.setattr(own_image, "REHEARSAL_STEPS", 1)
    monkeypatch.setattr(own, "PAINT_RATES", own.Rates(matrices=0.02, rest=5e-3, rows=0.0))
    folder, run = tmp_path / "mine", tmp_path / "run"
    folder.mkdir()
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = (250, 200, 20)
    Image.fromarray(picture).save(folder / "two-halves.png")
    command = ["train", "image", "--data", str(folder), "--out", str(run), "--start", str(tiny), "--rows", "2"]
    assert main([*command, "--steps", "140"]) == 0
    record = json.loads((run / "report.json").read_text())
    assert record["psnr_after"] > record["psnr_before"] + 5
    _, pictures_N3HW = own_image.read_pictures(folder)
    made = own_image.painted(Studio.load(run / "model"), ["two halves"])[0] / 255
    wanted = ((pictures_N3HW[0] + 1) / 2).permute(1, 2, 0).numpy()
    assert -10 * np.log10(np.square(made - wanted).mean()) == pytest.approx(record["psnr_after"])
    before = Studio.load(tiny).model.parts()["core"].state_dict()
    after = Studio.load(run / "model").model.parts()["core"].state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())  # only the head has learnt


def _arguments(data, out, start):
    import argparse

    return argparse.Namespace(
        kind="svg", data=str(data), out=str(out), start=str(start), rehearse=None, minutes=None, steps=2, rows=1,
        seed=0, device=None,
    )  # fmt: skip
