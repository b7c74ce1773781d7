"""`dsv4 train`, `eval nano`, `data build` and `export`: thin doors to the packages that do the work."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from dsv4.errors import InputError, unknown
from dsv4.limits import check_numbers


def train(args: argparse.Namespace) -> int | None:
    """Train nano, or go on with an interrupted run."""
    _folder(args.data, "--data", "make it with `dsv4 data build`")
    if args.smoke:
        args.model_size, args.rows, args.workers = "micro", 2, 0
        args.steps = None if args.minutes or args.until else args.steps or 2
    _above_zero(args, "minutes", "steps", "rows")
    _one_of("size", args.model_size, ("nano", "micro"))
    check_numbers(seed=args.seed)
    return import_module("dsv4.train.cli").main(args)


def train_own(args: argparse.Namespace) -> int | None:
    """Teach a finished model a person's own drawings or pictures, or go on with an interrupted run."""
    _folder(args.data, "--data", "it holds your SVG files or pictures")
    _above_zero(args, "minutes", "steps", "rows")
    check_numbers(seed=args.seed)
    return import_module("dsv4.train.own").main(args)


def distill(args: argparse.Namespace) -> int | None:
    """Teach a model's head to need fewer steps."""
    _folder(args.data, "--data", "make it with `dsv4 data build`")
    _above_zero(args, "minutes", "steps", "rows")
    check_numbers(seed=args.seed)
    return import_module("dsv4.train.distill").main(args)


def evaluate(args: argparse.Namespace) -> int | None:
    """Print the score table."""
    _folder(args.data, "--data", "make it with `dsv4 data build`")
    _above_zero(args, "limit")
    if args.out and not Path(args.out).parent.is_dir():
        raise InputError(f"--out: no folder '{Path(args.out).parent}'")
    return import_module("dsv4.eval.nano").main(args)


def build_data(args: argparse.Namespace) -> int:
    """Build the training data from a folder of sources."""
    sources = _folder(args.sources, "--sources", "it holds icons.jsonl.zst, things.jsonl.zst, words.jsonl.zst, ...")
    import_module("dsv4.data").build(sources, Path(args.out))
    return 0


def export(args: argparse.Namespace) -> int | None:
    """Write a model folder from a training run, or the layout of engines from a checkpoint."""
    if args.to is not None:
        return _to_engines(args)
    for flag in ("run", "data"):
        if getattr(args, flag) is None:
            raise InputError(f"--{flag} is needed to export a training run (or --to hf with --model)")
    _folder(args.run, "--run", "it is the --out of `dsv4 train nano`")
    _one_of("policy", args.policy, ("nano", "eight"))
    return import_module("dsv4.train.export").main(args)


def _to_engines(args: argparse.Namespace) -> int:
    _one_of("layout", args.to, ("hf",))
    if args.model is None:
        raise InputError("--model: name the checkpoint folder that is to be exported")
    from dsv4.checkpoint.export import export_hf

    made = export_hf(_folder(args.model, "--model", "it holds config.json and safetensors"), Path(args.out))
    print(f"{args.out}: {made.kind}, {made.bytes / 1e6:.1f} MB of weights")
    if not made.tokenizer:
        print("no tokenizer.json beside the weights: engines then take and give token ids only")
    print("\n".join(made.lines))
    return 0


def _folder(path: str, flag: str, hint: str) -> Path:
    if not Path(path).is_dir():
        raise InputError(f"{flag}: no folder '{path}'; {hint}")
    return Path(path)


def _one_of(kind: str, name: str, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        raise unknown(kind, name, allowed)


def _above_zero(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} must be above zero, got {value}")
