"""`python -m dsv4.rack.run`: train a core over several processes (torchrun), sharded, and go on after any was killed.

Weights are sharded by FSDP2 block by block; with `--experts spread` experts are not, but live on one process each.
Every step's rows are drawn by its number and cut by process, so that the number of processes does not change what is
learnt. Source: FSDP2 and distributed checkpoint of torch; the recipe of nano is `dsv4.train`, this one is for cores.
Shape letters: B rows, T tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from dsv4.core import presets
from dsv4.core.config import CoreConfig
from dsv4.core.model import LanguageCore
from dsv4.core.moe import Experts
from dsv4.errors import InputError
from dsv4.rack.exchange import SpreadExperts

SPREADS = ("shard", "spread")
LATEST = "latest.json"
BALANCE = 1e-3  # step of the routers' biases towards even loads


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say; every process of torchrun runs this."""
    parser = argparse.ArgumentParser(prog="python -m dsv4.rack.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ids", required=True, metavar="FILE", help="token ids to learn from, .npy")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the run; an interrupted one goes on")
    parser.add_argument("--config", required=True, help="a preset of ours, or a JSON file of CoreConfig.to_dict")
    parser.add_argument("--experts", default="shard", help="shard (FSDP2, default) or spread (all-to-all)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=8, help="of one step, over all processes")
    parser.add_argument("--length", type=int, default=256, help="tokens of a row")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    kind = "cpu" if (found := torch.accelerator.current_accelerator(check_available=True)) is None else found.type
    if not dist.is_initialized():
        for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "0")):
            os.environ.setdefault(name, value)
        dist.init_process_group("gloo" if kind == "cpu" else None)
    if kind != "cpu":
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)))
    try:
        return train(args, kind)
    finally:
        dist.destroy_process_group()


def train(args: argparse.Namespace, kind: str) -> int:
    """The loop; prints a line a step on the first process."""
    ranks, rank, folder = dist.get_world_size(), dist.get_rank(), Path(args.out)
    if args.experts not in SPREADS:
        raise InputError(f"--experts is one of {', '.join(SPREADS)}, got '{args.experts}'")
    if args.rows % ranks:
        raise InputError(f"--rows ({args.rows}) must divide among {ranks} processes")
    ids = np.load(args.ids, mmap_mode="r")
    core, model = build(config_of(args.config, args.seed), kind=kind, spread=args.experts == "spread", seed=args.seed)
    optimizer = torch.optim.AdamW(core.parameters(), lr=args.lr, foreach=False)
    start = restore(folder, core, optimizer, vars(args))
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(start, args.steps):
        rows_BT = draw(ids, step, args).to(kind).chunk(ranks)[rank]
        made = model(rows_BT[:, :-1], logits=False, index_loss="sparse" in core.config.reach)
        logits_BTV = core.logits(made.hidden_BTD)
        loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), rows_BT[:, 1:].flatten())
        (loss if made.index_loss is None else loss + made.index_loss).backward()
        join_gradients(core)
        optimizer.step()
        optimizer.zero_grad()
        loads_LE = made.loads_LE.detach().clone()
        dist.all_reduce(loads_LE)
        for block, load_E in zip(core.blocks, loads_LE, strict=True):
            if hasattr(block.experts, "router"):
                block.experts.router.nudge(load_E, BALANCE)
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        if rank == 0:
            print(json.dumps({"step": step + 1, "loss": float(mean) / ranks}), flush=True)
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save(folder, core, optimizer, step + 1, vars(args))
    return 0


def config_of(name: str, seed: int) -> CoreConfig:
    """A preset's or a file's configuration."""
    if name.endswith(".json"):
        return CoreConfig.from_dict(json.loads(Path(name).read_text()))
    if name not in ("micro", "nano", "small", "lite", "flagship"):
        raise InputError(f"unknown configuration '{name}': a preset (micro to flagship) or a .json file")
    return getattr(presets, name)()


def build(config: CoreConfig, *, kind: str, spread: bool, seed: int) -> tuple[LanguageCore, nn.Module]:
    """The core with its weights sharded, the same for every number of processes, and what is called."""
    torch.manual_seed(seed)
    core = LanguageCore.from_config(config).to(kind)
    mesh = init_device_mesh(kind, (dist.get_world_size(),), mesh_dim_names=("data",))
    kept: set[nn.Parameter] = set()
    for block in core.blocks:
        if spread and isinstance(block.experts, Experts):
            block.experts = SpreadExperts(block.experts, mesh)
            kept |= {block.experts.experts_in, block.experts.experts_out}
    for block in core.blocks:
        fully_shard(block, mesh=mesh, ignored_params=kept & set(block.parameters()) or None)
    # The root's own parameters (embedding, head, norms) are also read by `logits`, outside of its forward pass.
    fully_shard(core, mesh=mesh, ignored_params=kept or None, reshard_after_forward=False)
    core.set_reshard_after_backward(True)
    return core.train(), core


def join_gradients(core: LanguageCore) -> None:
    """Spread experts have gradients of all processes' tokens: sums over their losses become means, as FSDP makes."""
    ranks = dist.get_world_size()
    for block in core.blocks:
        if isinstance(block.experts, SpreadExperts):
            for parameter in (block.experts.experts_in, block.experts.experts_out):
                if parameter.grad is not None:
                    parameter.grad /= ranks
    for parameter in core.parameters():
        if parameter.grad is None:  # an unused part, which the optimiser must know of all the same
            parameter.grad = torch.zeros_like(parameter)


def draw(ids: np.ndarray, step: int, args: argparse.Namespace) -> Tensor:
    """The rows of a step [B, T + 1], whatever the number of processes."""
    generator = np.random.default_rng([args.seed, step])
    starts = generator.integers(0, len(ids) - args.length, args.rows)
    return torch.from_numpy(np.stack([np.asarray(ids[s : s + args.length + 1], np.int64) for s in starts]))


def save(folder: Path, core: LanguageCore, optimizer: torch.optim.Optimizer, step: int, run: dict[str, Any]) -> None:
    """A distributed checkpoint of weights and optimiser; `latest.json` names it last, older ones are removed."""
    weights, moments = get_state_dict(core, optimizer)
    place = folder / f"step-{step:08d}"
    if dist.get_rank() == 0:
        shutil.rmtree(place, ignore_errors=True)
    dist.barrier()
    dcp.save({"weights": weights, "moments": moments}, checkpoint_id=place)
    dist.barrier()
    if dist.get_rank() == 0:
        beside = folder / (LATEST + ".tmp")
        beside.write_text(json.dumps({"step": step, "run": _fixed(run)}) + "\n")
        os.replace(beside, folder / LATEST)
        for old in folder.glob("step-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)
    dist.barrier()


def restore(folder: Path, core: LanguageCore, optimizer: torch.optim.Optimizer, run: dict[str, Any]) -> int:
    """Go on from the newest whole checkpoint, whatever number of processes wrote it; the step to go on with."""
    if not (folder / LATEST).is_file():
        return 0
    found = json.loads((folder / LATEST).read_text())
    if found["run"] != _fixed(run):
        raise InputError(f"{folder} is a run with other settings; name another folder")
    weights, moments = get_state_dict(core, optimizer)
    state = {"weights": weights, "moments": moments}
    dcp.load(state, checkpoint_id=folder / f"step-{found['step']:08d}")
    set_state_dict(core, optimizer, model_state_dict=state["weights"], optim_state_dict=state["moments"])
    return found["step"]


def _fixed(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ("out", "steps", "save_every", "experts")}


if __name__ == "__main__":
    raise SystemExit(main())
