"""`dsv4 quantize` and `dsv4 eval tiers`: a model in eight or four bits, and what that costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsv4.errors import InputError


def run(args: argparse.Namespace) -> int:
    """Quantise block by block, and say what it came to."""
    for flag in ("count", "memory", "group"):
        value = getattr(args, flag)
        if value is not None and not value > 0:
            raise InputError(f"--{flag} must be above zero, got {value}")
    from dsv4.tiers import calibrate
    from dsv4.tiers.run import quantize
    from dsv4.tiers.source import find_model, open_source

    folder = find_model(args.model)
    text, pictures = [Path(one) for one in args.text], [Path(one) for one in args.picture]
    if (folder / "model.json").is_file():
        data = Path(args.data) if args.data else None
        passages = calibrate.of_model(folder, text=text, pictures=pictures, data=data, count=args.count)
    else:
        if pictures or args.data:
            raise InputError("--picture and --data are for models of ours; a checkpoint is calibrated with --text")
        passages = calibrate.of_checkpoint(
            folder,
            text=text,
            tokenizer=Path(args.tokenizer) if args.tokenizer else None,
            count=args.count,
            vocabulary=open_source(folder).config.vocab_size,
        )
        if not text:
            print("no --text: calibrated with random ids, which suits random weights only")
    report = quantize(
        folder, args.out, tier=args.tier, method=args.method, passages=passages, group=args.group,
        memory=args.memory * 1e9, told=lambda line: print(line, flush=True),
    )  # fmt: skip
    print(f"{args.out}: {report.bytes / 1e6:.1f} MB, {report.bits_a_weight:.3g} bits a quantised weight, {args.method}")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print the table of tiers and methods."""
    from dsv4.tiers.compare import main

    return main(args)
