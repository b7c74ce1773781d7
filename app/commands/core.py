"""`dsv4 convert` and `dsv4 bench`: checkpoints of the language core, and how fast it is."""

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

    from dsv4.checkpoint.config_write import family
    from dsv4.checkpoint.pretrained import Folder, convert

    to = args.to or family(Folder(args.source).config)
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    written = convert(args.source, args.out, to=to, dtype=dtype)
    print(f"{args.out}: {to}, {written / 1e6:.1f} MB of weights")
    return 0


def bench_core(args: argparse.Namespace) -> int:
    """Measure the core beside transformers and beside its own plainer forms."""
    from .bench_core import main

    return main(args)


def bench_context(args: argparse.Namespace) -> int:
    """Measure what a token costs at lengths up to a million."""
    from .bench_context import main

    if args.cache_rows not in ("plain", "fp8"):
        raise unknown("rows", args.cache_rows, ("plain", "fp8"))
    if not 1 <= args.layers <= 6:
        raise InputError(f"--layers is between 1 and 6, got {args.layers}")
    return main(args)
