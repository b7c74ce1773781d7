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
from dsv4.limits import UNGUIDED_STEPS

WRONG_INPUT, INTERRUPTED = 2, 130
EXAMPLES = """examples:
  dsv4 app
  dsv4 chat "What is a heron?"
  dsv4 chat "What is in this picture?" --image scene.png --mode base
  dsv4 svg "red heart icon" -o heart.svg
  dsv4 image "a rocket above a red apple" -o scene.png --seed 7
  dsv4 video "a soccer ball bouncing" -o clip.mp4
  dsv4 read paper.pdf --mode gundam -o paper.md
  dsv4 batch run jobs.jsonl -o results/
  source <(dsv4 completion bash)
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
    _add_reading(commands)
    _add_batch(commands)
    _add_research(commands)
    _add_core(commands)
    _add_tiers(commands)
    _add_repo(commands)
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
        parser.add_argument("--root-path", metavar="PATH", help="the path that a proxy serves it below, as /studio")
        parser.add_argument("--fetch", action="store_true", default=None, help="open public addresses of pictures")
        parser.add_argument("--keep-days", metavar="N", help="forget older conversations and files (default: never)")
        parser.add_argument("--keep-gb", metavar="N", help="let go of the oldest files beyond this (default: none)")
        parser.add_argument("--experts", help="where routed experts lie: resident (default), host or mapped")
        parser.add_argument("--memory-mb", metavar="N", help="for experts: hot cache (host), whole process (mapped)")
        parser.add_argument("--engram", help="where Engram's rows lie: device (default), host or mapped")
        parser.add_argument("--weights", help="quantised weights: open (default), or packed as they are stored")
        _model(parser)
        parser.add_argument("--models", metavar="LIST", help="more models to choose from, with commas")
        parser.add_argument("--presets", metavar="DIR", help="real weights of others: one folder a preset in here")


def _add_making(commands: argparse._SubParsersAction) -> None:
    chat = _command(commands, "chat", "ask a question, about pictures or without", "make:chat")
    told = "also write the answer to this file: its words, or what it draws, paints or animates (a folder with --turns)"
    _common(chat, output=told, optional=True)
    chat.add_argument(
        "--turns", metavar="FILE", help="hold a conversation: questions from a file, one a line, headings behind '# '"
    )
    chat.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; may be given again")
    chat.add_argument("--document", action="append", default=[], metavar="FILE", help="a PDF or many-page TIFF")
    chat.add_argument("--video", action="append", default=[], metavar="FILE", help="a clip to look at")
    chat.add_argument("--mode", default="tiny", help="how closely pictures are looked at (default tiny)")
    chat.add_argument("--temperature", type=float, default=0.0)
    chat.add_argument("--max-tokens", type=int, default=160)

    describe = _command(commands, "describe", "say what a picture, a drawing or a clip shows", "make:describe")
    describe.add_argument("file", help="a picture, an SVG or a clip")
    describe.add_argument("--mode", default="tiny", help="how closely it is looked at (default tiny)")
    describe.add_argument("--json", action="store_true", help="print one JSON object")
    _model(describe)

    svg = _command(commands, "svg", "draw an icon or a scene as SVG", "make:svg")
    told = "write here (.svg, .png, or .mp4 and .gif when it moves); without it, the SVG is printed"
    _common(svg, output=told, optional=True)
    svg.add_argument("--from", dest="picture", metavar="FILE", help="redraw this picture as SVG (see docs/hands.md)")
    told = "with --from: follow outlines where words fail (auto, default), never or always"
    svg.add_argument("--trace", default="auto", metavar="WHEN", help=told)
    _provenance(svg)
    svg.add_argument("--temperature", type=float, default=0.0)
    svg.add_argument("--max-tokens", type=int, default=1200)
    svg.add_argument("--edit", metavar="FILE", help="change this SVG as the prompt says: 'make it blue'")
    svg.add_argument("--candidates", type=int, default=1, help="draw so many, keep the one most like the others")

    image = _command(commands, "image", "paint a picture", "make:picture")
    _common(image, output="write here (.png or .webp)", required=True)
    image.add_argument("--size", type=int, default=128, help="side in pixels, a multiple of 8 (default 128)")
    _steps(image)
    _provenance(image)

    video = _command(commands, "video", "make a short clip", "make:clip")
    _common(video, output="write here (.mp4, .webm, .webp, .apng or .gif)", required=True)
    video.add_argument("--seconds", type=float, default=2.0, help="0.25 to 6 (default 2)")
    start = video.add_mutually_exclusive_group()
    start.add_argument("--first-frame", metavar="FILE", help="a picture that the clip begins with")
    start.add_argument("--after", metavar="FILE", help="a clip that is gone on with, from its last frame")
    _steps(video)
    _provenance(video)


def _add_reading(commands: argparse._SubParsersAction) -> None:
    read = _command(commands, "read", "read a document into markdown, page by page", "read:run")
    read.add_argument("file", help="a PDF, TIFF, GIF, WebP or picture")
    read.add_argument("-o", "--output", metavar="FILE", help="write here (.md, .txt or .json); without it, print")
    read.add_argument("--mode", default="gundam", help="how closely pages are looked at (default gundam)")
    read.add_argument("--tiles", type=int, help="at most so many tiles a page: 9 (default) or 6")
    read.add_argument("--pages", metavar="LIST", help="only these, such as 1-3,7")
    read.add_argument("--turn", type=int, default=0, help="turn every page clockwise by 90, 180 or 270 degrees")
    read.add_argument("--task", default="markdown", help="markdown, ocr, text, figure, describe or locate")
    read.add_argument("--find", default="", metavar="WORDS", help="what the task locate looks for")
    read.add_argument("--boxes", metavar="FILE", help="also write pages and boxes here, as JSON")
    read.add_argument("--overlay", metavar="DIR", help="also write every page with its boxes drawn in here")
    read.add_argument("--max-tokens", type=int, default=4096, help="of one page (default 4096)")
    _model(read)
    _output_flags(read)

    modes = _command(commands, "modes", "what a picture costs in each mode, and which is enough", "modes:run")
    modes.add_argument("file", help="a picture, or a document, whose first page is taken")
    modes.add_argument("--kind", help="slides, book, report, newspaper or any: says which mode is enough")
    modes.add_argument("--mode", default="gundam", help="the mode whose tiles are drawn (default gundam)")
    modes.add_argument("--tiles", type=int, help="at most so many tiles: 9 (default) or 6")
    modes.add_argument("--draw", metavar="FILE", help="write the picture with its tiles here (.png or .webp)")
    modes.add_argument("--json", action="store_true", help="print one JSON object")


def _add_batch(commands: argparse._SubParsersAction) -> None:
    batch = _command(commands, "batch", "many rows of work from a JSONL or Parquet file, restartable")
    verbs = batch.add_subparsers(metavar="verb", title="verbs")
    run = _command(verbs, "run", "run the rows that are not done yet", "batch:run")
    run.add_argument("jobs", help="a JSONL file, one row a line, or a Parquet file")
    run.add_argument("-o", "--out", required=True, help="folder for the results")
    run.add_argument("--retry-failed", action="store_true", help="run the rows again that failed before")
    run.add_argument("--seed", type=int, help="rows without a seed get one from this and their id")
    run.add_argument("--backend", help="local (default), processes, or ray (an extra)")
    run.add_argument("--workers", help="processes or actors, each with a model (default one a core)")
    run.add_argument("--batch-size", type=int, help="rows that share a pass at most (default: by their task)")
    _model(run)
    status = _command(verbs, "status", "say how a batch stands", "batch:status")
    status.add_argument("out", help="the folder of the results")
    validate = _command(verbs, "validate", "check the rows, run nothing", "batch:validate")
    validate.add_argument("jobs", help="a JSONL or Parquet file")
    export = _command(verbs, "export", "write the results that are there as one table", "batch:export")
    export.add_argument("out", help="the folder of the results")
    export.add_argument("-o", "--output", required=True, metavar="FILE", help="write here (.jsonl, .csv or .parquet)")
    for parser in (run, status, validate, export):
        _output_flags(parser)


def _add_research(commands: argparse._SubParsersAction) -> None:
    train = _command(commands, "train", "train a model").add_subparsers(metavar="what", title="what to train")
    _add_train_own(train)
    nano = _command(train, "nano", "nano, from nothing", "nano:train")
    nano.add_argument("--data", required=True, metavar="DIR", help="folder made by `dsv4 data build`")
    nano.add_argument("--out", required=True, metavar="DIR", help="folder of the run; an interrupted one goes on")
    nano.add_argument("--start", metavar="FOLDER", help="begin with the weights of this model folder")
    nano.add_argument("--stages", metavar="LIST", help="only these stages, with commas between")
    length = nano.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="minutes for all stages together")
    length.add_argument("--steps", type=int, help="steps for each stage")
    length.add_argument("--until", metavar="TIME", help="share the time until this time of day among the stages")
    nano.add_argument("--after", metavar="STAGE", help="compile now, begin when this stage of the run is finished")
    nano.add_argument("--rows", type=int, help="rows of a batch on one device (default: the stage's own)")
    nano.add_argument("--seed", type=int, default=0)
    nano.add_argument("--workers", type=int, help="processes that prepare data (default: by the number of cores)")
    nano.add_argument("--model-size", default="nano", help="nano, or micro to see that everything runs")
    nano.add_argument("--device", help="cpu, cuda, ... (default: the fastest here)")
    nano.add_argument("--smoke", action="store_true", help="a tiny model, two steps, two rows: see that all runs")

    scores = _command(commands, "eval", "score a model on what it was not trained on")
    tables = scores.add_subparsers(metavar="table", title="tables")
    _add_eval_make(tables)
    claims = _command(tables, "claims", "what papers say of the core's parts, small", "core:claims")
    claims.add_argument("--only", metavar="LIST", help="rows, mhc, cost, engram, needle, dsa, vvpa (default: all)")
    claims.add_argument("--seeds", type=int, default=2, help="trainings of each model (default 2)")
    claims.add_argument("--scale", type=int, default=1, help="10: ten times larger and longer, for a GPU")
    claims.add_argument("--device", help="cpu, cuda, ... (default cpu)")
    claims.add_argument("--out", metavar="DIR", help="also write plots and tables here")
    needle = _command(tables, "needle", "find a sentence in a long text, by length and depth", "core:needle")
    needle.add_argument("--lengths", default="128,256,512,1024,2048", metavar="LIST", help="numbers of tokens")
    needle.add_argument("--trials", type=int, default=16, help="texts at each length and depth (default 16)")
    needle.add_argument("--out", metavar="FILE", help="also write the counts here, a JSON object a line")
    _add_eval_nano(tables)
    tiers = _command(tables, "tiers", "what fewer bits cost, method by method", "quantize:compare")
    tiers.add_argument("--model", default="nano", help="nano (default), a folder, or lite-shaped (random weights)")
    tiers.add_argument("--data", metavar="DIR", help="training data of nano, for a model of ours")
    tiers.add_argument("--tiers", metavar="LIST", help="only these: q8, q4")
    tiers.add_argument("--limit", type=int, default=40, metavar="N", help="cases of each kind (default 40)")
    tiers.add_argument("--out", metavar="FILE", help="also write the lines here, as JSON")

    data = _command(commands, "data", "make the training data")
    build = _command(data.add_subparsers(metavar="verb", title="verbs"), "build", "from a folder", "nano:build_data")
    build.add_argument("--sources", required=True, metavar="DIR", help="folder of the source files")
    build.add_argument("--out", required=True, metavar="DIR", help="folder for the built data")

    export = _command(commands, "export", "make a model folder to ship, or one that engines serve", "nano:export")
    export.add_argument("--run", metavar="DIR", help="folder of a training run")
    export.add_argument("--data", metavar="DIR", help="folder of the data that it was trained on")
    export.add_argument("--out", required=True, metavar="DIR", help="folder for the model")
    export.add_argument("--policy", default="nano", help="bits of the weights: nano (default) or eight")
    export.add_argument("--to", help="hf: rewrite --model in the layout that vLLM and SGLang serve")
    export.add_argument("--model", metavar="FOLDER", help="a checkpoint with config.json, for --to hf")


def _add_eval_nano(tables: argparse._SubParsersAction) -> None:
    nano = _command(tables, "nano", "the score table", "nano:evaluate")
    nano.add_argument("--growth", action="store_true", help="the second table: talk, slips, refusals, pages")
    nano.add_argument("--model", default="nano", help="a name or a folder (default nano)")
    nano.add_argument("--data", required=True, metavar="DIR", help="folder made by `dsv4 data build`")
    nano.add_argument("--rows", metavar="LIST", help="only these rows of the table, with commas between")
    nano.add_argument("--limit", type=int, metavar="N", help="at most so many prompts a row")
    nano.add_argument("--device", help="cpu, cuda, ... (default: the fastest here)")
    nano.add_argument("--out", metavar="FILE", help="also write the table here, as JSON")


def _add_eval_make(kinds: argparse._SubParsersAction) -> None:
    make = _command(kinds, "make", "judge pictures, drawings and clips of shapes; no data needed", "hands:evaluate")
    make.add_argument("-o", "--out", required=True, metavar="DIR", help="for scores.json and the contact sheet")
    make.add_argument("--only", action="append", metavar="FAMILY", help="image, svg or video; may be given again")
    make.add_argument("--cases", type=int, default=10, help="of each of the six categories (default 10)")
    make.add_argument("--clips", type=int, default=12, help="clips (default 12)")
    make.add_argument("--svg-prompts", type=int, default=0, help="also draw so many prompts of every kind, and check")
    make.add_argument("--seed", type=int, default=0, help="other seeds, other cases (default 0)")
    _model(make)


def _add_train_own(verbs: argparse._SubParsersAction) -> None:
    for kind, what in (("svg", "SVG files"), ("image", "pictures")):
        own = _command(verbs, kind, f"a finished model, on your own {what} with captions", "nano:train_own")
        own.set_defaults(kind=kind)
        own.add_argument("--data", required=True, metavar="DIR", help=f"{what}; captions.jsonl, captions.txt or names")
        own.add_argument("--out", required=True, metavar="DIR", help="folder of the run; model/ in it is the new model")
        own.add_argument("--start", metavar="MODEL", help="a name or a folder to begin with (default nano)")
        own.add_argument("--rehearse", metavar="DIR", help="its own data, so that less is forgotten")
        length = own.add_mutually_exclusive_group()
        length.add_argument("--minutes", type=float, help="minutes of learning (default 5)")
        length.add_argument("--steps", type=int, help="steps instead of minutes")
        own.add_argument("--rows", type=int, help="rows of a batch (default: what suits a CPU)")
        own.add_argument("--seed", type=int, default=0)
        own.add_argument("--device", help="cpu (default), cuda, ...")
    _add_distill(verbs)


def _add_distill(verbs: argparse._SubParsersAction) -> None:
    distill = _command(verbs, "distill", "a finished model's picture head, to need fewer steps", "nano:distill")
    distill.add_argument("--data", required=True, metavar="DIR", help="folder made by `dsv4 data build`")
    distill.add_argument("--out", required=True, metavar="DIR", help="a new folder for the new model")
    distill.add_argument("--model", default="nano", help="a name or a folder to begin with (default nano)")
    length = distill.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="minutes of learning (default 10)")
    length.add_argument("--steps", type=int, help="steps instead of minutes")
    distill.add_argument("--rows", type=int, default=8, help="pictures of a batch (default 8)")
    distill.add_argument("--clips", type=float, default=0.2, help="share of batches that are clips (default 0.2)")
    distill.add_argument("--seed", type=int, default=0)


def _add_core(commands: argparse._SubParsersAction) -> None:
    convert = _command(commands, "convert", "rewrite a checkpoint of a DeepSeek model, or of this core", "core:convert")
    convert.add_argument("source", help="folder with config.json and safetensors")
    convert.add_argument("out", help="folder to write")
    convert.add_argument("--to", metavar="NAMES", help="deepseek_v2, v3, v32, v4, v41 or dsv4 (default: its own)")
    convert.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as stored)")
    convert.add_argument("--layers", type=int, metavar="N", help="only the first N layers")


def _add_tiers(commands: argparse._SubParsersAction) -> None:
    quantize = _command(commands, "quantize", "write a model in eight or four bits", "quantize:run")
    quantize.add_argument("model", help="nano, a model folder of ours, or a folder with config.json and safetensors")
    quantize.add_argument("-o", "--out", required=True, metavar="DIR", help="where to write, or go on writing")
    quantize.add_argument("--tier", default="q4", help="q8 or q4 (default)")
    quantize.add_argument("--method", default="gptq", help="gptq (default), awq, or round, to compare with")
    quantize.add_argument("--group", type=int, help="columns that share a scale (default: 128, or what divides all)")
    quantize.add_argument("--text", action="append", default=[], metavar="FILE", help="text to calibrate with")
    quantize.add_argument("--picture", action="append", default=[], metavar="FILE", help="a picture for the same")
    quantize.add_argument("--data", metavar="DIR", help="training data of nano for the same")
    quantize.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json, where the folder has none")
    quantize.add_argument("--count", type=int, default=48, help="passages of text (default 48)")
    quantize.add_argument("--memory", type=float, default=4.0, metavar="GB", help="for one block at a time (default 4)")


def _add_repo(commands: argparse._SubParsersAction) -> None:
    repo = _command(commands, "repo", "a repository as one prompt, its import graph, and edits across its files")
    verbs = repo.add_subparsers(metavar="verb", title="verbs")
    pack = _command(verbs, "pack", "print as much of it as a budget of tokens holds", "repo:pack")
    pack.add_argument("--budget", type=int, default=100_000, help="tokens, at most (default 100000)")
    pack.add_argument("--query", default="", help="what will be asked: brings in what it is about, whole")
    pack.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; may be given again")
    pack.add_argument("--mode", default="base", help="how closely pictures are looked at (default base)")
    pack.add_argument("--tokenizer", default="v4", help="v4 (default), nano, or a tokenizer.json of ours")
    pack.add_argument("-o", "--output", metavar="FILE", help="write the prompt here and print a report")
    graph = _command(verbs, "graph", "print who imports whom", "repo:graph")
    graph.add_argument("-o", "--output", metavar="FILE", help="draw it as SVG here")
    graph.add_argument("--files", type=int, default=60, help="files in the drawing (default 60)")
    edit = _command(verbs, "edit", "plan edits across files, show them as one patch, apply it", "repo:edit")
    edit.add_argument("--task", help="what is to be changed, for a chat model to plan")
    edit.add_argument("--url", help="an OpenAI-compatible address, as http://127.0.0.1:8000/v1 (default: our studio)")
    edit.add_argument("--model", help="the model's name there, or a model of our own")
    edit.add_argument("--plan", metavar="FILE", help="a plan that was written before, in place of a task")
    edit.add_argument("--budget", type=int, default=100_000, help="tokens of the repository in the prompt")
    edit.add_argument("--save-plan", metavar="FILE", help="write the plan here")
    edit.add_argument("--apply", action="store_true", help="apply it; without this, it is a dry run")
    edit.add_argument("--force", action="store_true", help="apply it although imports break")
    for parser in (pack, graph, edit):
        parser.add_argument("path", help="the root of the repository")
        parser.add_argument("--ignore", action="append", default=[], metavar="PATTERN", help="as in .gitignore")
        parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_machine(commands: argparse._SubParsersAction) -> None:
    bench = _command(commands, "bench", "measure this machine", "bench:run")
    bench.add_argument("name", nargs="?", help="one of the measuring programs; without it they are listed")
    bench.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="what the program itself takes")
    completion = _command(commands, "completion", "complete commands with the Tab key", "shell:completion")
    completion.add_argument("shell", nargs="?", help="bash, zsh or fish; by default the one of $SHELL")
    completion.add_argument("--words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    plan = _command(commands, "plan", "say what fits where, how fast and at what cost", "plan:show")
    plan.add_argument("model", help="a preset (nano to flagship), a released model, or a .json configuration")
    plan.add_argument("--tier", default="q4", help="bf16, fp8, q8, native, q4 or a GGUF kind (default q4)")
    plan.add_argument("--ctx", type=int, default=32_768, help="tokens of a sequence (default 32768)")
    plan.add_argument("--batch", type=int, default=1, help="sequences at once (default 1)")
    where = plan.add_mutually_exclusive_group()
    where.add_argument("--hw", default="desktop-5090", help="a machine, or rtx5090+ddr:192@83+nvme:2000@14")
    where.add_argument("--here", action="store_true", help="look at this machine, and measure it for two seconds")
    plan.add_argument("--usd-hour", type=float, help="what the machine costs an hour (default: electricity alone)")
    plan.add_argument("--json", action="store_true", help="print JSON")
    doctor = _command(commands, "doctor", "check that everything needed is here", "machine:doctor")
    models = _command(commands, "models", "list the models that can be loaded", "machine:models")
    config = _command(commands, "config", "settings")
    show = _command(config.add_subparsers(metavar="verb", title="verbs"), "show", "and their origin", "machine:config")
    for parser in (doctor, models, show):
        parser.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument("--quiet", action="store_true", help="print only what is wrong")


def _common(parser: Parser, *, output: str, required: bool = False, optional: bool = False) -> None:
    given = {"nargs": "?", "default": ""} if optional else {}
    parser.add_argument("prompt", help="what you want, in words", **given)
    parser.add_argument("-o", "--output", required=required, metavar="FILE", help=output)
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default 0)")
    told = "do not read mistyped words as those that were meant"
    parser.add_argument("--as-typed", dest="correct", action="store_false", help=told)
    _model(parser)
    _output_flags(parser)


def _steps(parser: Parser) -> None:
    parser.add_argument("--steps", type=int, default=8, help="more are slower and finer (default 8)")
    usual = f"how strictly the words count (default 2, or 1 for up to {UNGUIDED_STEPS} steps)"
    parser.add_argument("--guidance", type=float, help=usual)


def _provenance(parser: Parser) -> None:
    parser.add_argument("--no-provenance", action="store_true", help="keep prompt, seed and model out of the file")


def _model(parser: Parser) -> None:
    parser.add_argument("--model", help="a name or a folder of weights (default nano; echo needs no weights)")


def _output_flags(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="print nothing but what was asked for")
