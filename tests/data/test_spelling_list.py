"""The list of words of a data folder: what is in it, that it is built with the data, and that models carry it on."""

from __future__ import annotations

import gzip

import pytest

from dsv4._parts import asset
from dsv4.checkpoint.io import copy_parts
from dsv4.data import spelling_list
from dsv4.data.spelling_list import asked_words, packed_of, spelling_lines
from dsv4.data.store import load_table
from dsv4.model import Model
from dsv4.quant.policy import eight_bits
from dsv4.spelling import FILE, Speller, packed_list
from tests.conftest import ROOT

BUILT = ROOT / "build" / "data"


def lines_of(packed: bytes) -> dict[str, str]:
    """Marks by name."""
    return {line[1:]: line[0] for line in gzip.decompress(packed).decode().split("\n")}


def test_a_data_folder_is_built_with_its_list(text_world):
    marks = lines_of((text_world / FILE).read_bytes())
    words, icons, things = (load_table(text_world / f"{name}.npz") for name in ("words", "icons", "things"))
    for bit, names in ((1, things["name"]), (2, icons["name"]), (4, words["word"])):
        assert names and all(int(marks[name], 16) & bit for name in names)
    assert {"whose", "whats", "please"} <= set(marks)
    assert Speller.of((text_world / FILE).read_bytes()).correct("a tigre", drawing=True).text == "a tiger"


def test_good_words_that_are_not_taught_are_kept_and_never_offered(text_world):
    lines = spelling_lines(text_world, [{"words": ["lorry", "Lorry", "tiger", "two words"]}])
    assert "-lorry" in lines and not {"-Lorry", "-tiger", "-two words"} & set(lines)
    speller = Speller.of(packed_list(lines))
    assert not speller.correct("a lorry lrory", drawing=False).changes


def test_a_folder_from_before_there_were_lists_gets_one_from_its_tables(text_world, tmp_path):
    for name in ("words.npz", "icons.npz", "things.npz", "facts.npz", "tokenizer.json"):
        (tmp_path / name).write_bytes((text_world / name).read_bytes())
    made, built = (lines_of(packed_of(folder)) for folder in (tmp_path, text_world))
    assert made == {name: mark for name, mark in built.items() if mark != "-"}
    assert packed_of(tmp_path / "none") == b""


def test_the_command_writes_the_list_of_a_model(text_world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["spelling_list", "--data", str(text_world), "--out", str(tmp_path)])
    assert spelling_list.main() == 0 and FILE in capsys.readouterr().out
    assert (tmp_path / FILE).read_bytes() == (text_world / FILE).read_bytes()


def test_a_model_carries_its_list_on(text_world, tmp_path):
    from dsv4.tokenizer import Tokenizer

    model = Model.fresh(Tokenizer.from_file(text_world / "tokenizer.json"), size="micro", keep=())
    about = {"name": "tiny", "size": "micro"}
    model.save(tmp_path / "without", policy=eight_bits, about=about)
    assert not (tmp_path / "without" / FILE).exists() and Model.load(tmp_path / "without").spelling == b""
    model.spelling = packed_of(text_world)
    model.save(tmp_path / "with", policy=eight_bits, about=about)
    assert Model.load(tmp_path / "with").spelling == model.spelling
    copy_parts(tmp_path / "with", tmp_path / "copy", ["core"])
    assert (tmp_path / "copy" / FILE).read_bytes() == model.spelling


def test_phrasings_are_found_in_the_lists_that_make_requests():
    words = set(asked_words())
    assert {"draw", "explain", "difference", "background", "translate", "bouncing", "contrary"} <= words


@pytest.mark.skipif(not (BUILT / "words.npz").is_file(), reason="the training data are not built here")
def test_the_shipped_list_has_the_names_that_were_built():
    """Else write it anew: `python -m dsv4.data.spelling_list --help`."""
    shipped, built = lines_of((asset("nano") / FILE).read_bytes()), spelling_lines(BUILT)
    wanted = {line[1:]: int(line[0], 16) & 7 for line in built}
    found = {name: int(mark, 16) & 7 for name, mark in shipped.items() if mark != "-"}
    assert {name: mark for name, mark in found.items() if mark} == {name: mark for name, mark in wanted.items() if mark}
    assert set(wanted) - set(shipped) <= set(asked_words()), "a taught word is missing"
