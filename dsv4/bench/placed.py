"""`dsv4 bench placed`: decoding with experts mapped from files, beside what memory and disk allow, in bounded memory.

A model of random weights with the layers of DeepSeek-V2-Lite is written, and read by a process of its own whose peak is
taken from the system. Shape letters: W hidden, F inner size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dsv4.errors import InputError

PIECE = 8 << 20
WARM_UP = 4
GROUP = 64  # columns a scale, where weights are packed: the most that divides all, as `dsv4 quantize` chooses


def main(argv: list[str] | None = None) -> int:
    """Write the model, measure the machine, decode in each home, print a table."""
    parser = argparse.ArgumentParser(prog="dsv4 bench placed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=8, help="of which the first is dense (default 8: 8.4 GB)")
    parser.add_argument("--times", type=float, default=4.0, help="how many times the memory the model is (default 4)")
    parser.add_argument("--tokens", type=int, default=24, help="tokens timed (default 24)")
    parser.add_argument("--folder", metavar="DIR", help="where to write the model for the time (default: temporary)")
    parser.add_argument("--small", action="store_true", help="a tiny model: see that everything runs")
    parser.add_argument("--child", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--all-here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(decode(Path(args.child), args.memory, args.tokens, all_here=args.all_here)))
        return 0
    if args.layers < 2 or args.times < 1 or args.tokens < 1:
        raise InputError("--layers needs at least 2, --times and --tokens at least 1")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="dsv4-placed-") as place:
        folder = Path(place)
        size = write_model(folder, layers=args.layers, small=args.small)
        print(f"model {size / 1e9:.2f} GB, random weights, one computing thread\n")
        print("| experts | allowed, GB | peak, GB | tokens/s | hits | bound by | GB/s | it allows | share |")
        print("|---|---|---|---|---|---|---|---|---|")
        for what, allowed in (("mapped, all in memory", 2 * size + (2 << 30)), ("mapped", int(size / args.times))):
            all_here = what != "mapped"
            disk = 0.0 if all_here else disk_speed(folder)
            made = _child(folder, 8 << 30 if args.small else allowed, args.tokens, all_here)
            _print(what, allowed, made, 0.0 if all_here else (disk + disk_speed(folder)) / 2)
    return 0


def _print(what: str, allowed: int, made: dict[str, float], disk: float) -> None:
    """A row: in memory by CPU time against a product over plain memory, on disk by the clock against a cold reading."""
    if disk:
        bound, possible, speed = "disk", disk, made["fetched"] / made["seconds"] / 1e9
    else:
        bound, possible = "memory", made["memory"]
        speed = (made["used"] + made["dense"]) / made["thread"] / 1e9
    print(
        f"| {what} | {allowed / 1e9:.2f} | {made['peak'] / 1e9:.2f} | {made['tokens'] / made['seconds']:.2f} "
        f"| {100 * made['hit_rate']:.0f} % | {bound} | {speed:.2f} | {possible:.2f} "
        f"| {100 * speed / possible:.0f} % |\n<!-- {made['says']} -->",
        flush=True,
    )


def _child(folder: Path, memory: int, tokens: int, all_here: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "dsv4.bench.placed", "--child", str(folder)]
    command += ["--memory", str(memory), "--tokens", str(tokens)]
    command += ["--all-here"] if all_here else []
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    if run.returncode:
        raise InputError(f"the measuring process failed: {run.stderr.strip().splitlines()[-1:]}")
    return json.loads(run.stdout.splitlines()[-1])


def decode(folder: Path, memory: int, tokens: int, *, all_here: bool = False) -> dict[str, Any]:
    """Load with experts mapped within `memory` bytes, read a prompt, decode, and say what it took.

    all_here: bring every expert in before the clock starts, and measure what memory allows.
    """
    import torch

    from dsv4.checkpoint.placed import load_placed

    torch.set_num_threads(1)
    placed = load_placed(folder, experts="mapped", memory=memory)
    core, meter = placed.core, placed.meter
    cache = core.new_cache(1, 16 + WARM_UP + tokens)
    dense = sum(one.numel() * one.element_size() for name, one in core.named_parameters() if name != "embedding.weight")
    with torch.inference_mode():
        token = core(torch.arange(8)[None], cache=cache, last_only=True).logits_BTV.argmax(-1)
        for _ in range(WARM_UP):
            token = core(token, cache=cache, last_only=True).logits_BTV.argmax(-1)
        if all_here:
            for block in core.blocks:  # all in memory: bring the rest in before the clock starts
                if (store := getattr(block.experts, "store", None)) is not None:
                    for expert in range(core.config.experts.count):
                        store.get(expert)
        meter.used = meter.hits = meter.bytes_used = meter.bytes_fetched = 0
        meter.waited = 0.0
        peak = peak_bytes()  # before the sum over plain memory takes more
        reached = memory_speed() if all_here else 0.0
        begun, thread = time.perf_counter(), time.thread_time()
        for _ in range(tokens):
            token = core(token, cache=cache, last_only=True).logits_BTV.argmax(-1)
        seconds, thread = time.perf_counter() - begun, time.thread_time() - thread
        reached = max(reached, memory_speed()) if all_here else 0.0
    return {"thread": thread, "memory": reached,
        "tokens": tokens, "seconds": seconds, "hit_rate": meter.hit_rate, "used": meter.bytes_used,
        "fetched": meter.bytes_fetched, "dense": dense * tokens,
        "peak": peak if all_here else peak_bytes(),
        "says": placed.says(tokens, seconds),
    }  # fmt: skip


def folder_bytes(folder: Path) -> int:
    """Bytes of all weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def peak_bytes() -> int:
    """The most that this process has had in memory, mapped files included."""
    status = Path("/proc/self/status")
    if status.is_file():  # what a parent had before it started this program does not count
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def write_model(folder: Path, *, layers: int, small: bool = False, seed: int = 0, bits: int | None = None) -> int:
    """A random model in the shape of DeepSeek-V2-Lite with fewer layers and words; bytes of weights.

    bits: projections and experts are codes of so many, packed as `dsv4 quantize` does; bfloat16 without.
    """
    import torch

    from dsv4.checkpoint.names import recipe
    from dsv4.checkpoint.pretrained import _empty, _write_config
    from dsv4.checkpoint.shards import write_shards
    from dsv4.core.config import CoreConfig, ExpertsConfig, LanesConfig, LatentConfig

    scale = 16 if small else 1
    config = CoreConfig(
        vocab_size=8192 // scale, hidden=2048 // scale, reach=("full",) * layers, tied=False, embed_norm=False,
        lanes=LanesConfig(count=1),
        attention=LatentConfig(heads=16, latent=512 // scale, plain=128 // scale, rotated=64, value=128 // scale),
        experts=ExpertsConfig(count=64, chosen=6, inner=1408 // scale, shared_inner=2816 // scale, dense=(0,),
                              dense_inner=10944 // scale, score="softmax", normalised=False, scale=1.0),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((1 << 25) // scale, generator=generator).bfloat16()

    def tensors():
        for name, empty in _empty(config, None).state_dict().items():
            plan = recipe(name, config, "deepseek_v2")
            rows = list(empty.shape[1:] if plan.stacked else empty.shape)
            for parts in plan.rows:
                for part in parts:
                    shape = [rows[0] // len(parts), *rows[1:]]
                    yield from _stored(name, part, _random(shape, noise, generator), bits)

    written = write_shards(folder, tensors(), shard_bytes=1_000_000_000)
    _write_config(folder, config, "deepseek_v2", torch.bfloat16)
    return written


def _stored(name: str, part: str, tensor, bits: int | None):
    """A tensor under its name, or random codes of its shape and size with scales, under theirs."""
    import torch

    from dsv4.checkpoint.shards import PACKED

    rows, columns = tensor.shape if tensor.ndim == 2 else (0, 1)
    kept = not rows or name.startswith(("embedding", "head")) or "router" in name
    if bits is None or kept or columns % GROUP:
        yield part, tensor
        return
    words = tensor.view(torch.int32).flatten()[: rows * columns * bits // 32].clone()
    words ^= words << 7  # exponents of bfloat16 are much alike, and codes must not be
    spread = 2 ** (bits - 1) / 3**0.5  # of codes drawn evenly
    scales = torch.full((rows, columns // GROUP), columns**-0.5 / spread).bfloat16()
    yield from zip((part + end for end in PACKED), (words.view(rows, -1), scales, torch.tensor(tensor.shape)),
                   strict=True)  # fmt: skip


def _random(shape: list[int], noise, generator):
    """Numbers of their own for each tensor without drawing them all: a stretch of the noise from a random place."""
    import torch

    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    count = 1
    for size in shape:
        count *= size
    begin = int(torch.randint(0, len(noise), (), generator=generator))
    picked = torch.cat((noise[begin:], noise[:begin]))[:count]
    return picked.view(shape) * shape[-1] ** -0.5


def memory_speed() -> float:
    """GB of plain memory that one thread reads in a second of its CPU time, by a sum, which does least beside."""
    import torch

    plain_N = torch.ones(64 << 20)
    best = 0.0
    for _ in range(4):
        begun = time.thread_time()
        plain_N.sum()
        best = max(best, plain_N.numel() * 4 / (time.thread_time() - begun) / 1e9)
    return best


def disk_speed(folder: Path, threads: int = 3) -> float:
    """GB/s of reading the model's files cold, in order, by a few threads."""
    paths = sorted(folder.glob("*.safetensors"))
    jobs = []
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        jobs += [(path, start) for start in range(0, path.stat().st_size, 4 * PIECE)]

    def read(job: tuple[Path, int]) -> int:
        descriptor, done = os.open(job[0], os.O_RDONLY), 0
        try:
            held = bytearray(PIECE)
            for part in range(4):
                done += os.preadv(descriptor, [held], job[1] + part * PIECE)
        finally:
            os.close(descriptor)
        return done

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(read, jobs))
    return total / (time.perf_counter() - begun) / 1e9


if __name__ == "__main__":
    sys.exit(main())
