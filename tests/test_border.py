"""The types at the border: they take what is right, and say in one line what is not."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest

from dsv4 import limits
from dsv4.errors import InputError, nearest, unknown
from dsv4.messages import Document, Image, Message, Text, Video, document, image, video
from dsv4.results import BatchReport, ChatStream, Clip, Picture, Reply, check_output, write_whole


@pytest.mark.parametrize(
    ("name", "allowed", "found"),
    [("basse", ["tiny", "base"], "base"), ("TINY", ["tiny"], "tiny"), ("xyz", ["tiny", "base"], None), ("a", [], None)],
)
def test_nearest_finds_what_was_meant(name, allowed, found):
    assert nearest(name, allowed) == found


def test_an_unknown_name_teaches():
    message = "unknown mode 'basse'; did you mean 'base'? choose one of tiny, base"
    assert str(unknown("mode", "basse", ["tiny", "base"])) == message
    assert str(unknown("mode", "qq", ["tiny"])) == "unknown mode 'qq'; choose one of tiny"


BAD_NUMBERS = [
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 1.5),
    ("seed", "7"),
    ("seed", True),
    ("steps", 0),
    ("steps", 10**6),
    ("temperature", -1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", 10**400),
    ("guidance", "2"),
    ("max_tokens", 0),
    ("seconds", 0),
    ("seconds", 1e308),
]


@pytest.mark.parametrize(("name", "value"), BAD_NUMBERS)
def test_a_wrong_number_is_refused_with_its_name_and_range(name, value):
    with pytest.raises(InputError, match=rf"^{name} must be a (whole )?number from ") as caught:
        limits.check_numbers(**{name: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", limits.RANGES)
def test_the_ends_of_each_range_are_taken(name):
    allowed = limits.RANGES[name]
    kind = int if allowed.whole else float
    limits.check_numbers(**{name: kind(allowed.low)})
    limits.check_numbers(**{name: allowed.high})


@pytest.mark.parametrize(("size", "near"), [(101, 104), (0, 8), (100_000, 256), (7, 8)])
def test_a_wrong_size_names_the_nearest(size, near):
    with pytest.raises(InputError, match=f"the nearest is {near}$"):
        limits.check_size(size)
    assert limits.check_size(near) == near


def test_prompts_are_text_with_something_in_it():
    assert limits.check_prompt("  a tiger\n") == "a tiger"
    assert limits.check_prompt("\u202ea\u200b 🐯") == "\u202ea\u200b 🐯"
    for bad, says in (("", "empty"), (" \n\t", "empty"), ("x" * 20_001, "20,001"), ("\ud83d", "surrogate"), (7, "int")):
        with pytest.raises(InputError, match=says):
            limits.check_prompt(bad)
    assert len(limits.check_prompt("x" * limits.PROMPT_CHARACTERS)) == limits.PROMPT_CHARACTERS


@pytest.mark.parametrize(("seconds", "frames"), [(2.0, 16), (0.25, 2), (4, 32), (0.3, 2)])
def test_a_clip_has_eight_frames_a_second(seconds, frames):
    assert limits.clip_frames(seconds) == frames


def test_pictures_are_paths_bytes_or_pil(scene):
    from PIL import Image as pil

    assert image(scene) == Image(source=scene)
    assert image(str(scene)).source == scene
    assert image(b"\x89PNG").source == b"\x89PNG"
    with pil.open(scene) as opened:
        assert image(opened).source is opened
    with pytest.raises(InputError, match="got int"):
        image(3)


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (image, "missing.png", "no picture at"),
        (image, "notes.txt", "unknown picture format '.txt'"),
        (image, "photo.jpgg", "did you mean '.jpg'"),
        (image, "a\0.png", "NUL"),
        (document, "page.doc", "unknown document format '.doc'"),
        (video, "clip.mp3", "unknown video format '.mp3'; did you mean '.mp4'"),
    ],
)
def test_a_wrong_file_is_named_at_once(tmp_path, make, name, says):
    with pytest.raises(InputError, match=says):
        make(tmp_path / name)


def test_pages_and_frames_are_counted_from_one(tmp_path):
    path = tmp_path / "a.pdf"
    with pytest.raises(InputError, match="pages are whole numbers from 1"):
        Document(source=path, pages=(0,))
    with pytest.raises(InputError, match="frames must be from 1 to"):
        Video(source=path, frames=9)


def test_messages_are_frozen_and_checked():
    said = Message.said("user", "<|eos|> hello", Image(source=b"x"))
    assert said.text == "<|eos|> hello"
    with pytest.raises(FrozenInstanceError):
        said.role = "system"
    with pytest.raises(InputError, match="unknown role 'usr'; did you mean 'user'"):
        Message(role="usr", parts=(Text(text="a"),))
    with pytest.raises(InputError, match="has no parts"):
        Message(role="user", parts=())
    with pytest.raises(InputError, match="got str"):
        Message(role="user", parts=("hello",))


@dataclass
class FakeViews:
    """A picture that takes `tokens` places."""

    tokens: int


def test_model_input_fills_in_what_follows_from_the_rest():
    import torch

    from dsv4.model_input import ModelInput

    ids_BT = torch.arange(10)[None]
    made = ModelInput(token_ids_BT=ids_BT, views=(FakeViews(3),), image_spans=((2, 5),))
    assert made.memory_ids_BT.tolist() == [[0, 1, -1, -1, -1, 5, 6, 7, 8, 9]]
    assert made.positions_BT.tolist() == [list(range(10))]
    assert made.token_ids_BT.tolist() == [list(range(10))]
    assert ModelInput.fake(length=7).length == 7


def test_model_input_refuses_what_does_not_fit():
    import torch

    from dsv4.model_input import ModelInput

    ids_BT = torch.arange(10)[None]
    wrong = {
        "must have shape": {"token_ids_BT": torch.arange(10)},
        "with T of at least 1": {"token_ids_BT": ids_BT[:, :0]},
        "token_ids_BT must be int64": {"token_ids_BT": ids_BT.int()},
        "memory_ids_BT has shape": {"token_ids_BT": ids_BT, "memory_ids_BT": ids_BT[:, :3]},
        "negative id": {"token_ids_BT": ids_BT - 1},
        "below -1": {"token_ids_BT": ids_BT, "memory_ids_BT": ids_BT - 2},
        "negative position": {"token_ids_BT": ids_BT, "positions_BT": ids_BT - 1},
        "1 pictures, but 0 spans": {"token_ids_BT": ids_BT, "views": (FakeViews(3),)},
        "takes 3 places, its span has 2": {"views": (FakeViews(3),), "image_spans": ((0, 2),), "token_ids_BT": ids_BT},
        "leaves 0..10": {"views": (FakeViews(3),), "image_spans": ((8, 11),), "token_ids_BT": ids_BT},
        "of picture 1 overlaps": {
            "views": (FakeViews(3), FakeViews(3)),
            "image_spans": ((0, 3), (2, 5)),
            "token_ids_BT": ids_BT,
        },
    }
    for says, given in wrong.items():
        with pytest.raises(ValueError, match=says):
            ModelInput(**given)


def test_pixels_are_checked_when_a_result_is_made():
    with pytest.raises(ValueError, match=r"uint8 of shape \[H, W, 3\], got float64 \[4, 4, 3\]"):
        Picture(array=np.zeros((4, 4, 3)), provenance={})
    with pytest.raises(ValueError, match=r"\[F, H, W, 3\]"):
        Clip(frames=np.zeros((4, 4, 3), dtype=np.uint8), fps=8, provenance={})
    clip = Clip(frames=np.zeros((12, 4, 4, 3), dtype=np.uint8), fps=8, provenance={})
    assert clip.seconds == 1.5


def test_a_batch_is_complete_when_every_row_has_a_line(tmp_path):
    assert BatchReport(done=2, failed=1, total=3, out=tmp_path).complete
    assert not BatchReport(done=2, failed=0, total=3, out=tmp_path).complete


def stream_of(pieces, **given):
    """A stream of pieces, and the list that its finish was called with."""
    calls = []

    def finish(text, was_cancelled):
        calls.append(was_cancelled)
        return Reply(text=text, provenance={}, stopped="cancelled" if was_cancelled else "end")

    return ChatStream(lambda stop: iter(pieces), finish, **given), calls


def test_a_stream_is_read_once_and_remembers_its_reply():
    stream, calls = stream_of(["a", "b", "c"])
    assert next(stream) == "a"
    assert stream.reply.text == "abc"
    assert list(stream) == []
    assert stream.reply is stream.reply
    assert calls == [False]


def test_a_cancelled_stream_keeps_what_was_said():
    stream, calls = stream_of(["a", "b", "c"])
    assert next(stream) == "a"
    stream.cancel()
    assert list(stream) == []
    assert (stream.reply.text, stream.reply.stopped, calls) == ("a", "cancelled", [True])


def test_a_stream_stops_when_the_caller_says_so():
    said = []
    stream, _ = stream_of(["a", "b", "c"], cancelled=lambda: len(said) == 2)
    said.extend(stream)
    assert (said, stream.reply.stopped) == (["a", "b"], "cancelled")


def test_an_output_path_is_judged_before_the_work(tmp_path):
    assert check_output(tmp_path / "a.PNG", "image") == tmp_path / "a.PNG"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.svg").mkdir()
    wrong = {
        ("a.pgn", "image"): "unknown output format for image '.pgn'; did you mean '.png'",
        ("a", "video"): "unknown output format for video 'a'; choose one of .mp4, .webm, .webp, .apng, .gif",
        ("folder.svg", "svg"): "is a folder",
        ("none/a.svg", "svg"): "no folder",
        ("a\0.svg", "svg"): "NUL",
    }
    for (name, kind), says in wrong.items():
        with pytest.raises(InputError, match=says.replace("?", r"\?")):
            check_output(tmp_path / name, kind)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    write_whole(target, b"one")
    with pytest.raises(TypeError):
        write_whole(target, "not bytes")
    assert target.read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
