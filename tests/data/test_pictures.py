"""The picture side's data: sprites, scenes drawn from them, and the streams of tasks."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from dsv4.data.atlas import Atlas, Names, build_atlas, shape_atlas, vanishing
from dsv4.data.compose import cut_out, render_clips, render_pictures, to_bytes
from dsv4.data.language import MOTIONS, SHAPE_COLOURS, SHAPE_NOUNS, Caption, held_pair, held_scene, parse
from dsv4.data.motions import STILL, motion_row, motion_table
from dsv4.data.pictures import IGNORE, KINDS, PictureStream, pick_question, visible
from dsv4.data.scenes import LOOKED_AT, NONE, PAINTED, drawable, layout, place_scenes
from dsv4.errors import InputError
from tests import picture_world


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return picture_world.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def atlas(data_dir):
    return Atlas.load(data_dir)


def tensors(scenes) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in scenes.arrays().items()}


def draw(captions, atlas, size=64) -> np.ndarray:
    drawn = render_pictures(tensors(place_scenes(captions, atlas.names)), atlas, size)
    return to_bytes(drawn).permute(0, 2, 3, 1).numpy()


def middle_of(picture_HW3: np.ndarray, ground) -> tuple[float, float]:
    """Centre of everything that is not ground, as x and y in 0..1."""
    ys, xs = np.nonzero(np.abs(picture_HW3.astype(int) - np.array(ground)).sum(-1) > 30)
    return float(xs.mean() + 0.5) / picture_HW3.shape[1], float(ys.mean() + 0.5) / picture_HW3.shape[0]


def test_atlas_holds_both_looks_and_shapes(atlas):
    sprites = atlas.sprites.numpy()
    assert sprites.shape == (2 * len(picture_world.NAMES) + 54, 24, 24, 4)
    assert (sprites[..., :3] <= sprites[..., 3:]).all()  # premultiplied
    tiger = atlas.names.sprite("tiger")
    assert not np.array_equal(sprites[tiger], sprites[atlas.names.sprite("tiger", flat=True)])
    without = atlas.names.sprite(picture_world.NOT_FLAT)
    assert np.array_equal(sprites[without], sprites[without + 1])
    red = sprites[atlas.names.sprite("red square"), 12, 12]
    assert red.tolist() == [*SHAPE_COLOURS["red"], 255]


def test_the_sheet_survives_the_way_to_disk(data_dir, atlas):
    from PIL import Image

    with Image.open(data_dir / "atlas_shaded.webp") as sheet:
        wanted = np.asarray(sheet.convert("RGBA"))[:, 3 * 24 : 4 * 24]
    found = atlas.sprites[atlas.names.sprite("soccer ball")].numpy()
    assert np.array_equal(found, wanted * (wanted[..., 3:] > 0))


def test_unknown_nouns_and_missing_files_are_explained(tmp_path, atlas):
    with pytest.raises(InputError, match="did you mean 'tiger'"):
        atlas.names.sprite("tigger")
    with pytest.raises(InputError, match=r"names\.json"):
        Atlas.load(tmp_path)
    with pytest.raises(InputError, match="things_shaded"):
        build_atlas(tmp_path, tmp_path / "out")


def test_a_sheet_that_does_not_fit_is_refused(tmp_path):
    sources = picture_world.write_sources(tmp_path / "sources")
    from PIL import Image

    Image.new("RGBA", (40, 1)).resize((400, 10)).save(sources / "things_shaded.webp")
    picture_world_count = len(picture_world.NAMES)
    build_atlas(sources, tmp_path / "out")  # one row of forty cells holds them all
    assert len(json.loads((tmp_path / "out" / "names.json").read_text())["names"]) == picture_world_count
    Image.new("RGBA", (400, 5)).save(sources / "things_shaded.webp")
    with pytest.raises(InputError, match="one cell of 10 px"):
        build_atlas(sources, tmp_path / "out")


def test_a_square_is_drawn_where_and_as_large_as_it_should_be():
    atlas = shape_atlas(64)
    picture = draw([Caption(nouns=("red square",), ground="mint")], atlas, 128)[0]
    assert picture[64, 64].tolist() == list(SHAPE_COLOURS["red"])
    assert picture[2, 2].tolist() == [180, 240, 210]
    red = picture[..., 1] < (240 + SHAPE_COLOURS["red"][1]) / 2  # edges count from half on
    side = layout(Caption(nouns=("red square",)))[0][2] * 0.86 * 128
    assert abs(np.sqrt(red.sum()) - side) < 1


@pytest.mark.parametrize("size", [32, 64, 200])
def test_every_mip_level_keeps_the_picture(size):
    atlas = shape_atlas(96)
    place = torch.tensor([[0.5, 0.5, 0.6, 0.0]])
    drawn = cut_out(torch.tensor([atlas.names.sprite("blue circle")]), place, atlas, size)[0]
    share = float(drawn[3].mean())
    assert share == pytest.approx(np.pi / 4 * (0.86 * 0.6) ** 2, rel=0.04)


def test_turning_is_clockwise_and_exact():
    atlas = shape_atlas(64)
    sprite = torch.tensor([atlas.names.sprite("red triangle")])
    upright, turned = (
        cut_out(sprite, torch.tensor([[0.5, 0.5, 1.0, turn]]), atlas, 64)[0, 3] for turn in (0.0, torch.pi / 2)
    )
    assert torch.allclose(turned, torch.rot90(upright, -1), atol=0.02)


def test_lower_precision_around_it_changes_nothing(atlas):
    batch = tensors(place_scenes([Caption(nouns=("tiger", "ant"), relation="above")], atlas.names))
    with torch.autocast("cpu", torch.bfloat16):
        inside = render_pictures(batch, atlas, 64)
    assert torch.equal(inside, render_pictures(batch, atlas, 64))


def test_relations_lie_as_they_are_told(atlas):
    for relation, (axis, sign) in {
        "to the left of": (0, 1), "to the right of": (0, -1), "above": (1, 1), "below": (1, -1),
    }.items():  # fmt: skip
        first, second = layout(Caption(nouns=("tiger", "ant"), relation=relation))
        assert (second[axis] - first[axis]) * sign > 0.4
        assert first[1 - axis] == second[1 - axis]
    alone = draw([Caption(nouns=("red square",))], shape_atlas(32))[0]
    assert middle_of(alone, (255, 255, 255)) == pytest.approx((0.5, 0.5), abs=0.02)


def test_counts_draw_so_many_apart():
    from dsv4.eval.shapescore import detect

    pictures = draw([Caption(nouns=("green star",), count=n, ground="black") for n in (2, 3, 4)], shape_atlas(96), 128)
    assert [len(detect(picture)[1]) for picture in pictures] == [2, 3, 4]


def test_jitter_stays_inside_the_picture_and_small_when_painting(atlas):
    captions = [Caption(nouns=("tiger",)), Caption(nouns=("tiger", "ant"), relation="above")] * 40
    for jitter, most in ((PAINTED, 0.013), (LOOKED_AT, 0.3)):
        scenes = place_scenes(captions, atlas.names, jitter=jitter, rng=random.Random(1))
        here = scenes.sprite != NONE
        x, y, size = (scenes.place[..., part][here] for part in range(3))
        assert (x - size / 2 > -1e-6).all() and (x + size / 2 < 1 + 1e-6).all()
        assert (y - size / 2 > -1e-6).all() and (y + size / 2 < 1 + 1e-6).all()
        steady = place_scenes(captions, atlas.names)
        assert np.abs(scenes.place - steady.place)[..., :2].max() < most
    assert scenes.place[0, 0].tolist() != scenes.place[2, 0].tolist()


def test_a_thing_without_a_flat_drawing_is_never_called_flat(atlas):
    caption = Caption(nouns=(picture_world.NOT_FLAT,), flat=True)
    assert not drawable(caption, atlas.names).flat
    assert drawable(Caption(nouns=("tiger",), flat=True), atlas.names).flat
    assert not visible(Caption(nouns=("red square",), flat=True), atlas.names).flat


def test_a_thing_is_never_put_where_it_would_vanish(atlas):
    sprites = np.zeros((2, 24, 24, 4), np.uint8)
    sprites[0, 4:20, 4:20] = [180, 240, 210, 255]  # the very colour of the mint ground
    sprites[1, 4:20, 4:20] = [20, 20, 24, 255]
    assert vanishing(sprites) == [["mint"], ["black"]]
    names = replace(atlas.names, unseen={atlas.names.sprite("tiger"): ("white", "black")})
    assert drawable(Caption(nouns=("ant", "tiger"), relation="above"), names).ground == "sky blue"
    assert drawable(Caption(nouns=("ant",)), names).ground == "white"
    assert drawable(Caption(nouns=("tiger",), flat=True), names).ground == "white"


def test_motions_do_what_they_are_called():
    table = dict(zip(MOTIONS, motion_table(16), strict=False))
    assert table["moving left"][0, 0] > 0 > table["moving left"][-1, 0]
    assert table["moving down"][0, 1] < 0 < table["moving down"][-1, 1]
    assert (np.diff(table["growing"][:, 2]) > 0).all() and (np.diff(table["shrinking"][:, 2]) < 0).all()
    assert (np.diff(table["spinning"][:, 3]) > 0).all() and table["spinning"][-1, 3] > 5
    assert table["bouncing"][0, 1] == pytest.approx(table["bouncing"][-1, 1], abs=1e-6) and table["bouncing"][4, 1] < 0
    assert np.ptp(table["shaking"][:, 0]) < 0.11 and np.ptp(table["swinging"][:, 3]) > 0.9
    assert len({array.tobytes() for array in table.values()}) == 10
    assert motion_row(None, company=True) == STILL and motion_row("spinning", company=True) == 14


def test_clips_agree_with_pictures_and_move(atlas):
    still = place_scenes([Caption(nouns=("tiger",))], atlas.names)
    clip = render_clips(tensors(still), atlas, 32, 5)
    assert clip.shape == (1, 3, 5, 32, 32)
    assert torch.equal(clip[:, :, 3], render_pictures(tensors(still), atlas, 32))
    moving = place_scenes([Caption(nouns=("tiger",), motions=("moving left",))], atlas.names)
    frames = to_bytes(render_clips(tensors(moving), atlas, 64, 16))[0].permute(1, 2, 3, 0).numpy()
    path = [middle_of(frame, (255, 255, 255))[0] for frame in frames]
    assert (np.diff(path) < 0).all() and path[0] - path[-1] == pytest.approx(0.48, abs=0.03)


def test_two_actors_stay_in_their_halves(atlas):
    captions = [Caption(nouns=("red square", "blue star"), motions=(first, "spinning")) for first in MOTIONS]
    frames = to_bytes(render_clips(tensors(place_scenes(captions, atlas.names)), atlas, 64, 16)).numpy()
    red_on_right = (frames[..., 34:] == np.array(SHAPE_COLOURS["red"]).reshape(1, 3, 1, 1, 1)).all(1)
    assert not red_on_right.any()


@pytest.mark.parametrize("kind", KINDS)
def test_streams_repeat_by_seed_and_keep_their_shapes(data_dir, kind):
    first, second, other = (PictureStream(data_dir, kind, seed=seed, rows=5) for seed in (3, 3, 4))
    batches = [first.batch() for _ in range(4)]
    again = next(iter(second))
    assert all(np.array_equal(batches[0][name], again[name]) for name in again)
    assert not np.array_equal(batches[0]["ids"], other.batch()["ids"])
    shapes = [{name: (array.shape, array.dtype) for name, array in batch.items()} for batch in batches]
    assert all(shape == shapes[0] for shape in shapes)


def test_an_unknown_kind_is_explained(data_dir):
    with pytest.raises(InputError, match="did you mean 'paint'"):
        PictureStream(data_dir, "pain", seed=0, rows=1)


@pytest.mark.parametrize(("kind", "task"), [("paint", "<|paint|>"), ("film", "<|film|>")])
def test_prompts_end_with_their_task_and_pairs_are_held_out(data_dir, kind, task):
    stream = PictureStream(data_dir, kind, seed=1, rows=32)
    nouns = [*(noun for name in picture_world.NAMES for noun in (name, name)), *SHAPE_NOUNS]
    pairs = 0
    for _ in range(8):
        batch = stream.batch()
        assert np.array_equal(batch["mask"], batch["ids"] != stream.pad)
        last = batch["ids"][np.arange(32), batch["mask"].sum(1) - 1]
        assert (last == stream.tokenizer.id_of(task)).all()
        for row in batch["sprite"]:
            seen = sorted({nouns[sprite] for sprite in row if sprite != NONE})
            assert "blue circle" not in seen or nouns.index("blue circle", 46) in row
            for index, one in enumerate(seen):
                for two in seen[index + 1 :]:
                    pairs += 1
                    assert not held_pair(one, two)
    assert pairs > 50


def test_what_is_said_of_a_scene_is_what_stands_in_it(data_dir):
    stream = PictureStream(data_dir, "see", seed=2, rows=48)
    batch, related = stream.batch(), 0
    ids_BT, targets_BT = batch["ids"], batch["targets"]
    learnt = targets_BT != IGNORE
    assert np.array_equal(targets_BT[:, :-1][learnt[:, :-1]], ids_BT[:, 1:][learnt[:, :-1]])
    assert ((ids_BT == stream.tokenizer.id_of("<|image|>")).sum(1) == 73).all()
    for row in range(48):
        answer = targets_BT[row][learnt[row]].tolist()
        assert answer[-1] == stream.tokenizer.id_of("<|eos|>")
        close = stream.tokenizer.id_of("</think>")
        told = stream.tokenizer.decode(answer[: answer.index(close)] if close in answer else answer)
        if told.endswith(": a word."):  # a meaning, asked for after the picture
            continue
        words = told.partition(": ")[2] if told.startswith(("svg: ", "image: ")) else told
        caption = parse(words.removeprefix(" "), picture_world.NAMES)
        sprites = [
            caption.nouns[min(actor, len(caption.nouns) - 1)] for actor in range((batch["sprite"][row] >= 0).sum())
        ]
        first, second = batch["place"][row, :2]
        by_noun = dict(zip((stream.names.sprite(noun, flat=caption.flat) for noun in sprites), sprites, strict=True))
        assert {int(sprite) for sprite in batch["sprite"][row] if sprite != NONE} == set(by_noun)
        if caption.relation:
            related += 1
            axis = 0 if caption.relation == "to the left of" else 1
            upper = (first, second)[int(second[axis] < first[axis])]
            drawn = batch["sprite"][row, int(second[axis] < first[axis])]
            assert by_noun[int(drawn)] == caption.nouns[0] and upper[axis] < 0.5
    assert related > 5


def test_questions_keep_to_what_can_be_seen(data_dir):
    names = Names.load(data_dir)
    shapes = visible(Caption(nouns=("red star",), flat=True), names)
    with pytest.raises(ValueError, match="look"):
        pick_question(shapes, random.Random(0), picture_world.NAMES, kind="look")
    kind, _, answer = pick_question(shapes, random.Random(0), picture_world.NAMES, kind="color")
    assert (kind, answer) == ("color", "Red.")
    assert held_scene(("a", "b")) == held_scene(("b", "a"))
