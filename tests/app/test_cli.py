"""The command line: what works, what is refused in one line, and how fast help comes."""

from __future__ import annotations

import inspect
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.cli import build_parser, main
from dsv4 import EchoStudio
from dsv4.checkpoint.placement import Placement


@pytest.fixture(autouse=True)
def echo_in_an_empty_folder(monkeypatch, tmp_path):
    """Commands run with the model that needs no weights, in a folder of their own."""
    monkeypatch.setenv("DSV4_MODEL", "echo")
    monkeypatch.chdir(tmp_path)


def test_every_verb_of_making_works_as_the_help_shows(capsys, tmp_path, scene):
    assert main(["svg", "red heart icon", "-o", "heart.svg"]) == 0
    assert main(["image", "a tiger", "-o", "a.png", "--seed", "7", "--steps", "4", "--size", "64"]) == 0
    assert main(["video", "a soccer ball bouncing", "-o", "c.mp4", "--first-frame", "a.png"]) == 0
    assert capsys.readouterr().out.split() == ["heart.svg", "a.png", "c.mp4"]
    assert all((tmp_path / name).stat().st_size > 100 for name in ("heart.svg", "a.png", "c.mp4"))
    assert main(["chat", "What is in this picture?", "--image", "scene.png", "--mode", "base"]) == 0
    assert capsys.readouterr().out == "[a picture of 96 x 64] What is in this picture?\n"
    assert main(["chat", "What is a heron?", "-o", "answer.txt"]) == 0
    assert (tmp_path / "answer.txt").read_text() == "What is a heron?\n"


@pytest.mark.parametrize(
    ("command", "output"),
    [("svg", "a.png"), ("image", "a.webp"), ("video", "a.gif"), ("video", "a.webp")],
)
def test_other_formats_are_written(tmp_path, command, output):
    from PIL import Image

    assert main([command, "a tiger", "-o", output]) == 0
    with Image.open(tmp_path / output) as opened:
        opened.load()
        assert getattr(opened, "n_frames", 1) == (16 if command == "video" else 1)


def test_svg_without_a_file_is_printed(capsys):
    assert main(["svg", "red heart icon"]) == 0
    assert capsys.readouterr().out.startswith("<svg ")


def test_files_tell_how_they_were_made_unless_told_not_to(tmp_path):
    from generation.files import read_provenance

    for command, output in (("svg", "a.svg"), ("svg", "b.png"), ("image", "c.png"), ("video", "d.mp4")):
        assert main([command, "a tiger", "--seed", "7", "-o", output]) == 0
        made_by = read_provenance(tmp_path / output)
        told = [made_by[key] for key in ("prompt", "seed", "task", "model")]
        assert told == ["a tiger", 7, command, "echo"]
        assert main([command, "a tiger", "-o", f"silent-{output}", "--no-provenance"]) == 0
        assert read_provenance(tmp_path / f"silent-{output}") is None


def test_json_is_one_object(capsys):
    for arguments, key in (
        (["chat", "hello"], "text"),
        (["svg", "heart"], "svg"),
        (["image", "a tiger", "-o", "a.png"], "file"),
    ):
        assert main([*arguments, "--json", "--seed", "5"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert key in record and record["made_by"]["seed"] == 5 and record["made_by"]["model"] == "echo"


def test_quiet_says_nothing_but_the_answer(capsys):
    assert main(["image", "a tiger", "-o", "a.png", "--quiet"]) == 0
    assert main(["chat", "hello", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("hello\n", "")


REFUSED = [
    (["chat", ""], "the prompt is empty"),
    (["svg", "   "], "the prompt is empty"),
    (["chat", "x", "--image", "none.png"], "no picture at 'none.png'"),
    (["chat", "x", "--image", "words.png"], "words.png"),
    (["chat", "x", "--image", "strip.png"], "at most 100 times the other"),
    (["chat", "x", "--image", "words.txt"], "unknown picture format '.txt'"),
    (["chat", "x", "--mode", "basse"], "unknown mode 'basse'; did you mean 'base'?"),
    (["chat", "x", "--max-tokens", "0"], "max_tokens must be a whole number from 1"),
    (["svg", "x", "--seed", "-1"], "seed must be a whole number from 0"),
    (["svg", "x", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
    (["svg", "x", "--temperature", "nan"], "temperature must be"),
    (["svg", "x", "-o", "none/a.svg"], "no folder 'none'"),
    (["svg", "x", "-o", "/proc/a.svg"], "cannot write into '/proc'"),
    (["svg", "x", "-o", "a.svgg"], "did you mean '.svg'?"),
    (["image", "x", "-o", "a.pgn"], "did you mean '.png'?"),
    (["image", "x", "-o", "."], "unknown output format"),
    (["image", "x"], "required: -o/--output"),
    (["image", "x", "-o", "a.png", "--size", "101"], "the nearest is 104"),
    (["image", "x", "-o", "a.png", "--steps", "0"], "steps must be a whole number from 1 to 64"),
    (["image", "x", "-o", "a.png", "--stepz", "3"], "unrecognized arguments: --stepz 3"),
    (["video", "x", "-o", "a.mp4", "--seconds", "99"], "seconds must be a number from 0.25 to 6"),
    (["video", "x", "-o", "a.mp4", "--first-frame", "none.png"], "no picture at"),
    (["svgg", "x"], "unknown command 'svgg'; did you mean 'svg'?"),
    (["batch", "runn", "x"], "unknown command 'runn'; did you mean 'run'?"),
    (["batch", "run", "none.jsonl", "-o", "out"], "no file of rows at 'none.jsonl'"),
    (["batch", "status", "none"], "no batch was run into 'none'"),
    (["batch", "export", "none", "-o", "a.xlsx"], "unknown format of a table '.xlsx'"),
    (["batch", "run", "none.jsonl", "-o", "out", "--seed", "x"], "argument --seed: invalid int value"),
    (["completion", "powershell"], "unknown shell 'powershell'"),
    (["bench", "bacth"], "unknown measuring program 'bacth'; did you mean 'batch'?"),
    (["train", "nano", "--data", "none", "--out", "run"], "--data: no folder 'none'"),
    (["train", "nano", "--data", ".", "--out", "run", "--model-size", "mirco"], "unknown size 'mirco'; did you mean"),
    (["export", "--run", ".", "--data", ".", "--out", "x", "--policy", "four"], "unknown policy 'four'"),
    (["eval", "nano", "--data", ".", "--limit", "0"], "--limit must be above zero"),
    (["data", "build", "--sources", "none", "--out", "data"], "--sources: no folder 'none'"),
    (["export", "--run", "none", "--data", ".", "--out", "x"], "--run: no folder 'none'"),
    (["bench", "visoin"], "unknown measuring program 'visoin'; did you mean 'vision'?"),
    (["app", "--port", "99999"], "a port is a whole number from 0"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_bad_input_is_one_line_and_status_two(capsys, tmp_path, arguments, says):
    from PIL import Image

    for name in ("words.png", "words.txt"):
        (tmp_path / name).write_text("these are words")
    Image.new("RGB", (1, 5000)).save(tmp_path / "strip.png")
    before = sorted(path.name for path in tmp_path.iterdir())
    status = main(arguments)
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("dsv4: ") and says in captured.err and captured.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_missing_verb_shows_the_help(capsys):
    for arguments in ([], ["batch"], ["train"], ["config"]):
        assert main(arguments) == 2
        assert "usage: dsv4" in capsys.readouterr().out


def test_help_of_every_command_is_there():
    parser = build_parser()
    commands = parser._subparsers._group_actions[0].choices
    expected = (
        "app serve chat describe svg image video read modes batch train eval data export convert quantize repo bench "
        "completion plan doctor models config"
    )
    assert list(commands) == expected.split()
    for command in commands.values():
        assert len(command.format_help()) > 50


@pytest.mark.parametrize("verb", ["chat", "svg", "image", "video"])
def test_flags_have_the_defaults_of_the_verbs(verb):
    output = [] if verb in ("chat", "svg") else ["-o", "x"]
    args = build_parser().parse_args([verb, "a tiger", *output])
    parameters = inspect.signature(getattr(EchoStudio, verb)).parameters
    shared = {name: one.default for name, one in parameters.items() if isinstance(one.default, int | float | str)}
    shared.pop("prompt", None)  # a drawing of a picture needs no words
    assert len(shared) >= 3 and {name: getattr(args, name) for name in shared} == shared


def test_help_comes_at_once_and_loads_nothing_heavy(python, python_environment):
    code = (
        "import sys, time; start = time.perf_counter();"
        "from app.cli import main;\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(time.perf_counter() - start, *[m for m in ('torch', 'numpy', 'PIL', 'gradio') if m in sys.modules])"
    )
    last = []
    for _ in range(3):
        run = subprocess.run([python, "-c", code], env=python_environment, capture_output=True, text=True, check=True)
        last.append(run.stdout.splitlines()[-1].split())
    assert all(len(one) == 1 for one in last)
    assert min(float(one[0]) for one in last) < 0.3


def test_settings_come_from_flag_variable_file_default(capsys, monkeypatch, tmp_path):
    (tmp_path / "dsv4.toml").write_text('port = 9000\nhost = "::1"\nmodel = "from-file"\n')
    monkeypatch.setenv("DSV4_HOST", "0.0.0.0")
    assert main(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["port"] == {"value": 9000, "origin": "dsv4.toml"}
    assert shown["host"] == {"value": "0.0.0.0", "origin": "DSV4_HOST"}
    assert shown["model"] == {"value": "echo", "origin": "DSV4_MODEL"}
    monkeypatch.delenv("DSV4_MODEL")
    assert main(["chat", "hello", "--model", "echo"]) == 0
    (tmp_path / "dsv4.toml").write_text("prot = 9000\n")
    assert main(["config", "show"]) == 2
    assert "unknown setting in dsv4.toml 'prot'; did you mean 'port'?" in capsys.readouterr().err
    (tmp_path / "dsv4.toml").write_text("port = \n")
    assert main(["config", "show"]) == 2


def test_the_server_gets_the_settings(monkeypatch):
    import sys

    given = []
    fake = SimpleNamespace(run=lambda host, port, **more: given.append((host, port, *more.values())) or 0)
    monkeypatch.setitem(sys.modules, "app.server", fake)
    import app

    monkeypatch.setattr(app, "server", fake, raising=False)
    assert main(["serve", "--port", "8123"]) == 0
    monkeypatch.setenv("DSV4_FETCH", "yes")
    more = ["--models", "echo,x", "--presets", "w", "--root-path", "/studio", "--users", "u", "--hosts", "a, b"]
    assert main(["app", "--host", "::1", "--model", "nano", "--home", "h", *more]) == 0
    assert given == [
        ("127.0.0.1", 8123, "echo", None, None, [], False, 0, 0, [], None, "", None),
        ("::1", 7860, "nano", Path("h"), "u", ["a", "b"], True, 0, 0, ["echo", "x"], Path("w"), "/studio", None),
    ]
    monkeypatch.setenv("DSV4_ENGRAM", "mapped")
    assert main(["serve", "--experts", "host", "--memory-mb", "300", "--weights", "packed"]) == 0
    wanted = Placement(experts="host", memory=300_000_000, engram="mapped", weights="packed")
    assert given[-1][-1] == wanted
    for wrong in (["--experts", "disk"], ["--memory-mb", "-1"], ["--weights", "q4"]):
        assert main(["serve", *wrong]) == 2
    monkeypatch.setenv("DSV4_FETCH", "perhaps")
    assert main(["serve"]) == 2


@pytest.mark.parametrize(
    ("arguments", "target", "expected"),
    [
        (["train", "nano", "--data", ".", "--out", "run", "--stages", "text,see", "--steps", "3"],
         "dsv4.train.cli", {"stages": "text,see", "steps": 3, "minutes": None, "rows": None, "seed": 0, "device": None,
                            "model_size": "nano", "workers": None}),
        (["train", "nano", "--data", ".", "--out", "run", "--smoke"],
         "dsv4.train.cli", {"model_size": "micro", "steps": 2, "minutes": None, "rows": 2, "workers": 0}),
        (["eval", "nano", "--data", ".", "--rows", "icons", "--limit", "9", "--out", "t.json"],
         "dsv4.eval.nano", {"rows": "icons", "limit": 9, "model": "nano", "out": "t.json"}),
        (["export", "--run", ".", "--data", "d", "--out", "x"],
         "dsv4.train.export", {"run": ".", "data": "d", "out": "x", "policy": "nano"}),
    ],
)  # fmt: skip
def test_research_commands_hand_their_flags_on(monkeypatch, arguments, target, expected):
    import sys

    given = []
    monkeypatch.setitem(sys.modules, target, SimpleNamespace(main=given.append))
    assert main(arguments) == 0
    assert {key: getattr(given[0], key) for key in expected} == expected


def test_the_doctor_and_the_list_of_models_answer(capsys):
    assert main(["doctor", "--json"]) in (0, 1)
    findings = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    wanted = ["python", "packages", "extras", "devices", "elsewhere", "video", "weights", "disk", "port"]
    assert list(findings) == wanted
    assert all(findings[what]["fine"] for what in ("python", "packages", "devices", "video"))
    assert " cannot: " in findings["devices"]["says"]
    named = findings["devices"]["says"] + findings["elsewhere"]["says"]
    assert all(f"{kind} cannot: " in named for kind in ("cpu", "cuda", "mps", "xpu", "npu"))
    assert main(["models", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["nano", "echo"]


def test_a_reader_that_goes_away_is_no_error(python, python_environment):
    environment = {**python_environment, "DSV4_MODEL": "echo"}
    command = f"'{python}' -m dsv4 chat '{'word ' * 4000}' --max-tokens 4000 | head -c 5"
    run = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("word ", "")


def test_a_drawing_is_edited_by_words_without_a_model(tmp_path, capsys):
    from app.cli import main

    source = tmp_path / "dot.svg"
    source.write_text('<svg viewBox="0 0 96 96"><circle cx="48" cy="48" r="9" fill="red"/></svg>')
    assert main(["svg", "make it blue", "--edit", str(source), "-o", str(tmp_path / "out.svg")]) == 0
    assert 'fill="blue"' in (tmp_path / "out.svg").read_text()
    assert main(["svg", "make it nicer", "--edit", str(source)]) == 2
    assert "'nicer' is no colour" in capsys.readouterr().err
    assert main(["svg", "make it blue", "--edit", str(tmp_path / "none.svg")]) == 2
