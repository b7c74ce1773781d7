"""The judge of long clips: true clips of 48 frames pass in every way of making them, what is wrong fails."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from dsv4.data.atlas import Atlas
from dsv4.data.language import MOTIONS, Caption
from dsv4.eval import clips, long_clips
from dsv4.eval.pictures import Nearest
from tests import picture_world


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return picture_world.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def nearest(data_dir):
    return Nearest(atlas=Atlas.load(data_dir))


def tiger(motion: str) -> clips.ClipCase:
    return clips.ClipCase(caption=Caption(nouns=("tiger",), motions=(motion,)), kind="motion")


@pytest.mark.parametrize("way", long_clips.WAYS)
@pytest.mark.parametrize("kind", long_clips.KINDS)
def test_true_clips_are_right_from_the_first_to_the_last_frame_and_wrong_ones_are_not(data_dir, nearest, kind, way):
    make, found = long_clips.drawn(nearest.atlas), clips.cases(data_dir, kind, limit=4)
    made = [long_clips.film(make, case, way, 48, 0) for case in found]
    assert [len(clip) for clip in made] == [48] * 4
    told = long_clips.measure(made, found, way, nearest)
    assert told["first"] == told["last"] == told["moves"] == [True] * 4
    assert told["seam"] == told["true"]
    named = [replace(case, kind="name") for case in found]  # so that another noun is asked for
    for case, clip in zip(named, made, strict=True):
        other = clips.other_case(case, nearest.atlas.names, random.Random(1))
        assert not long_clips.first_part(other, way, clip).actors_right(nearest)
        assert not long_clips.last_part(other, way, clip).actors_right(nearest)


@pytest.mark.parametrize("way", long_clips.WAYS)
def test_what_turns_into_something_else_is_right_at_first_and_wrong_at_last(nearest, way):
    case, make = tiger("bouncing"), long_clips.drawn(nearest.atlas)
    other = replace(case, caption=replace(case.caption, nouns=("umbrella",)))
    made = [long_clips.film(make, one, way, 48, 0) for one in (case, other)]
    clip = np.concatenate([made[0][:24], made[1][24:]])
    assert long_clips.first_part(case, way, clip).actors_right(nearest)
    assert not long_clips.last_part(case, way, clip).actors_right(nearest)
    assert long_clips.last_part(other, way, clip).actors_right(nearest)


def test_what_stands_still_at_last_does_not_move_as_asked(nearest):
    case, make = tiger("moving left"), long_clips.drawn(nearest.atlas)
    clip = long_clips.film(make, case, "again", 48, 0)
    clip[31:] = clip[31]
    assert not long_clips.last_part(case, "again", clip).moves_right(nearest.atlas)


def test_a_seam_counts_in_times_of_what_changes_elsewhere(nearest):
    make = long_clips.drawn(nearest.atlas)

    def ratio(motion: str, way: str) -> float:
        return long_clips.seam(long_clips.film(make, tiger(motion), way, 48, 0))

    assert ratio("moving right", "pass") == pytest.approx(1, abs=0.4)
    assert ratio("moving right", "again") > 3  # the way begins anew
    for motion in MOTIONS:  # in "back" every motion begins where the last one ended
        assert ratio(motion, "back") < long_clips.JUMP, motion
    frames = np.zeros((32, 2, 2, 3), np.uint8)
    frames[:, 0, 0] = np.arange(32)[:, None]
    frames[16:, 0, 0] += 4
    assert long_clips.seam(frames) == pytest.approx(5)


def test_the_line_holds_counts_and_intervals():
    told = {"first": [True] * 4, "last": [True, False] * 2, "moves": [False] * 4, "seam": [1.0, 3.0], "true": [1.0] * 2}
    row = long_clips.line(48, "back", told, told)
    assert row.startswith("| 48 | --after, motion back | 4 of 4 (51–100 %) | 2 of 4 (15–85 %) | 0 of 4 (0–49 %) |")
    assert row.endswith("| 2.0 (1.0) | 2 of 4 (15–85 %) |")
    assert row.count("|") == long_clips.HEAD.splitlines()[0].count("|")
