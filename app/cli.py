"""The command line: says which commands there are, and hands the one that was chosen to its module.

Nothing heavy is imported here, so that `dsv4 --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from dsv4 import __version__
from dsv4.errors import InputError, unknown

WRONG_INPUT, INTERRUPTED = 2, 130
EXAMPLES = """examples:
  dsv4 app
  dsv4 chat "What is a heron?"
  dsv4 chat "What is in this picture?" --image scene.png --mode base
  dsv4 svg "red heart icon" -o heart.svg
  dsv4 image "a rocket above a red apple" -o scene.png --seed 7
  dsv4 video "a soccer ball bouncing" -o clip.mp4
  dsv4 batch run jobs.jsonl -o results/
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest choice, and ends with status 2."""

    def error(self, message: str) -> NoReturn:
        found = re.fullmatch(r"argument [^:]*: invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if found:
            choices = [choice.strip(" '") for choice in found[2].split(",")]
            message = str(unknown("command", found[1], choices))
        raise InputError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 wrong input, 3 some rows failed, 130 interrupted."""
    parser = build_parser()
    try:
        args = parser.parse_args(arguments)
        if getattr(args, "action", None) is None:
            args.chosen.print_help()
            return WRONG_INPUT
        module, function = args.action.split(":")
        return getattr(import_module(f".commands.{module}", __package__), function)(args) or 0
    except InputError as error:
        print(f"dsv4: {error}", file=sys.stderr)
        return WRONG_INPUT
    except BrokenPipeError:
        # The reader went away, as `| head` does; a second complaint when Python closes stdout would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"dsv4: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def build_parser() -> Parser:
    """All commands and their flags."""
    parser = Parser(
        prog="dsv4",
        description="A small studio: chat about pictures, and make SVG, pictures and short clips, all on this machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(chosen=parser)
    parser.add_argument("--version", action="version", version=f"dsv4 {__version__}")
    commands = parser.add_subparsers(metavar="command", title="commands")
    _add_server(commands)
    _add_making(commands)
    _add_batch(commands)
    _add_research(commands)
    _add_machine(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, about: str, action: str | None = None) -> Parser:
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(action=action, chosen=parser)
    return parser


def _add_server(commands: argparse._SubParsersAction) -> None:
    for name, about in (("app", "open the studio page, with the API beside it"), ("serve", "the same, for programs")):
        parser = _command(commands, name, about, "server:run")
        parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
        parser.add_argument("--port", help="port to listen on (default 7860)")
        parser.add_argument("--home", metavar="DIR", help="where conversations, jobs and what was made are kept")
        parser.add_argument("--users", metavar="FILE", help="lines of name:secret; needed where others can reach")
        parser.add_argument("--hosts", metavar="LIST", help="more names that this server answers to, with commas")
        parser.add_argument("--fetch", action="store_true", default=None, help="open public addresses of pictures")
        _model(parser)


def _add_making(commands: argparse._SubParsersAction) -> None:
    chat = _command(commands, "chat", "ask a question, about pictures or without", "make:chat")
    _common(chat, output="also write the answer to this file")
    chat.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; may be given again")
    chat.add_argument("--document", action="append", default=[], metavar="FILE", help="a PDF or many-page TIFF")
    chat.add_argument("--video", action="append", default=[], metavar="FILE", help="a clip to look at")
    chat.add_argument("--mode", default="tiny", help="how closely pictures are looked at (default tiny)")
    chat.add_argument("--temperature", type=float, default=0.0)
    chat.add_argument("--max-tokens", type=int, default=160)

    svg = _command(commands, "svg", "draw an icon or a scene as SVG", "make:svg")
    _common(svg, output="write here (.svg or .png); without it, the SVG is printed")
    _provenance(svg)
    svg.add_argument("--temperature", type=float, default=0.0)
    svg.add_argument("--max-tokens", type=int, default=1200)

    image = _command(commands, "image", "paint a picture", "make:picture")
    _common(image, output="write here (.png or .webp)", required=True)
    image.add_argument("--size", type=int, default=128, help="side in pixels (default 128)")
    _steps(image)
    _provenance(image)

    video = _command(commands, "video", "make a short clip", "make:clip")
    _common(video, output="write here (.mp4, .gif or .webp)", required=True)
    video.add_argument("--seconds", type=float, default=2.0)
    video.add_argument("--first-frame", metavar="FILE", help="a picture that the clip begins with")
    _steps(video)
    _provenance(video)


def _add_batch(commands: argparse._SubParsersAction) -> None:
    batch = _command(commands, "batch", "many rows of work from a JSONL file, restartable")
    verbs = batch.add_subparsers(metavar="verb", title="verbs")
    run = _command(verbs, "run", "run the rows that are not done yet", "batch:run")
    run.add_argument("jobs", help="a JSONL file, one row a line")
    run.add_argument("-o", "--out", required=True, help="folder for the results")
    run.add_argument("--retry-failed", action="store_true", help="run the rows again that failed before")
    _model(run)
    status = _command(verbs, "status", "say how a batch stands", "batch:status")
    status.add_argument("out", help="the folder of the results")
    validate = _command(verbs, "validate", "check the rows, run nothing", "batch:validate")
    validate.add_argument("jobs", help="a JSONL file, one row a line")
    for parser in (run, status, validate):
        _output_flags(parser)


def _add_research(commands: argparse._SubParsersAction) -> None:
    train = _command(commands, "train", "train a model")
    nano = _command(train.add_subparsers(metavar="model", title="models"), "nano", "from nothing", "nano:train")
    nano.add_argument("--data", required=True, metavar="DIR", help="folder made by `dsv4 data build`")
    nano.add_argument("--out", required=True, metavar="DIR", help="folder of the run; an interrupted one goes on")
    nano.add_argument("--stages", metavar="LIST", help="only these stages, with commas between")
    length = nano.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="minutes for all stages together")
    length.add_argument("--steps", type=int, help="steps for each stage")
    nano.add_argument("--rows", type=int, help="rows of a batch on one device (default: the stage's own)")
    nano.add_argument("--seed", type=int, default=0)
    nano.add_argument("--workers", type=int, help="processes that prepare data (default: by the number of cores)")
    nano.add_argument("--model-size", default="nano", help="nano, or micro to see that everything runs")
    nano.add_argument("--device", help="cpu, cuda, ... (default: the fastest here)")
    nano.add_argument("--smoke", action="store_true", help="a tiny model, two steps, two rows: see that all runs")

    scores = _command(commands, "eval", "score a model on what it was not trained on")
    nano = _command(scores.add_subparsers(metavar="model", title="models"), "nano", "the score table", "nano:evaluate")
    nano.add_argument("--model", default="nano", help="a name or a folder (default nano)")
    nano.add_argument("--data", required=True, metavar="DIR", help="folder made by `dsv4 data build`")
    nano.add_argument("--rows", metavar="LIST", help="only these rows of the table, with commas between")
    nano.add_argument("--limit", type=int, metavar="N", help="at most so many prompts a row")
    nano.add_argument("--device", help="cpu, cuda, ... (default: the fastest here)")
    nano.add_argument("--out", metavar="FILE", help="also write the table here, as JSON")

    data = _command(commands, "data", "make the training data")
    build = _command(data.add_subparsers(metavar="verb", title="verbs"), "build", "from a folder", "nano:build_data")
    build.add_argument("--sources", required=True, metavar="DIR", help="folder of the source files")
    build.add_argument("--out", required=True, metavar="DIR", help="folder for the built data")

    export = _command(commands, "export", "make a model folder to ship from a training run", "nano:export")
    export.add_argument("--run", required=True, metavar="DIR", help="folder of the run")
    export.add_argument("--data", required=True, metavar="DIR", help="folder of the data that it was trained on")
    export.add_argument("--out", required=True, metavar="DIR", help="folder for the model")
    export.add_argument("--policy", default="nano", help="bits of the weights: nano (default) or eight")


def _add_machine(commands: argparse._SubParsersAction) -> None:
    doctor = _command(commands, "doctor", "check that everything needed is here", "machine:doctor")
    models = _command(commands, "models", "list the models that can be loaded", "machine:models")
    config = _command(commands, "config", "settings")
    show = _command(config.add_subparsers(metavar="verb", title="verbs"), "show", "and their origin", "machine:config")
    for parser in (doctor, models, show):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _common(parser: Parser, *, output: str, required: bool = False) -> None:
    parser.add_argument("prompt", help="what you want, in words")
    parser.add_argument("-o", "--output", required=required, metavar="FILE", help=output)
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default 0)")
    _model(parser)
    _output_flags(parser)


def _steps(parser: Parser) -> None:
    parser.add_argument("--steps", type=int, default=8, help="more are slower and finer (default 8)")
    parser.add_argument("--guidance", type=float, default=2.0, help="how strictly the words count (default 2)")


def _provenance(parser: Parser) -> None:
    parser.add_argument("--no-provenance", action="store_true", help="keep prompt, seed and model out of the file")


def _model(parser: Parser) -> None:
    parser.add_argument("--model", help="a name or a folder of weights (default nano; echo needs no weights)")


def _output_flags(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="print nothing but what was asked for")
