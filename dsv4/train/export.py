"""`dsv4 export`: turn a run's weights into a model folder that the studio loads, quantised to its published size."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsv4.data.spelling_list import packed_of
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.quant.policy import eight_bits, nano_bits
from dsv4.tokenizer import Tokenizer
from dsv4.train.run import finished_stages, load_parts

POLICIES = {"nano": nano_bits, "eight": eight_bits}


def main(args: argparse.Namespace) -> int:
    """Write `args.out` from `args.run`; `args.policy` names the bits. Returns the exit status."""
    run_dir, out = Path(args.run), Path(args.out)
    if not (run_dir / "run.json").is_file():
        raise InputError(f"'{run_dir}' is not a training run: it has no run.json")
    tokenizer_file = Path(args.data) / "tokenizer.json"
    if not tokenizer_file.is_file():
        raise InputError(f"no tokenizer in '{args.data}': name the folder that the run was trained on with --data")
    written = export(run_dir, tokenizer_file, out, policy=args.policy)
    print(f"{out}: {written / 1e6:.1f} MB of weights")
    return 0


def export(run_dir: Path, tokenizer_file: Path, out: Path, *, policy: str = "nano", size: str = "nano") -> int:
    """Write the model folder and return the bytes of its weights; parts that the run does not have are left out."""
    trained = {path.stem for path in (run_dir / "weights").glob("*.safetensors")}
    if "core" not in trained:
        raise InputError(f"the run in '{run_dir}' has no trained core yet; finish its stage 'text' first")
    model = Model.fresh(Tokenizer.from_file(tokenizer_file), size=size, keep=trained)
    load_parts(run_dir, model.parts())
    model.spelling = packed_of(tokenizer_file.parent)
    about = {"name": "nano", "size": size, "stages": finished_stages(run_dir), "policy": policy, "talks": True}
    return model.save(out, policy=POLICIES[policy], about=about)
