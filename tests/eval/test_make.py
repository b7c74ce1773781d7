"""`dsv4 eval make`: its judges tell right from wrong, its prompts are of every kind, and it counts what breaks."""

from __future__ import annotations

import json

import pytest

from app.cli import main
from dsv4._parts import part
from dsv4.data.language import Caption
from dsv4.eval import make, svg_stress, svg_tree
from dsv4.eval.shapescore import ShapeCase
from dsv4.results import Svg, Usage


def test_every_judge_passes_what_is_right_and_nothing_else():
    assert dict(make.validation(2)) == {name: (1.0, 0.0) for name in ("pictures", "drawings", "clips")}


def case(kind: str, *nouns: str, **more) -> ShapeCase:
    return ShapeCase(caption=Caption(nouns=nouns, **more), kind=kind)


def test_each_claim_about_a_tree_fails_by_itself():
    asked = case("position", "red star", "blue square", relation="above")
    for other, broken in (
        (case("position", "red star", "blue square", relation="below"), {"above"}),
        (case("position", "red star", "green square", relation="above"), {"one blue square", "above"}),
        (case("position", "red star"), {"one blue square", "above", "nothing more"}),
    ):
        told = svg_tree.atoms(asked, svg_tree.truth(other))
        assert {name for name, kept in told.items() if not kept} == broken
    assert all(svg_tree.atoms(case("single", "red star"), svg_tree.truth(case("single", "blue star"))).values())
    two, three = (case("counting", "red star", count=count) for count in (2, 3))
    assert not svg_tree.judge(two, svg_tree.truth(three)) and not svg_tree.judge(two, "no drawing")


def test_the_tree_knows_shapes_that_lie_on_each_other_and_leaves_the_ground_out():
    svg = part("generation.svg")
    text = svg.scene([svg.shape("circle", "red", 48, 48, 60), svg.shape("star", "blue", 48, 48, 30)], "yellow")
    found = svg_tree.objects(svg.rebuild(text))
    assert [(one.shape, one.colour) for one in found] == [("circle", "red"), ("star", "blue")]
    moved = f'<svg viewBox="0 0 48 48"><g transform="translate(24 0) scale(.25)">{text[text.index("<circle") :]}'
    (first, _) = svg_tree.objects(moved.replace("</svg>", "</g></svg>"))
    assert first.centre == (72.0, 24.0)


def test_prompts_are_of_every_kind_and_the_same_for_a_seed():
    asked = svg_stress.prompts(70)
    assert asked == svg_stress.prompts(70) != svg_stress.prompts(70, seed=1)
    assert sum(1990 <= len(prompt) <= 2001 for prompt in asked) == 10 and len(set(asked)) > 60


class Drawing:
    """A studio whose drawings are given: by the number of the request, good ones by default."""

    GOOD = '<svg viewBox="0 0 96 96" fill="red"><circle cx="48" cy="48" r="20"/></svg>'

    def __init__(self, changed: dict[int, object] | None = None) -> None:
        self.together, self.changed = self, changed or {}

    def shape(self, task, ask):
        return (len(ask["prompt"]) % 3,)

    def svg(self, asks):
        good = Svg(text=part("generation.svg").rebuild(self.GOOD), raw=self.GOOD, provenance={}, usage=Usage(written=7))
        return [self.changed.get(ask["seed"], good) for ask in asks]


def last(studio, count: int, **more) -> svg_stress.Told:
    *_, told = svg_stress.run(studio, count, **more)
    return told


def test_good_drawings_are_all_valid_and_cut_at_every_token():
    told = last(Drawing(), 9, streams=2)
    ids = part("generation.svg").vocabulary().encode(Drawing.GOOD)
    assert (told.drawings, told.valid, told.streams, told.prefixes) == (9, 9, 2, 2 * (len(ids) + 1))


def test_what_breaks_is_counted_and_named():
    def drawing(text: str, written: int = 7) -> Svg:
        return Svg(text=text, raw=Drawing.GOOD, provenance={}, usage=Usage(written=written))

    whole = part("generation.svg").rebuild(Drawing.GOOD)
    wrong = {0: drawing("<svg"), 1: drawing(whole, written=999), 2: drawing(whole + " " * 600_000), 3: ValueError("no")}
    told = last(Drawing(wrong), 8, streams=0)
    assert told.valid == 4 and sum(told.wrong.values()) == 4
    named = " ".join(told.wrong)
    assert "does not rebuild" in named and "more tokens than allowed" in named and "refused: no" in named


def test_the_shipped_model_draws_valid_svg_for_every_kind_of_prompt():
    from dsv4 import Studio

    told = last(Studio.load("nano"), 7, streams=3)
    assert (told.drawings, told.valid, told.streams) == (7, 7, 3) and not told.wrong and told.prefixes > 30


def test_the_command_prints_scores_and_leaves_a_sheet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(make, "validation", lambda: iter([("drawings", (1.0, 0.0))]))
    monkeypatch.setattr(make, "CATEGORIES", ("single",))
    out = tmp_path / "scores"
    assert main(["eval", "make", "-o", str(out), "--only", "svg", "--cases", "2"]) == 0
    printed = capsys.readouterr().out
    assert "judge of drawings: 1.00" in printed and "svg   single" in printed
    record = json.loads((out / "scores.json").read_text())
    assert record["svg"]["cases"] == {"single": 2} and (out / "sheet.png").stat().st_size > 1000
    monkeypatch.setattr(make, "validation", lambda: iter([("drawings", (1.0, 0.5))]))
    assert main(["eval", "make", "-o", str(out)]) == 1
    assert "it judges nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [(["--only", "svgs"], "mean 'svg'"), (["--cases", "0"], "--cases"), (["--svg-prompts", "-1"], "at least 0")],
)
def test_bad_flags_are_refused(tmp_path, capsys, flags, says):
    assert main(["eval", "make", "-o", str(tmp_path / "x"), *flags]) == 2
    assert says in capsys.readouterr().err
