"""From a picture to memory's rows: the joined model hands the codes of what it saw to the core that asks for them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dsv4._parts import asset
from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.engine.generate import generate
from dsv4.engine.together import Row, generate_together
from dsv4.messages import image
from dsv4.model import Model
from dsv4.processor import Processor
from dsv4.tokenizer import Tokenizer
from vision import DeepEncoder, DeepEncoderConfig


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(asset("nano") / "tokenizer.json")


def model(tokenizer: Tokenizer, bits: int) -> Model:
    plain = presets.micro(vocab_size=tokenizer.vocab_size)
    assert plain.engram is not None
    torch.manual_seed(0)
    eyes = DeepEncoder(DeepEncoderConfig.micro()).eval()
    config = dataclasses.replace(plain, engram=dataclasses.replace(plain.engram, picture_bits=bits))
    core = LanguageCore.from_config(config, canonical_ids=tokenizer.canonical_ids).eval()
    return Model(tokenizer=tokenizer, core=core, eyes=eyes, about={})


def test_codes_stand_at_the_picture_and_open_its_memory(tokenizer, scene):
    given = Processor(tokenizer).chat("What is in this picture?", [image(scene)], mode="tiny")
    closed, opened = (model(tokenizer, bits) for bits in (0, 10))
    plain, coded = closed.embed(given), opened.embed(given)
    assert plain.memory_ids_BT is given.memory_ids_BT
    ((start, stop),) = given.image_spans
    cells = coded.memory_ids_BT[0, start : stop - 1].view(8, 9, 3)
    assert coded.memory_ids_BT.shape == (1, given.length, 3)
    assert (cells[:, :8] <= -2).all() and (cells[:, 8] == -1).all()
    assert torch.equal(cells[:, 1:8, 1], cells[:, :7, 0]) and torch.equal(cells[1:, :8, 2], cells[:-1, :8, 0])
    logits = [core(p.token_ids_BT, embeds_BTD=p.embeds_BTD, memory_ids_BT=p.memory_ids_BT, last_only=True).logits_BTV
              for core, p in ((closed.core, plain), (opened.core, coded))]  # fmt: skip
    assert not torch.allclose(*logits)


def test_rows_with_and_without_a_picture_can_share_a_pass(tokenizer, scene):
    made = model(tokenizer, 10)
    made.core.double()
    made.eyes.double()
    shown = Processor(tokenizer).chat("What is it?", [image(scene)], mode="tiny")
    prompts = [made.embed(shown), made.embed(dataclasses.replace(
        shown, views=(), image_spans=(), memory_ids_BT=None, token_ids_BT=shown.token_ids_BT.clamp_max(300)
    ))]  # fmt: skip
    stop = frozenset({tokenizer.id_of("<|eos|>")})
    alone = [list(generate(made.core, prompt, max_tokens=6, stop=stop)) for prompt in prompts]
    assert generate_together(made.core, [Row(prompt=p, max_tokens=6) for p in prompts], stop=stop) == alone
