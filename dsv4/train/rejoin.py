"""Join a head to a core that has learnt on: its connector learns to say of the new core what it said of the old one.

Only prompts are read, so this takes minutes of a CPU where learning pictures and clips anew takes a card.
Shape letters: B rows, T tokens, S condition tokens, C condition width.
Source: the distillation of intermediate features, FitNets (arXiv 1412.6550).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsv4.data.pictures import PictureStream
from dsv4.errors import InputError
from dsv4.model import Model, tap_blocks
from dsv4.quant.policy import nano_bits
from dsv4.train.optim import schedule
from dsv4.train.stages import CURRICULUM

RATE = 1e-3


def rejoin(before: Model, after: Model, data_dir: Path, *, minutes: float, rows: int, seed: int = 0) -> float:
    """Give `after` the head of `before`, its connector taught for `minutes`; returns the last relative error.

    Both need the same tokenizer. The error is the mean square of what is left over that of what is to be said.
    """
    if before.tokenizer.fingerprint != after.tokenizer.fingerprint:
        raise InputError("both models need the same tokenizer")
    if before.head is None or after.head is None:
        raise InputError("both models need a head: the one to be joined, and the one whose place it takes")
    after.head.load_state_dict(before.head.state_dict())
    taught = after.head.connector.float().train().requires_grad_(True)
    teacher = copy.deepcopy(taught).requires_grad_(False)
    optimizer = torch.optim.AdamW(taught.parameters(), lr=RATE, weight_decay=0.0, betas=(0.9, 0.95))
    started, step, kept = time.monotonic(), 0, 1.0
    for ids_BT, mask_BT in prompts(data_dir, rows=rows, seed=seed):
        done = (time.monotonic() - started) / (60 * minutes)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * schedule(int(done * 1_000_000), 1_000_000, warmup=20_000, hold=0.4)
        with torch.no_grad():
            wanted = teacher(read(before.core, ids_BT), mask_BT)
            heard = read(after.core, ids_BT)
        error = relative_error(taught(heard, mask_BT).tokens_BSC, wanted.tokens_BSC, wanted.mask_BS)
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        nn.utils.clip_grad_norm_(taught.parameters(), 1.0)
        optimizer.step()
        kept, step = 0.95 * kept + 0.05 * float(error.detach()), step + 1
        if step % 20 == 1:
            print(f"step {step}, {100 * done:.0f} %: relative error {float(error.detach()):.4f}", flush=True)
    return kept


def prompts(data_dir: Path, *, rows: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and mask [B, T] of requests for pictures and clips in turn, cut to the longest."""
    streams = [iter(PictureStream(data_dir, kind, seed=seed, rows=rows)) for kind in ("paint", "film")]
    while True:
        for stream in streams:
            batch = next(stream)
            longest = int(batch["mask"].sum(1).max())
            ids, mask = (torch.from_numpy(batch[name][:, :longest]) for name in ("ids", "mask"))
            yield ids.long(), mask.bool()


def read(core: Any, ids_BT: Tensor) -> tuple[Tensor, ...]:
    """The states that a head listens to."""
    taps = core(ids_BT, taps=tap_blocks(core.config.layers), logits=False, sparse=False).taps
    return tuple(tap.float() for tap in taps)


def relative_error(said_BSC: Tensor, wanted_BSC: Tensor, mask_BS: Tensor) -> Tensor:
    """Mean square of the difference over that of what is wanted, at places that may be looked at."""
    return F.mse_loss(said_BSC[mask_BS], wanted_BSC[mask_BS]) / wanted_BSC[mask_BS].square().mean()


def joined_stages(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What the joined model went through: stages of the head as in the model before, all others as in the new one."""
    of_head = {stage.name for stage in CURRICULUM if stage.job == "head"}
    ours = [name for name in after.get("stages", []) if name not in of_head]
    return [*ours, *(name for name in before.get("stages", []) if name in of_head), "rejoin"]


def main() -> int:
    """`python -m dsv4.train.rejoin --before assets/nano --after NEW --data build/data --out DIR`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("before", "after", "data", "out"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--rows", type=int, default=32)
    args = parser.parse_args()
    before, after = Model.load(Path(args.before)), Model.load(Path(args.after))
    error = rejoin(before, after, Path(args.data), minutes=args.minutes, rows=args.rows)
    about = {name: after.about[name] for name in ("name", "size", "talks") if name in after.about}
    about |= {"stages": joined_stages(before.about, after.about), "policy": "nano"}
    after.save(Path(args.out), policy=nano_bits, about=about)
    print(f"{args.out}: relative error {error:.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
