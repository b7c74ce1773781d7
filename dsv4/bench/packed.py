"""`dsv4 bench packed`: decoding and reading with weights that stay packed, beside the same model in bfloat16.

Random weights in the layers of DeepSeek-V2-Lite, or random codes of eight and four bits; one process, one thread, the
models take turns token by token. Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dsv4.errors import InputError

WARM_UP = 3
PROMPT = 256
SHAPE = (1408, 2048)  # of one expert's matrix
TIERS = (("bf16", None), ("q8", 8), ("q4", 4))


def main(argv: list[str] | None = None) -> int:
    """Write the three models, measure them in turns, print a table."""
    parser = argparse.ArgumentParser(prog="dsv4 bench packed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=3, help="of which the first is dense (default 3: 2.5 GB in bf16)")
    parser.add_argument("--tokens", type=int, default=24, help="tokens timed (default 24)")
    parser.add_argument("--folder", metavar="DIR", help="where to write the models for the time (default: temporary)")
    parser.add_argument("--small", action="store_true", help="tiny models: see that everything runs")
    args = parser.parse_args(argv)
    if args.layers < 2 or args.tokens < 1:
        raise InputError("--layers needs at least 2, --tokens at least 1")
    from dsv4.ops import native

    with tempfile.TemporaryDirectory(dir=args.folder, prefix="dsv4-packed-") as place:
        made = measure(Path(place), layers=args.layers, tokens=args.tokens, small=args.small)
    loops = "compiled loops" if native.library() is not None else "torch alone: no compiler here"
    print(f"random weights, one thread, {args.tokens} tokens after a prompt of {PROMPT}, {loops}\n")
    titles = ("weights", "GB in memory", "of them packed", "decode, tokens/s of CPU", "against bf16",
              "prompt, tokens/s", "against bf16", "largest difference from opened")  # fmt: skip
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    first = made[0]
    for one in made:
        apart = "–" if one["apart"] is None else f"{100 * one['apart']:.2f} %"
        print(
            f"| {one['tier']} | {one['bytes'] / 1e9:.2f} | {100 * one['packed'] / one['bytes']:.0f} % "
            f"| {1 / one['decode']:.2f} | {first['decode'] / one['decode']:.2f}x "
            f"| {PROMPT / one['prompt']:.1f} | {first['prompt'] / one['prompt']:.2f}x | {apart} |"
        )
    rows, columns = SHAPE
    took = products(small=args.small)
    told = ", ".join(f"{tier} {1e6 * one:.0f} µs ({took['bf16'] / one:.2f}x)" for tier, one in took.items())
    print(f"\none product of {rows} x {columns} with one vector, weights not in any cache: {told}")
    return 0


def products(*, small: bool) -> dict[str, float]:
    """Median seconds of CPU of one vector's product with a matrix in each form, over more matrices than caches hold."""
    import torch

    from dsv4.bench.placed import GROUP
    from dsv4.ops.linear import linear
    from dsv4.ops.packed import PackedMatrix

    rows, columns = SHAPE
    count = 4 if small else 100
    generator = torch.Generator().manual_seed(0)
    x_1K = torch.randn(1, columns, generator=generator).bfloat16()
    words = torch.randint(-(2**31), 2**31, (rows, columns // 4), generator=generator).int()
    scales = torch.rand(rows, columns // GROUP, generator=generator).bfloat16()
    plain = torch.randn(rows, columns, generator=generator).bfloat16()
    forms = {
        "bf16": [plain.clone() for _ in range(count)],
        "q8": [PackedMatrix(words.clone(), scales, columns) for _ in range(count)],
        "q4": [PackedMatrix(words[:, : columns // 8].clone(), scales, columns) for _ in range(count)],
    }
    took: dict[str, list[float]] = {tier: [] for tier in forms}
    with torch.inference_mode():
        for number in range(count):
            for tier, matrices in forms.items():
                begun = time.thread_time()
                linear(x_1K, matrices[number])
                took[tier].append(time.thread_time() - begun)
    return {tier: sorted(one)[len(one) // 2] for tier, one in took.items()}


def measure(folder: Path, *, layers: int, tokens: int, small: bool) -> list[dict[str, Any]]:
    """What each form takes: bytes, median seconds of CPU a token, seconds for a prompt, and how far logits are from
    those of the same codes opened, as a share of the largest."""
    import torch

    from dsv4.bench.placed import write_model
    from dsv4.checkpoint.packed import packed_bytes
    from dsv4.checkpoint.pretrained import load_core

    torch.set_num_threads(1)
    ids_BT = torch.arange(PROMPT)[None]
    cores, made = [], []
    for tier, bits in TIERS:
        write_model(folder / tier, layers=layers, small=small, bits=bits)
        core = load_core(folder / tier, packed=True)
        packed, rest = packed_bytes(core)
        made.append({"tier": tier, "bytes": packed + rest, "packed": packed, "apart": None, "decode": [], "prompt": []})
        cores.append(core)
    with torch.inference_mode():
        states = [[core.new_cache(1, PROMPT + WARM_UP + tokens), torch.zeros(1, 1, dtype=torch.long)] for core in cores]
        for core, state, one in zip(cores, states, made, strict=True):
            core(ids_BT, last_only=True)  # weights are views of files until they are read for the first time
            begun = time.thread_time()
            state[1] = core(ids_BT, cache=state[0], last_only=True).logits_BTV.argmax(-1)
            one["prompt"] = time.thread_time() - begun
        for turn in range(WARM_UP + tokens):
            for core, state, one in zip(cores, states, made, strict=True):
                begun = time.thread_time()
                state[1] = core(state[1], cache=state[0], last_only=True).logits_BTV.argmax(-1)
                if turn >= WARM_UP:
                    one["decode"].append(time.thread_time() - begun)
        for core, one, (tier, bits) in zip(cores, made, TIERS, strict=True):
            one["decode"] = sorted(one["decode"])[len(one["decode"]) // 2]
            if bits is not None:
                one["apart"] = _apart(core, load_core(folder / tier))
    return made


def _apart(packed: Any, opened: Any) -> float:
    """Largest difference of logits over a few tokens, one at a time, over the largest logit."""
    import torch

    found = []
    for core in (packed, opened):
        cache = core.new_cache(1, 8)
        found.append(torch.cat([core(torch.tensor([[one]]), cache=cache).logits_BTV.float() for one in range(8)], 1))
    return float((found[0] - found[1]).abs().max() / found[1].abs().max())


if __name__ == "__main__":
    sys.exit(main())
