"""`dsv4 convert`, `eval claims` and `eval needle`: checkpoints of the language core, and what is said of its parts."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsv4.errors import InputError, unknown

DTYPES = ("float32", "bfloat16", "float16")


def convert(args: argparse.Namespace) -> int:
    """Copy a checkpoint tensor by tensor into the names of another layout."""
    if args.dtype is not None and args.dtype not in DTYPES:
        raise unknown("dtype", args.dtype, DTYPES)
    if not Path(args.source).is_dir():
        raise InputError(f"no folder '{args.source}'; it holds config.json and safetensors")
    import torch

    from dsv4.checkpoint.pretrained import convert

    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    written = convert(args.source, args.out, to=args.to, dtype=dtype, layers=args.layers)
    print(f"{args.out}: {args.to or 'names as in the source'}, {written / 1e6:.1f} MB of weights")
    return 0


def claims(args: argparse.Namespace) -> int:
    """Reproduce the claims, small."""
    from dsv4.eval.claims import main

    return main(args)


def needle(args: argparse.Namespace) -> int:
    """Needle accuracy of the shipped nano."""
    try:
        lengths = [int(length) for length in args.lengths.split(",")]
    except ValueError as error:
        raise InputError(f"--lengths takes whole numbers with commas between, got '{args.lengths}'") from error
    if min(lengths) < 64 or args.trials < 1:
        raise InputError("every length must be at least 64 tokens, and --trials at least 1")
    from dsv4.eval.needle import run

    run(lengths, args.trials, args.out)
    return 0
