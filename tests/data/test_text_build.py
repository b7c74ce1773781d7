"""The builder keeps what can be taught, drops the rest, is repeatable, and refuses bad sources kindly."""

import numpy as np
import pytest

from dsv4.data.builder import LONGEST_DRAWING, build_text, encode_drawing
from dsv4.data.documents import Documents
from dsv4.data.facts import manners, read_facts, sums
from dsv4.data.icons import Icon, colourable, read_icons, requests, synonyms
from dsv4.data.store import load_table, save_table
from dsv4.data.things import read_things, scene_names
from dsv4.data.words import read_words, shorten
from dsv4.errors import InputError
from generation.svg import vocabulary


def test_every_file_is_written_and_reads_back(text_world):
    tokens = vocabulary()
    icons = load_table(text_world / "icons.npz")
    assert "maker" not in icons["name"] and "broken" not in icons["name"], "brands and broken drawings are left out"
    assert icons["name"].count("heart") == 2 and "heart variant" in icons["name"]
    assert len(icons["drawing"]) == len(icons["name"]) == 25
    place = icons["name"].index("star")
    assert (icons["set"][place], icons["style"][place]) == ("lucide", "outline")
    assert tokens.decode(icons["drawing"][place].tolist()).startswith('<svg viewBox="0 0 96 96" fill="none"')
    things = load_table(text_world / "things.npz")
    assert things["alias"] == ["big cat"], "aliases that are numbered or another thing's name are left out"
    assert len(things["drawn"]) == 8 and len(things["name"]) == 9


def test_building_twice_gives_the_same_bytes(text_world, text_sources, tmp_path):
    lines = []
    build_text(text_sources, tmp_path / "again", vocab_size=1100, tell=lines.append)
    for path in text_world.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert any("1 dropped" in line for line in lines), lines


def test_bad_sources_are_named(text_sources, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        build_text(tmp_path / "none", tmp_path / "out")
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(InputError, match="lacks icons.jsonl.zst"):
        build_text(broken, tmp_path / "out")
    for path in text_sources.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "words.jsonl.zst").write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"words\.jsonl\.zst' is not compressed"):
        build_text(broken, tmp_path / "out")
    with pytest.raises(InputError, match="dsv4 data build"):
        load_table(tmp_path / "icons.npz")


def test_short_requests_mean_the_first_style_in_order():
    rows = [
        {
            "src": "mdi",
            "style": "solid",
            "name": "heart",
            "tags": ["red love", "care-taking"],
            "brand": False,
            "svg": "",
        },
        {"src": "lucide", "style": "outline", "name": "heart", "tags": ["love"], "brand": False, "svg": ""},
        {"src": "mdi", "style": "solid", "name": "red heart", "tags": ["heart"], "brand": False, "svg": ""},
    ]
    icons = read_icons(rows)
    meant = requests(icons)
    assert icons[meant["heart icon"]].set == "lucide"
    assert icons[meant["solid heart icon"]].set == icons[meant["heart icon, mdi"]].set == "mdi"
    assert {icons[meant[icon.full]] for icon in icons} == set(icons), "a full key means its own icon"
    assert icons[synonyms(icons)["love"]].set == "lucide"
    assert {"heart", "red heart"}.isdisjoint(synonyms(icons)) and "care taking" in synonyms(icons)
    names = {icon.name for icon in icons}
    assert not colourable(names, "heart", "red") and colourable(names, "heart", "blue")
    assert Icon(name="a", set="b", style="c", svg="").full == "c a icon, b"


def test_words_prefer_common_meanings_and_short_answers():
    rows = [
        {"id": "1", "kind": "noun.person", "words": ["tiger"], "definition": "a fierce person"},
        {"id": "2", "kind": "noun.animal", "words": ["tiger", "big one"], "definition": "large cat", "kind_of": ["3"]},
        {"id": "3", "kind": "noun.animal", "words": ["animal"], "definition": "living thing"},
        {"id": "4", "kind": "verb.motion", "words": ["run"], "definition": "move fast"},
        {"id": "5", "kind": "adj.all", "words": ["able"], "definition": "can", "opposites": {"able": ["unable"]}},
        {"id": "6", "kind": "adj.all", "words": ["x", "a thing", "3D"], "definition": "not words"},
    ]
    entries = {entry.word: entry for entry in read_words(rows)}
    assert set(entries) == {"tiger", "animal", "run", "able"}
    assert entries["tiger"].asked == "a tiger" and entries["tiger"].answer == "A tiger is a kind of animal: large cat."
    assert entries["run"].answer == "To run means to move fast." and entries["able"].opposite == "unable"
    assert shorten("one; two; " + "x" * 200) == "one; two" and shorten("y" * 200) == ""


def test_facts_have_one_answer_a_question(text_world):
    documents = Documents(text_world, seed=0)
    facts = [*documents.knowledge.facts, *manners(), *(sums(a, b) for a in range(9) for b in range(9))]
    answers: dict[str, str] = {}
    for fact in facts:
        for question in fact.questions:
            assert answers.setdefault(question, fact.answer) == fact.answer
    assert answers["What is the capital of France?"] == "Paris." and answers["Name three fruits."].endswith("avocado.")
    assert answers["3 + 4"] == "7." and read_facts([]) == []


def test_things_that_read_as_shapes_stay_out_of_scenes():
    rows = [{"index": 0, "name": "blue circle", "aliases": ["shit", "ok"], "svg": None}]
    (thing,) = read_things(rows)
    assert scene_names([thing.name, "tiger"]) == ["tiger"] and thing.aliases == ("ok",)


def test_long_drawings_lose_their_smallest_shapes_or_are_dropped():
    big = '<rect x="1" y="1" width="90" height="90"/>'
    dots = "".join(f'<circle cx="{5 + n % 80}" cy="{5 + n // 80}" r="1"/>' for n in range(260))
    head, tail = '<svg viewBox="0 0 96 96" fill="#55acee">', "</svg>"
    ids = encode_drawing(head + big + dots + tail)
    assert ids is not None and len(ids) <= LONGEST_DRAWING and '<rect x="1"' in vocabulary().decode(ids)
    assert encode_drawing(head + big.replace('x="1"', 'x="2"') * 260 + tail) is None
    assert encode_drawing("<svg>") is None


def test_tables_keep_texts_arrays_and_id_lists(tmp_path):
    save_table(tmp_path / "t.npz", {"text": ["é", "", "b"], "ids": [[1, 2], [], [60_000]], "n": np.arange(3), "no": []})
    table = load_table(tmp_path / "t.npz")
    assert table["text"] == ["é", "", "b"] and table["no"] == []
    assert [list(row) for row in table["ids"]] == [[1, 2], [], [60_000]]
    np.testing.assert_array_equal(table["ids"].lengths_N, [2, 0, 1])
    with pytest.raises(ValueError, match="line break"):
        save_table(tmp_path / "t.npz", {"text": ["a\nb"]})
