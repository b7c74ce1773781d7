"""Models of ours with their parts elsewhere: the same answers, meters that count, refusals that say what to do."""

from __future__ import annotations

import time

import pytest
import torch

import dsv4
from app import worker
from app.page.model_room import _meters
from dsv4 import Studio
from dsv4.checkpoint.placement import Placement
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.quant.policy import eight_bits
from dsv4.tiers.run import Passage, quantize
from dsv4.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("placement")
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(dsv4._parts.asset("nano") / "tokenizer.json")
    model = Model.fresh(tokenizer, size="micro", keep=())
    model.save(root / "plain", policy=eight_bits, about={"name": "micro", "size": "micro"})
    ids = torch.arange(40, 72)
    quantize(root / "plain", root / "packed", tier="q8", method="round", passages=[Passage(token_ids_T=ids)])
    return root


def answer(studio):
    return studio.chat("What is a heron?", max_tokens=12).reply.text


HOMES = [
    ("packed", Placement(weights="packed")),
    ("packed", Placement(experts="mapped", engram="mapped")),
    ("packed", Placement(experts="host", memory=500_000, engram="host")),
    ("plain", Placement(experts="host", memory=5_000_000)),
    ("plain", Placement(engram="mapped")),
]


@pytest.mark.parametrize(("folder", "placement"), HOMES)
def test_a_placed_studio_answers_the_same_and_counts(folder, placement, folders):
    expected = answer(Studio.load(folders / folder))
    studio = dsv4.load(str(folders / folder), placement=placement)
    assert answer(studio) == expected
    found = worker.meters(studio)
    assert found["prefixes"]["asked"] > 0
    assert ("experts" in found) == (placement.experts != "resident")
    assert ("engram" in found) == (placement.engram != "device")
    if "experts" in found:
        assert found["experts"]["used"] > 0 and found["experts"]["home"] == placement.experts
        answer(studio)
        assert worker.meters(studio)["experts"]["hits"] > found["experts"]["hits"]
    if placement.engram == "mapped":
        assert found["engram"]["rows"] > 0 and found["engram"]["bytes_fetched"] > 0
    told = dict(_meters(found))
    assert ("Experts" in told) == ("experts" in found) and ("Engram" in told) == ("engram" in found)


@pytest.mark.parametrize("placement", [Placement(experts="mapped"), Placement(weights="packed")])
def test_what_only_files_can_give_is_refused_with_the_way_there(placement, folders):
    with pytest.raises(InputError, match="dsv4 quantize"):
        Studio.load(folders / "plain", placement=placement)


def test_names_and_numbers_are_checked():
    for wrong, says in (({"experts": "disk"}, "mapped"), ({"engram": "mappd"}, "mapped"), ({"weights": "q4"}, "packed"),
                        ({"memory": -1}, "from 0")):  # fmt: skip
        with pytest.raises(InputError, match=says):
            Placement(**wrong)
    for name in ("echo", "http://127.0.0.1:1/v1"):
        with pytest.raises(InputError, match="nothing to place"):
            dsv4.load(name, placement=Placement(engram="host"))


def test_the_worker_tells_meters_after_a_job(folders):
    heard = []

    class Pipe:
        orders = [("run", "job", "chat", {"prompt": "What is a heron?", "max_tokens": 4}, {}, "out"), ("stop",)]

        def recv(self):
            while self.orders[0][0] == "stop" and not any(kind == "meters" for kind, *_ in heard):
                time.sleep(0.01)
            return self.orders.pop(0)

        def send(self, message):
            heard.append(message)

    worker.main(Pipe(), lambda: dsv4.load(str(folders / "packed"), placement=Placement(experts="mapped")))
    kinds = [kind for kind, *_ in heard]
    assert "done" in kinds or "failed" in kinds
    (meters,) = next(rest for kind, *rest in heard if kind == "meters")
    assert meters["experts"]["home"] == "mapped"
