"""The picture judges: what is right passes, what is wrong fails, before they judge any model."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dsv4.data.atlas import Atlas
from dsv4.data.glyphs import GlyphSheets
from dsv4.data.language import SHAPE_COLOURS, Caption, held_motion, held_scene
from dsv4.errors import InputError
from dsv4.eval import clips, pictures, reading, seeing, shapescore
from tests import picture_world


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return picture_world.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def nearest(data_dir):
    return pictures.Nearest(atlas=Atlas.load(data_dir))


def rough(made: np.ndarray, *, seed: int = 0, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Some noise, and everything moved by a few pixels."""
    noise = np.random.default_rng(seed).normal(0, 8, made.shape)
    moved = np.roll(made, shift, (made.ndim - 3, made.ndim - 2))
    return np.clip(moved + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", pictures.KINDS)
def test_right_pictures_pass_and_wrong_ones_fail(data_dir, nearest, kind):
    rng = random.Random(1)
    for case in pictures.cases(data_dir, kind, limit=8):
        made = pictures.truth(case, nearest.atlas)
        assert pictures.judge(case, made, nearest)
        assert pictures.judge(case, rough(made, shift=(3, -4)), nearest)
        assert not pictures.judge(pictures.other_case(case, nearest.atlas.names, rng), made, nearest)
        assert held_scene(case.caption.nouns) or kind != "pair"
        other = "navy" if case.caption.ground != "navy" else "mint"
        elsewhere = pictures.PictureCase(caption=Caption(**{**vars(case.caption), "ground": other}))
        assert not pictures.judge(elsewhere, made, nearest)


def test_swapped_places_fail(nearest):
    case, swapped = (
        pictures.PictureCase(caption=Caption(nouns=("tiger", "ant"), relation=relation))
        for relation in ("above", "below")
    )
    assert not pictures.judge(case, pictures.truth(swapped, nearest.atlas), nearest)


def test_one_thing_cases_go_through_all_things_before_any_again(data_dir):
    found = pictures.cases(data_dir, "one", limit=22)
    assert len({case.caption.nouns for case in found}) == 22
    assert found == pictures.cases(data_dir, "one", limit=22) != pictures.cases(data_dir, "one", limit=22, seed=1)


@pytest.mark.parametrize("kind", clips.KINDS)
def test_right_clips_pass_and_wrong_ones_fail(data_dir, nearest, kind):
    found = clips.cases(data_dir, kind, limit=5)
    for number, case in enumerate(found):
        made = clips.truth(case, nearest.atlas)
        assert clips.judge(case, made, nearest)
        assert clips.judge(case, rough(made, shift=(1, 1)), nearest)
        wrong = clips.other_case(case, nearest.atlas.names, random.Random(number))
        assert not clips.judge(wrong, made, nearest)
        if kind == "motion":
            assert held_motion(case.caption.nouns[0], case.caption.motions[0])
            assert not clips.judge(case, made[::-1][:1].repeat(16, 0), nearest)  # it stands still


def test_a_clip_played_backwards_moves_the_wrong_way(nearest):
    case = clips.ClipCase(caption=Caption(nouns=("tiger",), motions=("moving up",)), kind="motion")
    made = clips.truth(case, nearest.atlas)
    assert clips.judge(case, made, nearest) and not clips.judge(case, made[::-1], nearest)
    with pytest.raises(ValueError, match="at least 4"):
        clips.judge(case, made[:2], nearest)


@pytest.mark.parametrize("kind", seeing.KINDS)
def test_only_the_exact_answer_is_right(data_dir, kind):
    for case in seeing.cases(data_dir, kind, limit=4):
        assert seeing.judge(case, case.truth) and seeing.judge(case, f"<think>Something.</think>{case.truth}")
        assert not seeing.judge(case, case.truth.lower() + " maybe") and not seeing.judge(case, "")
        assert held_scene(case.caption.nouns) == (kind == "pair")


def test_seeing_cases_have_their_pictures_and_held_out_words(data_dir, nearest):
    found = seeing.cases(data_dir, "ground", limit=3, held_phrasing=True)
    assert {case.prompt for case in found} == {"Which color is behind it?"}
    drawn = seeing.pictures(found, nearest.atlas, size=64)
    assert [pictures.ground_of(picture) for picture in drawn] == [case.caption.ground for case in found]


@pytest.mark.parametrize("kind", reading.KINDS)
def test_reading_counts_characters(data_dir, kind):
    found = reading.cases(data_dir, kind, limit=4)
    truths = [case.truth for case in found]
    assert reading.error_rate(found, truths) == 0 and all(map(reading.judge, found, truths))
    assert reading.judge(found[0], found[0].truth.replace("\n", " "))
    assert reading.character_errors(found[0], found[0].truth + "!") == (1, len(reading.flatten(found[0].truth)))
    assert reading.error_rate(found, [""] * 4) == 1
    drawn = reading.pictures(found, GlyphSheets.load(data_dir))
    assert drawn.shape == (4, 512, 512, 3) and (drawn.std((1, 2, 3)) > 1).all()


def test_edits_are_counted_as_people_count_them():
    assert [reading.edits(*pair) for pair in (("", "abc"), ("kitten", "sitting"), ("same", "same"), ("ab", "ba"))] == [
        3, 3, 0, 2,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", shapescore.CATEGORIES)
def test_shape_pictures_keep_their_claims(kind):
    found = shapescore.cases(None, kind, limit=12)
    drawn = [shapescore.truth(case) for case in found]
    assert sum(map(shapescore.judge, found, drawn)) == 12
    assert sum(shapescore.judge(case, rough(made)) for case, made in zip(found, drawn, strict=True)) >= 11
    for case, made in zip(found, drawn, strict=True):
        for other in found:
            shapes = [[noun.split()[1] for noun in one.caption.nouns] for one in (case, other)]
            if shapes[0] != shapes[1]:  # requests for the same shapes may come out alike
                assert not shapescore.judge(other, made)


def test_each_claim_fails_by_itself():
    def atoms(asked: Caption, drawn: Caption, kind: str) -> set[str]:
        made = shapescore.truth(shapescore.ShapeCase(caption=drawn, kind=kind))
        claims = shapescore.atoms(shapescore.ShapeCase(caption=asked, kind=kind), made)
        return {name for name, kept in claims.items() if not kept}

    red, blue = Caption(nouns=("red star",)), Caption(nouns=("blue star",))
    assert atoms(red, blue, "single") == set()
    assert atoms(red, blue, "colours") == {"red star: colour"}
    assert atoms(red, Caption(nouns=("red cross",)), "single") == {"red star: shape"}
    assert atoms(red, Caption(nouns=("red star",), ground="navy"), "single") == {"ground"}
    two, three = (Caption(nouns=("red star",), count=count) for count in (2, 3))
    assert atoms(two, three, "counting") == {"red star: two", "nothing more"}
    pair = {relation: Caption(nouns=("red star", "blue square"), relation=relation) for relation in ("above", "below")}
    assert atoms(pair["above"], pair["below"], "position") == {"above"}


def test_shape_clips_score_near_one_and_the_wrong_way_fails():
    for case in shapescore.cases(None, "clip", limit=6):
        made = shapescore.truth(case, size=64)
        scores = shapescore.clip_scores(case, made)
        assert scores["total"] > 0.93 and shapescore.judge(case, made)
        assert scores["motion"] == 1 and shapescore.clip_scores(case, made[::-1])["motion"] == 0
        assert not shapescore.judge(case, made[::-1])
        mixed = made[np.random.default_rng(1).permutation(16)]
        if case.caption.motions[0].startswith("moving"):
            assert shapescore.clip_scores(case, mixed)["smooth"] < 0.2
    with pytest.raises(ValueError, match="at least 4"):
        shapescore.clip_scores(case, made[:1])


def test_overall_weighs_categories_alike():
    assert shapescore.overall({"single": [True] * 9 + [False], "two": [False]}) == pytest.approx(0.45)


@pytest.mark.parametrize("judge", [pictures, clips, seeing, reading, shapescore])
def test_unknown_kinds_are_explained(data_dir, judge):
    with pytest.raises(InputError, match="choose one of"):
        judge.cases(data_dir, "nonsense", limit=1)


def test_parts_of_a_mask_are_found_as_they_hang_together():
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1], [1, 0, 1, 1]], bool)
    parts = shapescore.components(mask)
    assert sorted(len(ys) for ys, _ in parts) == [1, 3, 6]
    assert all(mask[ys, xs].all() for ys, xs in parts)
    lab = shapescore.to_lab(np.array([[255, 255, 255], [0, 0, 0], SHAPE_COLOURS["red"]]))
    assert lab[0] == pytest.approx([100, 0, 0], abs=0.02) and lab[1] == pytest.approx([0, 0, 0], abs=0.01)
    assert lab[2][1] > 50
