"""A model between two of the same shape: part of the way from one's weights to another's.

What a short stage teaches beside what it makes forget is often won with a part of its way ("model soups", arXiv
2203.05482; the same straight line as `dsv4 train svg` goes back on).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.train.export import POLICIES


def between(before: torch.nn.Module, after: torch.nn.Module, share: float) -> None:
    """Move the floating-point weights of `before` by `share` of the way to `after`'s, in place; 0 keeps, 1 replaces.

    Raises ValueError when names or shapes differ.
    """
    old, new = before.state_dict(), after.state_dict()
    if {name: value.shape for name, value in old.items()} != {name: value.shape for name, value in new.items()}:
        raise ValueError("the two are not of one shape")
    for name, value in old.items():
        if value.is_floating_point():
            value.copy_(value.double().lerp(new[name].double(), share))


def main(argv: list[str] | None = None) -> int:
    """Write the model between two folders. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m dsv4.train.blend")
    parser.add_argument("--before", required=True, metavar="DIR", help="the model to start from")
    parser.add_argument("--after", required=True, metavar="DIR", help="the model to go towards; its core counts")
    parser.add_argument("--share", type=float, required=True, help="0 to 1: how far")
    parser.add_argument("--policy", choices=POLICIES, default="eight")
    parser.add_argument("--out", required=True, metavar="DIR")
    args = parser.parse_args(argv)
    if not 0 <= args.share <= 1:
        raise InputError(f"--share goes from 0 (the first) to 1 (the second), got {args.share}")
    before, after = Model.load(Path(args.before)), Model.load(Path(args.after))
    if before.tokenizer.fingerprint != after.tokenizer.fingerprint:
        raise InputError("the two models have different tokenizers")
    between(before.core, after.core, args.share)
    gone = [stage for stage in after.about.get("stages", []) if stage not in before.about.get("stages", [])]
    about = {**before.about, "stages": [*before.about.get("stages", []), *gone], "policy": args.policy}
    print(
        f"{args.out}: {before.save(Path(args.out), policy=POLICIES[args.policy], about=about) / 1e6:.1f} MB of weights"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
