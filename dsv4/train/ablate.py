"""Engram against experts in the shipped recipe: nano's core as it is, and with its memory's parameters in experts.

    python -m dsv4.train.ablate --data build/data --minutes 1.2 --out DIR

Both learn stage `text` from nothing, of the same stream, for the same time on one device. Measured on what was to be
learnt by heart and on what was held out (ASKED says which): nats a learnt token, and how many answers are right to the
last token, each token chosen with those before it given (which is what a greedy answer needs to be right).
Shape letters: R rows, T tokens.
Source: Engram's "sparsity allocation" at equal parameters; docs/claims.md has the claim in small.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dsv4.core import presets
from dsv4.core.config import CoreConfig
from dsv4.core.model import LanguageCore
from dsv4.data.documents import Document, Documents
from dsv4.data.text import IGNORE, PackedRows
from dsv4.errors import InputError
from dsv4.eval.plot import Line, chart
from dsv4.tokenizer import Tokenizer
from dsv4.train.ahead import compile_ahead, wait_for
from dsv4.train.precision import autocast, eager
from dsv4.train.run import StagePlan, run_stage
from dsv4.train.stages import choose
from dsv4.train.text_job import TextJob
from dsv4.train.world import World, join_world

FORMS = ("memory", "experts")
RECORD = "engram_nano.json"  # of a run, in its folder
# What is asked: the method of `Documents`, whether it is held out, and what the row is called.
ASKED: tuple[tuple[str, bool, str], ...] = (
    ("icon_short", False, "icon by name"),
    ("drawing", False, "drawing of a thing"),
    ("definition", False, "definition"),
    ("definition", True, "definition, in a phrasing never seen"),
    ("fact", False, "fact"),
    ("coloured", True, "icon in a colour never seen on it"),
    ("composition", True, "composition never seen"),
    ("hidden", True, "question about a scene never told"),
)


def shape(form: str, vocabulary: int) -> CoreConfig:
    """Nano's core, or nearly as many parameters with experts in the place of memory."""
    nano = presets.nano(vocab_size=vocabulary)
    if form == "memory":
        return nano
    return replace(nano, engram=None, experts=replace(nano.experts, count=33))


def fresh_core(form: str, tokenizer: Tokenizer, seed: int) -> LanguageCore:
    """One of the two with random weights."""
    torch.manual_seed(seed)
    return LanguageCore.from_config(shape(form, tokenizer.vocab_size), canonical_ids=tokenizer.canonical_ids)


def batches(
    documents: Documents, kind: str, held: bool, *, count: int, seq_len: int
) -> Iterator[dict[str, np.ndarray]]:
    """Packed batches of `count` documents of one kind and a few more, to the end of a batch."""
    given = 0
    make = getattr(documents, kind)

    def next_document() -> Document:
        nonlocal given
        while True:
            prompt, answer = make(held=True) if held else make()
            if len(prompt) + len(answer) <= seq_len:
                given += 1
                return prompt, answer

    packed = PackedRows(next_document, pad=documents.tokenizer.id_of("<|pad|>"), seq_len=seq_len, rows=16)
    while given < count:
        yield packed.batch()


@torch.no_grad()
def scored(core: LanguageCore, found: Iterator[dict[str, np.ndarray]], device: torch.device) -> dict[str, float]:
    """Nats a learnt token, the share of answers that are right to the last token, and their number."""
    nats, learnt, right, count = 0.0, 0, 0, 0
    for arrays in found:
        batch = {name: torch.from_numpy(array).to(device).long() for name, array in arrays.items()}
        with autocast(device), eager():
            output = core(batch["ids"], positions_BT=batch["positions"], segments_BT=batch["segments"])
        logits_RTV, targets_RT = output.logits_BTV.float(), batch["targets"]
        asked_RT = targets_RT != IGNORE
        each = torch.nn.functional.cross_entropy(logits_RTV[asked_RT], targets_RT[asked_RT], reduction="sum")
        wrong_RT = asked_RT & (logits_RTV.argmax(-1) != targets_RT)
        for row in range(len(targets_RT)):
            segments = batch["segments"][row]
            total = torch.bincount(segments[asked_RT[row]])
            missed = torch.bincount(segments[wrong_RT[row]], minlength=len(total))
            right += int(((total > 0) & (missed[: len(total)] == 0)).sum())
            count += int((total > 0).sum())
        nats, learnt = nats + float(each), learnt + int(asked_RT.sum())
    return {"nats": nats / max(1, learnt), "right": right / max(1, count), "count": count}


def run(args: argparse.Namespace, world: World) -> dict[str, Any]:
    """Compile both, wait where asked to, train and score one after the other; the record of both."""
    tokenizer = Tokenizer.from_file(args.data / "tokenizer.json")
    (stage,) = choose("text")
    rows = args.rows or stage.rows(world.device.type)
    cores = {form: fresh_core(form, tokenizer, args.seed).to(world.device) for form in FORMS}

    def job(form: str) -> TextJob:
        model: Any = SimpleNamespace(core=cores[form])
        return TextJob(model, world, args.data, rows=rows, seq_len=stage.seq_len, seed=args.seed, workers=args.workers)

    if args.after is not None:
        compile_ahead([lambda form=form: job(form) for form in FORMS], world)
        wait_for(args.after, args.run)
    record: dict[str, Any] = {}
    for form in FORMS:
        folder = args.out / form
        made = job(form)
        try:
            run_stage(
                made, StagePlan(name="text", minutes=args.minutes, hold=stage.hold, log_seconds=2.0), world, folder
            )
        finally:
            made.close()
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        asked = {}
        cores[form].eval()
        for number, (kind, held, name) in enumerate(ASKED):
            found = batches(
                Documents(args.data, seed=90_000 + number), kind, held, count=args.count, seq_len=stage.seq_len
            )
            asked[name] = scored(cores[form], found, world.device)
        record[form] = {
            "parameters": sum(p.numel() for p in cores[form].parameters()),
            "steps": log[-1]["step"],
            "seconds": log[-1]["seconds"],
            "curve": [(row["seconds"], row["text"]) for row in log],
            "asked": asked,
        }
        cores[form].to("cpu")
        (args.out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return record


def kept(folder: Path) -> dict[str, Any]:
    """The record that a run left in a folder; InputError says which command makes one."""
    path = folder / RECORD
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"--show: there is no '{path}' yet; `python -m dsv4.train.ablate --data build/data --out {folder}` trains "
            "both forms and writes it"
        ) from error
    except ValueError as error:
        raise InputError(f"--show: '{path}' is no record ({error}); run without --show to write it anew") from error


def table(record: Mapping[str, Any]) -> str:
    """The record as a table of a page."""
    lines = ["| | " + " | ".join(f"{form} ({record[form]['parameters']:,} parameters)" for form in record) + " |"]
    lines.append("| --- |" + " --- |" * len(record))
    lines.append("| steps in the same time | " + " | ".join(f"{record[form]['steps']:,}" for form in record) + " |")
    for _, _, name in ASKED:
        cells = [record[form]["asked"][name] for form in record]
        told = " | ".join(f"{100 * cell['right']:.1f} % of {cell['count']} ({cell['nats']:.3f} nats)" for cell in cells)
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Train both, print the table, write record and plot."""
    parser = argparse.ArgumentParser(prog="python -m dsv4.train.ablate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder made by `dsv4 data build`")
    parser.add_argument("--minutes", type=float, default=1.2, help="of training, for each (default 1.2)")
    parser.add_argument("--out", required=True, type=Path, help="folder of the record, the plot and the runs")
    parser.add_argument("--count", type=int, default=500, help="documents of each kind to score (default 500)")
    parser.add_argument("--rows", type=int, help="rows of a batch (default: the stage's own)")
    parser.add_argument("--workers", type=int, help="processes that prepare data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--after", metavar="STAGE", help="compile now, begin when this stage of --run is finished")
    parser.add_argument("--run", type=Path, help="folder of a training run, for --after")
    parser.add_argument("--show", action="store_true", help="only print and plot the record that is in --out")
    args = parser.parse_args(argv)
    if args.show:
        record = kept(args.out)
    else:
        if args.data is None or (args.after is not None) != (args.run is not None):
            parser.error("--data is needed, and --after and --run go together")
        args.out.mkdir(parents=True, exist_ok=True)
        torch.set_float32_matmul_precision("high")
        record = run(args, join_world(args.device))
    print(table(record))
    lines = [Line(form, tuple((max(x, 0.1), y) for x, y in record[form]["curve"])) for form in record]
    drawn = chart(
        lines,
        title="memory, or as many parameters in experts",
        x="seconds",
        y="training loss, nats",
        log_y=True,
    )
    (args.out / "engram_nano.svg").write_text(drawn)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
