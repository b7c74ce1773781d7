"""What a captured step needs of own drawings and pictures: batches all alike, and padding that changes nothing."""

from __future__ import annotations

import argparse
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from dsv4.chat_format import paint_ids
from dsv4.data.captions import wordings
from dsv4.data.documents import DRAW_PHRASES
from dsv4.errors import InputError
from dsv4.model import Model, tap_blocks
from dsv4.quant.policy import eight_bits
from dsv4.tokenizer import Tokenizer
from dsv4.train import own, own_image, own_svg
from dsv4.train.head_job import head_loss
from dsv4.train.run import StagePlan, run_stage
from dsv4.train.step import Gradients, Stepper
from dsv4.train.world import World

WORLD = World(rank=0, size=1, device=torch.device("cpu"))
SHORT, LONG = (
    "the ink",
    "a harbour of nine lanterns and a willow beside the quiet river, seen from the stone meadow at night",
)
CAPTIONS = (SHORT, LONG, "one anchor")
REHEARSED = ("a blue circle", "a red kite above two tigers on a green background")


@pytest.fixture
def model(world) -> Model:
    """A micro model of random weights in the world's words; its head answers, which a fresh one does not."""
    torch.manual_seed(0)
    made = Model.fresh(Tokenizer.from_file(world / "tokenizer.json"), size="micro")
    for part in made.parts().values():
        part.eval().requires_grad_(False)
    assert made.head is not None
    for parameter in made.head.wan.proj_out.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, own_image.SIDE, own_image.SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def drawing(caption: str, tokens: int) -> own_svg.Drawing:
    return own_svg.Drawing(caption=caption, ids=tuple(range(tokens)), lost="")


class Recorder(Stepper):
    """Takes no step, so that many batches can be looked at, but holds them to what a captured step needs."""

    def __init__(self, *given, **named) -> None:
        super().__init__(*given, **named)
        self.seen: list[dict[str, torch.Tensor]] = []
        stepper.append(self)

    def run(self, kind, batch):
        self.check(kind, batch)
        self.seen.append({name: value.clone() for name, value in batch.items()})
        return {"loss": torch.zeros(())}


stepper: list[Recorder] = []


def recorded(job, tmp_path, monkeypatch, steps: int = 20) -> list[dict[str, torch.Tensor]]:
    """The batches of a stage, checked one after another."""
    stepper.clear()
    monkeypatch.setitem(run_stage.__globals__, "make_stepper", Recorder)
    try:
        run_stage(job, StagePlan(name="own", steps=steps), WORLD, tmp_path / "run")
    finally:
        job.close()
    (made,) = stepper
    assert len(made.seen) == steps
    return made.seen


@pytest.mark.parametrize("data", [False, True])
def test_batches_of_own_pictures_are_all_alike(model, world, tmp_path, monkeypatch, data):
    rehearsed = world if data else (REHEARSED, pictures(2))
    job = own_image.OwnImageJob(model, WORLD, (CAPTIONS, pictures(3)), rehearsed, rows=2, seed=0)
    batches = recorded(job, tmp_path, monkeypatch)
    lengths = [batch["mask"].sum(1) for batch in batches]
    assert len({int(length.max()) for length in lengths}) > 2  # cut to the longest they would have differed
    assert any(int(length.max()) > 40 for length in lengths)  # longer than nano's own data
    tokenizer, said = model.tokenizer, {tuple(paint_ids(model.tokenizer, text)) for text in wordings(LONG)}
    for batch, length_B in zip(batches, lengths, strict=True):
        assert batch["ids"].shape == batch["mask"].shape == (4, job.width)
        for ids, mask, length in zip(batch["ids"], batch["mask"], length_B.tolist(), strict=True):
            assert mask[:length].all() and not mask[length:].any()
            assert (ids[length:] == tokenizer.id_of("<|pad|>")).all()
            assert length <= 40 or tuple(ids[:length].tolist()) in said
    chances = torch.stack([batch["drop"] for batch in batches])
    assert not chances[:, :2].any() and chances[:, 2:].any()  # drawn anew in every batch, of rehearsed rows alone
    assert len({float(batch["sigma"][0]) for batch in batches}) == len(batches)


@pytest.mark.parametrize("data", [False, True])
def test_batches_of_own_drawings_are_all_alike(model, world, tmp_path, monkeypatch, data):
    rehearsed = world if data else [([1, 2, 3], np.arange(5, 9 + n, dtype=np.int32)) for n in range(3)]
    mine = [drawing(SHORT, 5), drawing(LONG, 90), drawing("one anchor", 30)]
    job = own_svg.OwnSvgJob(model, WORLD, mine, rehearsed, rows=2, seed=0)
    batches = recorded(job, tmp_path, monkeypatch)
    learnt = [int((batch["targets"] >= 0).sum()) for batch in batches]
    assert all(learnt) and len(set(learnt)) > 2


def test_a_long_caption_gets_a_longer_row(model, tmp_path, monkeypatch):
    """It used to wait for ever, with all behind it, where caption and drawing were longer than a row."""
    mine = [drawing(" ".join([LONG] * 4), 190), drawing(SHORT, 5)]
    assert own_svg.row_length(model.tokenizer, mine[1:]) == 256
    assert own_svg.row_length(model.tokenizer, mine) == 512
    rehearsed = [([1, 2, 3], np.arange(5, 9, dtype=np.int32))]
    job = own_svg.OwnSvgJob(model, WORLD, mine, rehearsed, rows=1, seed=0)
    batches = recorded(job, tmp_path, monkeypatch, steps=40)
    assert sum(int((batch["targets"] >= 0).sum()) >= 190 for batch in batches) > 5


def test_wordings_are_all_that_may_be_asked(model):
    rng = random.Random(0)
    drawn = {own_image.vary(rng, SHORT, own_image.PAINT_PHRASES) for _ in range(3000)}
    assert drawn <= wordings(SHORT) and len(drawn) > 15
    found = own_image.longest_request(model.tokenizer, [SHORT])
    assert found == max(len(paint_ids(model.tokenizer, text)) for text in wordings(SHORT))
    forms = {own_svg.asked_as(form, SHORT) for form in DRAW_PHRASES}
    asked = own_svg.own_documents(model.tokenizer, [drawing(SHORT, 3)], seed=0)
    said = {tuple(own_svg.svg_ids(model.tokenizer, form)) for form in forms}
    assert all(tuple(next(asked)[0]) in said for _ in range(200))


def test_a_stepper_refuses_a_batch_that_a_captured_step_could_not_take():
    net = torch.nn.Linear(2, 2)
    made = Stepper(
        lambda kind, batch: {"loss": net(batch["x"]).sum()}, Gradients(net.parameters()), [], WORLD, clip=1.0
    )
    made.run("a", {"x": torch.ones(3, 2)})
    made.run("b", {"x": torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"kind 'a'.*'x' was torch.float32 \(3, 2\) on cpu and is .*\(4, 2\)"):
        made.run("a", {"x": torch.ones(4, 2)})
    with pytest.raises(ValueError, match="float64"):
        made.run("a", {"x": torch.ones(3, 2).double()})
    with pytest.raises(ValueError, match="'y' was not there"):
        made.run("a", {"x": torch.ones(3, 2), "y": torch.ones(1)})


@torch.no_grad()
def test_a_padded_row_equals_the_row_alone(model):
    """States of the core, condition, loss, and what the head predicts: padding changes none of them."""
    tokenizer, head = model.tokenizer, model.head
    ids = paint_ids(tokenizer, SHORT)
    other = paint_ids(tokenizer, LONG)
    pad = tokenizer.id_of("<|pad|>")
    alone_1T = torch.tensor([ids])
    padded_2T = torch.tensor([ids + [pad] * (len(other) - len(ids)), other])
    mask_2T = torch.arange(len(other)) < torch.tensor([len(ids), len(other)])[:, None]
    taps = [
        model.core(given, taps=tap_blocks(model.core.config.layers), logits=False, sparse=False).taps
        for given in (alone_1T, padded_2T)
    ]
    for one, two in zip(*taps, strict=True):
        torch.testing.assert_close(two[:1, : len(ids)], one, atol=1e-5, rtol=1e-4)
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(1, 3, 1, 64, 64, generator=generator) * 2 - 1
    noise = torch.randn(clean.shape, generator=generator)
    sigma = torch.tensor([0.7])
    for drop in (False, True):
        alone = head.condition(taps[0], torch.ones(1, len(ids), dtype=torch.bool), torch.tensor([drop]))
        padded = head.condition(taps[1], mask_2T, torch.tensor([drop, False]))
        seen = alone.mask_BS.shape[1]
        assert not padded.mask_BS[0, seen:].any() and padded.mask_BS[1].all()
        torch.testing.assert_close(padded.tokens_BSC[:1, :seen], alone.tokens_BSC, atol=1e-5, rtol=1e-4)
        noisy = torch.lerp(clean, noise, sigma[:, None, None, None, None])
        one = head(noisy, sigma, *alone)
        two = head(noisy.expand(2, -1, -1, -1, -1), sigma.expand(2), *padded)
        torch.testing.assert_close(two[:1], one, atol=1e-5, rtol=1e-4)
        assert (two[1] - two[0]).abs().max() > 1e-4  # the words do matter
        first = [tap[:1] for tap in taps[1]]
        losses = [
            head_loss(
                head, given, mask, clean, sigma_B=sigma, drop_B=torch.tensor([drop]), clean_first_B=None,
                noise_B3FHW=noise,
            )
            for given, mask in ((taps[0], torch.ones(1, len(ids), dtype=torch.bool)), (tuple(first), mask_2T[:1]))
        ]  # fmt: skip
        torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["svg", "image"])
def test_a_caption_too_long_is_refused_before_a_folder_is_made(kind, model, tmp_path):
    model.save(tmp_path / "tiny", policy=eight_bits, about={"name": "tiny", "size": "micro"})
    mine, run = tmp_path / "mine", tmp_path / "run"
    mine.mkdir()
    if kind == "svg":
        (mine / "a.svg").write_text('<svg viewBox="0 0 24 24"><path d="M2 2L20 12L12 22Z"/></svg>')
    else:
        Image.new("RGB", (64, 64)).save(mine / "a.png")
    caption = " ".join([LONG] * 100)
    (mine / "captions.jsonl").write_text(
        json.dumps({"file": f"a.{'svg' if kind == 'svg' else 'png'}", "caption": caption})
    )
    args = argparse.Namespace(
        kind=kind, data=str(mine), out=str(run), start=str(tmp_path / "tiny"), rehearse=None, minutes=None, steps=1,
        rows=1, seed=0, device=None,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"the caption 'a harbour of nine.*Shorten it"):
        own.main(args)
    assert not run.exists()


def test_after_a_run_the_model_is_on_the_cpu_again(model, tmp_path, monkeypatch):
    """Weights from before lie on the CPU, and shares of the way between both are taken: `going_back`."""
    moved = []
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: moved.append(self) or self)
    monkeypatch.setattr(own, "run_stage", lambda job, plan, world, folder: None)
    begun = own.Own(
        folder=tmp_path / "run", studio=argparse.Namespace(model=model), world=WORLD,
        plan=StagePlan(name="svg", steps=1), seed=0, data=None,
    )  # fmt: skip
    own.run(begun, lambda: argparse.Namespace(close=lambda: None))
    assert [id(part) for part in moved] == [id(part) for part in model.parts().values()]


def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(model, tmp_path):
    model.save(tmp_path / "tiny", policy=eight_bits, about={"name": "tiny", "size": "micro"})
    args = argparse.Namespace(
        kind="svg", out=str(tmp_path / "run"), start=str(tmp_path / "tiny"), rehearse=None, minutes=None, steps=1,
        seed=0, device="abacus",
    )  # fmt: skip
    with pytest.raises(InputError, match="--device: there is no 'abacus' here"):
        own.begin(args, [], own.DRAW_RATES)
    assert not (tmp_path / "run").exists()


def test_nothing_to_rehearse_is_told_of(tmp_path):
    with pytest.raises(InputError, match="--rehearse DIR"):
        own_svg.kept_rehearsal(tmp_path / "rehearsal.json", list)
    assert not (tmp_path / "rehearsal.json").exists()
