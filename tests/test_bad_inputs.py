"""Bad input is refused the same through Python, batch and command line, in one line, and the next request works.

The numbers are those of the project's list of bad inputs; those of the server alone are tested with the server.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image as pil

from app.cli import main
from dsv4 import EchoStudio, InputError, image
from dsv4.batch import run_batch
from dsv4.limits import PROMPT_CHARACTERS

PYTHON, BATCH, CLI = "python", "batch", "cli"
ALL = (PYTHON, BATCH, CLI)
FLAGS = {"chat": [], "svg": [], "image": ["-o", "made.png"], "video": ["-o", "made.mp4"]}


class Case(NamedTuple):
    """Number in the list, the verb, its prompt and options, what the refusal says ('' when it must work), the doors."""

    number: int
    task: str
    prompt: Any
    options: dict[str, Any]
    says: str
    doors: tuple[str, ...] = ALL


CASES = [
    Case(1, "chat", "", {}, "the prompt is empty"),
    Case(1, "svg", " \t\n", {}, "the prompt is empty"),
    Case(2, "chat", "x" * 20_000_000, {}, "20,000,000 characters", (PYTHON,)),
    Case(2, "chat", "x" * 7_000_000, {}, "7,000,000 characters", (PYTHON, BATCH)),
    Case(3, "image", "x" * (PROMPT_CHARACTERS + 1), {}, "20,001 characters; at most 20,000"),
    Case(4, "svg", "x" * PROMPT_CHARACTERS, {}, ""),
    Case(5, "chat", "a\ud800b", {}, "half of a surrogate pair", (PYTHON, BATCH)),
    Case(5, "chat", "\ufeffa\u202eb\u200bc \U0001f600 \0d", {}, "", (PYTHON, BATCH)),
    Case(5, "svg", "\u202e\u200b\U0001f600 \x07", {}, ""),
    Case(6, "chat", "<|eos|> <|image|> <image> </think> <|ref|>", {}, ""),
    Case(11, "chat", "x", {"temperature": -1}, "temperature must be a number from 0 to 2"),
    Case(11, "svg", "x", {"temperature": 1e308}, "temperature must be a number from 0 to 2"),
    Case(11, "svg", "x", {"temperature": float("nan")}, "temperature must be a number", (PYTHON, CLI)),
    Case(11, "chat", "x", {"temperature": "hot"}, "temperature"),
    Case(12, "chat", "x", {"max_tokens": 0}, "max_tokens must be a whole number from 1 to 4096"),
    Case(12, "svg", "x", {"max_tokens": -1}, "max_tokens must be"),
    Case(12, "chat", "x", {"max_tokens": 2**63}, "max_tokens must be"),
    Case(12, "chat", "x", {"max_tokens": True}, "max_tokens must be", (PYTHON, BATCH)),
    Case(13, "image", "x", {"seed": -1}, "seed must be a whole number from 0"),
    Case(13, "svg", "x", {"seed": 2**63 - 1}, ""),
    Case(13, "svg", "x", {"seed": 2**63}, "seed must be"),
    Case(13, "svg", "x", {"seed": 2**64}, "seed must be"),
    Case(13, "svg", "x", {"seed": 1.5}, "seed"),
    Case(13, "svg", "x", {"seed": "7a"}, "seed"),
    Case(15, "svg", "x", {"sed": 7}, "", ()),  # an unknown key: see below, Python raises TypeError
    Case(15, "svg", "x", {"sed": 7}, "sed", (BATCH, CLI)),
    Case(16, "chat", "x", {"mode": "gundamm"}, "unknown mode 'gundamm'; did you mean 'gundam"),
    Case(16, "chat", "x", {"mode": 7}, "unknown mode '7'"),
    Case(61, "image", "x", {"size": 0}, "the nearest is 8"),
    Case(61, "image", "x", {"size": 7}, "the nearest is 8"),
    Case(61, "image", "x", {"size": 100_000}, "the nearest is 256"),
    Case(61, "image", "x", {"size": 130}, "the nearest is 128"),
    Case(61, "image", "x", {"size": float("nan")}, "size must be a multiple of 8", (PYTHON,)),
    Case(62, "video", "x", {"seconds": 0}, "seconds must be a number from 0.25 to 6"),
    Case(62, "video", "x", {"seconds": 1e6}, "seconds must be"),
    Case(62, "video", "x", {"seconds": float("inf")}, "seconds must be", (PYTHON, CLI)),
    Case(63, "image", "x", {"steps": 0}, "steps must be a whole number from 1 to 64"),
    Case(63, "video", "x", {"steps": 10**6}, "steps must be"),
    Case(63, "image", "x", {"guidance": float("nan")}, "guidance must be", (PYTHON, CLI)),
    Case(63, "image", "x", {"guidance": 0}, "guidance must be a number from 1 to 10"),
    Case(65, "image", "x", {"size": 2**40}, "the nearest is 256"),
    Case(84, "svg", "x", {"max_tokens": 10**9}, "max_tokens must be"),
]
DOORS = [(case, door) for case in CASES for door in case.doors]


@pytest.fixture(autouse=True)
def echo_in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DSV4_MODEL", "echo")
    monkeypatch.chdir(tmp_path)


def through_python(task: str, prompt: Any, options: dict[str, Any], pictures: tuple[Path, ...] = ()) -> str:
    """What a call says when it refuses, or nothing."""
    studio = EchoStudio()
    try:
        made = getattr(studio, task)(prompt, *map(image, pictures), **options)
        if task == "chat":
            assert made.reply.text
    except InputError as error:
        return str(error)
    finally:
        assert studio.svg("red heart icon").text.startswith("<svg ")
    return ""


def through_batch(task: str, prompt: Any, options: dict[str, Any], pictures: tuple[Path, ...] = ()) -> str:
    """The same of a row; the row behind it must be made."""
    shown = {"images": [str(one) for one in pictures]} if pictures else {}
    rows = [{"id": "bad", "task": task, "prompt": prompt, **shown, **options}]
    rows.append({"id": "ok", "task": "svg", "prompt": "x"})
    Path("jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_batch(EchoStudio(), "jobs.jsonl", out="out")
    bad, good = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert good["ok"] and bad["id"] == "bad"
    return bad.get("error", "")


def through_cli(
    task: str, prompt: Any, options: dict[str, Any], pictures: tuple[Path, ...] = (), *, capsys: Any
) -> str:
    """The same of a command: status 2 and one line, or status 0."""
    flags = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    shown = [word for one in pictures for word in ("--image", str(one))]
    status = main([task, prompt, *FLAGS[task], *shown, *flags])
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == ((2, 1) if error else (0, 0)), (status, error)
    assert main(["svg", "red heart icon"]) == 0
    capsys.readouterr()
    return error


def ask(door: str, capsys: Any) -> Callable[..., str]:
    """One of the three doors."""
    if door == CLI:
        return lambda *given: through_cli(*given, capsys=capsys)
    return {PYTHON: through_python, BATCH: through_batch}[door]


@pytest.mark.parametrize(
    ("case", "door"), DOORS, ids=[f"{case.number}-{door}-{index}" for index, (case, door) in enumerate(DOORS)]
)
def test_what_cannot_be_is_refused_at_every_door(case, door, capsys):
    said = ask(door, capsys)(case.task, case.prompt, case.options)
    assert bool(said) == bool(case.says) and case.says in said
    assert len(said) < 600 and "Traceback" not in said


def test_an_unknown_keyword_is_a_type_error_in_python():
    with pytest.raises(TypeError, match="sed"):
        EchoStudio().svg("x", sed=7)


def png(width: int, height: int, *, rows: bytes = b"", crc: int | None = None, end: bool = True) -> bytes:
    """A grey PNG by hand, so that it can be wrong in one place."""

    def chunk(kind: bytes, body: bytes, own: int | None = None) -> bytes:
        check = zlib.crc32(kind + body) if own is None else own
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    last = chunk(b"IEND", b"") if end else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head, crc) + chunk(b"IDAT", rows) + last


def saved(kind: str, size: tuple[int, int] = (20, 10), mode: str = "RGB", **settings: Any) -> bytes:
    kept = io.BytesIO()
    pil.effect_noise(size, 90).convert(mode).save(kept, kind, **settings)
    return kept.getvalue()


def animation(frames: int) -> bytes:
    kept = io.BytesIO()
    some = [pil.new("P", (4, 4), index % 250) for index in range(frames)]
    some[0].save(kept, "GIF", save_all=True, append_images=some[1:])
    return kept.getvalue()


GOOD_ROWS = zlib.compress(b"\0" * 21 * 10)
BOMB_12K, BOMB_20K = (zlib.compress(b"\0" * (side + 1) * side, 9) for side in (1200, 2000))
PICTURES = [
    (22, "empty.png", b"", "is not a picture"),
    (23, "random.png", bytes(range(256)) * 4, "is not a picture"),
    (24, "header.png", png(20, 10, rows=GOOD_ROWS)[:20], "cannot be read"),
    (24, "half.png", saved("PNG", (90, 90))[:4000], "broken"),
    (24, "without-end.png", saved("PNG", (90, 90))[:-16], ""),  # every pixel is there, only the end mark is not
    (24, "half.jpg", saved("JPEG", (200, 200))[:4000], "broken"),
    (25, "crc.png", png(20, 10, rows=GOOD_ROWS, crc=1), "picture"),
    (25, "zlib.png", png(20, 10, rows=b"not zlib"), "broken"),
    (26, "dot.png", saved("PNG", (1, 1)), ""),
    (26, "line.png", saved("PNG", (10_000, 1)), "at most 100 times the other"),
    (26, "column.png", saved("PNG", (1, 10_000)), "at most 100 times the other"),
    (26, "nothing.png", png(0, 0, rows=GOOD_ROWS), "picture"),
    (29, "bomb12.png", png(12_000, 12_000, rows=BOMB_12K), "144,000,000 pixels"),
    (29, "bomb20.png", png(20_000, 20_000, rows=BOMB_20K), "pixels"),
    (30, "many.gif", animation(2000), ""),
    (31, "cmyk.jpg", saved("JPEG", mode="CMYK"), ""),
    (31, "deep.png", saved("PNG", mode="I"), ""),
    (31, "bits.png", saved("PNG", mode="1"), ""),
    (31, "grey-alpha.png", saved("PNG", mode="LA"), ""),
    (32, "icon.png", saved("ICO", (32, 32)), ""),
    (32, "pages.tif", saved("TIFF"), ""),
    (32, "page.heic", b"\0\0\0\x18ftypheic", "unknown picture format '.heic'"),
    (34, "drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be drawn"),
    (34, "drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    (35, "page.png", b"<html><script>alert(1)</script>", "is not a picture"),
    (35, "both.png", saved("PNG") + b"<script>alert(1)</script>", ""),
    (35, "really-jpeg.png", saved("JPEG"), ""),
]


@pytest.mark.parametrize("door", ALL)
@pytest.mark.parametrize(("number", "name", "content", "says"), PICTURES, ids=[f"{n}-{p}" for n, p, _, _ in PICTURES])
def test_pictures_that_are_none_are_refused_at_every_door(number, name, content, says, door, capsys, tmp_path):
    (tmp_path / name).write_bytes(content)
    before = resident()
    said = ask(door, capsys)("chat", "what?", {}, (Path(name),))
    assert bool(said) == bool(says), said
    assert says.replace("144,000,000 pixels", "pixels") in said
    assert resident() - before < 50e6  # nothing of a bomb was unpacked


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 if Path("/proc/self/statm").exists() else 0


@pytest.mark.parametrize("door", ALL)
def test_too_many_pictures_are_refused(door, capsys, scene):
    said = ask(door, capsys)("chat", "what?", {}, (scene,) * 1000)  # 36
    assert "17 pictures given; at most 16 are taken at once" in said


@pytest.mark.parametrize("door", ALL)
@pytest.mark.parametrize(("name", "says"), [("none.png", "no picture at"), (".", "unknown picture format")])
def test_paths_that_lead_nowhere_are_refused(door, name, says, capsys):
    assert says in ask(door, capsys)("chat", "what?", {}, (Path(name),))


def test_control_strings_stay_words_for_the_real_tokenizer():
    from dsv4._parts import asset
    from dsv4.processor import Processor
    from dsv4.tokenizer import CONTROLS, Tokenizer

    tokenizer = Tokenizer.from_file(asset("nano") / "tokenizer.json")
    controls = {tokenizer.id_of(name) for name in CONTROLS}
    for name in (*CONTROLS, "<image>"):  # 6 and 7: a placeholder that is typed is no place for a picture
        assert not controls & set(tokenizer.encode(f"say {name} twice"))
    given = Processor(tokenizer).chat("<|image|> <image> <|image|>", (), mode="tiny")
    assert given.image_spans == ()
    with pytest.raises(InputError, match=r"takes [\d,]+ tokens; at most 8,192 fit"):  # 3
        Processor(tokenizer).svg("7" * PROMPT_CHARACTERS)


def other_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """A shard whose tensors were changed and stored well."""

    def spoil(raw: bytes) -> bytes:
        from safetensors.numpy import load, save

        tensors = {name: array.copy() for name, array in load(raw).items()}
        change(tensors)
        return save(tensors)

    return spoil


def with_nan(tensors: dict[str, Any]) -> None:
    next(array for array in tensors.values() if array.dtype.kind == "f").flat[0] = float("nan")


def without_one(tensors: dict[str, Any]) -> None:
    del tensors[next(name for name in tensors if name.startswith("core.") and "|" not in name)]


def one_more(tensors: dict[str, Any]) -> None:
    import numpy as np

    tensors["core.surprise"] = np.zeros(3, dtype=np.float32)


def reshaped(tensors: dict[str, Any]) -> None:
    name = next(name for name in tensors if name.startswith("core.") and "|" not in name)
    tensors[name] = tensors[name].reshape(-1, 1)


WEIGHTS = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "long header": lambda raw: struct.pack("<Q", 2**60) + raw[8:],
    "pickle": lambda raw: b"\x80\x04\x95" + raw[3:],
    "header is no JSON": lambda raw: raw[:8] + b"x" * 64 + raw[72:],
    "not a number": other_tensors(with_nan),
    "one missing": other_tensors(without_one),
    "one too many": other_tensors(one_more),
    "another shape": other_tensors(reshaped),
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_broken_weights_are_told_before_they_are_used(damage, tmp_path, capsys):
    import shutil

    from dsv4._parts import asset

    shutil.copytree(asset("nano"), tmp_path / "model")  # 75
    shard = sorted((tmp_path / "model").glob("*.safetensors"))[0]
    shard.write_bytes(WEIGHTS[damage](shard.read_bytes()))
    assert main(["chat", "What is a heron?", "--model", "model"]) == 2
    error = capsys.readouterr().err
    assert ("model" in error or shard.name in error) and error.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"size": "nano"}', "\0"])
def test_a_broken_table_of_weights_is_told(content, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(content)  # 76
    assert main(["chat", "What is a heron?", "--model", "model"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
