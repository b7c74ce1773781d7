"""Which n-grams light up: figures from a small random core, and a picture with a cell for each of them."""

from __future__ import annotations

import xml.dom.minidom
from dataclasses import replace

import pytest
import torch

from dsv4.core.model import LanguageCore
from dsv4.core.presets import micro
from dsv4.errors import InputError
from dsv4.eval import ngrams
from dsv4.eval.ngrams import Layer, Lit

IDS = [5, 6, 7, 5, 6, 7, 9]


@pytest.fixture
def core() -> LanguageCore:
    torch.manual_seed(0)
    made = LanguageCore.from_config(micro()).eval()
    with torch.no_grad():
        for block in made.blocks:
            if block.engram is not None:
                block.engram.table.weight.normal_()
    return made


def test_gates_and_what_is_added_are_those_of_the_pass(core) -> None:
    layers = ngrams.light(core, IDS)
    assert [layer.number for layer in layers] == [0, 2] and {len(layer.gates) for layer in layers} == {len(IDS)}
    assert all(0 < gate < 1 for layer in layers for gates in layer.gates for gate in gates)
    # The first layer reads the embedding itself, and its convolution starts as nothing: gate times value is all.
    part = core.blocks[0].engram
    seen = {}
    hook = part.register_forward_hook(lambda module, given, added: seen.update(x=given[0], added=added))
    with torch.inference_mode():
        core(torch.tensor([IDS]))
    hook.remove()
    length = seen["added"][0].flatten(1).norm(dim=-1) / seen["x"][0].flatten(1).norm(dim=-1)
    assert torch.allclose(torch.tensor(layers[0].added), length) and min(layers[0].added) > 0
    with torch.no_grad():
        part.table.weight.zero_()
    assert max(ngrams.light(core, IDS)[0].added) == 0


def test_one_more_pass_leaves_no_hook_behind(core) -> None:
    ngrams.light(core, IDS)
    assert not core.blocks[0].engram._forward_hooks


def test_a_core_without_memory_says_so() -> None:
    with pytest.raises(InputError, match="no Engram"):
        ngrams.light(LanguageCore.from_config(replace(micro(), engram=None)), IDS)


def test_the_picture_has_a_cell_for_every_figure_and_names_the_strongest() -> None:
    tokens = (" ⟨user⟩ ", "What", "?", "A", " her", "on", " is", " <b>")
    gates = tuple((0.1 * place, 0.5) for place in range(len(tokens)))
    added = (0.0, 0.1, 0.1, 0.1, 0.2, 0.9, 0.3, 0.4)
    lit = Lit(tokens=tokens, answer=3, layers=tuple(Layer(number=n, gates=gates, added=added, reach=3) for n in (1, 3)))
    assert lit.layers[0].strongest(2) == [5, 7] and lit.ngram(5, 3) == "A heron" and lit.ngram(5, 2) == "heron"
    drawn = ngrams.draw(lit, title="a & b")
    told = xml.dom.minidom.parseString(drawn).getElementsByTagName("title")
    assert len(told) == len(tokens) * 2 * 3
    assert drawn.count("“A heron”") == 2 and drawn.count("▲") == 2 * ngrams.LISTED + 1
    table = ngrams.told(lit)
    assert table[2].startswith("| 1 | question | 0.30 | 0.07 |") and "“A heron”" in table[3]


def test_long_answers_are_broken_into_even_bands() -> None:
    count = 2 * ngrams.ACROSS + 1
    layer = Layer(number=1, gates=((0.5,),) * count, added=(0.1,) * count, reach=2)
    drawn = ngrams.draw(Lit(tokens=(" a",) * count, answer=1, layers=(layer,)), title="long")
    assert drawn.count(">layer 1<") == 3
