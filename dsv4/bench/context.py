"""`dsv4 bench context`: what a token costs at lengths up to a million, in time, bytes and memory.

At each length the cache holds noise, as if so much had been read; then one chunk is read and a few tokens are decoded.
Shape letters: T tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import time
from statistics import median
from typing import Any

from dsv4.errors import InputError, unknown


def main(argv: list[str] | None = None) -> int:
    """Print a line for each length, and write them as JSON lines where asked."""
    parser = argparse.ArgumentParser(prog="dsv4 bench context", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", default="4096,16384,65536,262144,1048576", metavar="LIST")
    parser.add_argument("--chunk", type=int, default=256, help="tokens read at a time (default 256)")
    parser.add_argument("--tokens", type=int, default=5, help="tokens decoded at each length (default 5)")
    parser.add_argument("--layers", type=int, default=3, help="how many of nano's layers (default 3)")
    parser.add_argument("--cache-rows", default="plain", help="plain or fp8")
    parser.add_argument("--index-keys", default="plain", help="plain, int8 or fp8")
    parser.add_argument("--pages", action="store_true", help="compare pages with plain memory instead")
    parser.add_argument("--out", metavar="FILE", help="also write the figures here, a JSON object a line")
    args = parser.parse_args(argv)
    if args.cache_rows not in ("plain", "fp8"):
        raise unknown("rows", args.cache_rows, ("plain", "fp8"))
    if args.index_keys not in ("plain", "int8", "fp8"):
        raise unknown("index keys", args.index_keys, ("plain", "int8", "fp8"))
    if not 1 <= args.layers <= 6:
        raise InputError(f"--layers is between 1 and 6, got {args.layers}")
    lengths = _lengths(args.lengths, args.chunk)
    import torch

    from dsv4.core import presets
    from dsv4.core.model import LanguageCore

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = presets.nano()
    config = dataclasses.replace(config, reach=config.reach[: args.layers], engram=None)
    core = LanguageCore.from_config(config).bfloat16().eval().requires_grad_(False)
    print(
        f"nano's first {config.layers} layers ({', '.join(config.reach)}), rows {args.cache_rows}, chunk {args.chunk}"
    )
    if args.pages:
        _compare_pages(core, lengths, args)
        return 0
    print(
        f"{'tokens':>10} {'read, ms/token':>15} {'decode, ms':>11} {'bytes/token':>12} {'formula':>8} {'peak, MB':>9}"
    )
    lines = [_measure(core, length, args) for length in lengths]
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return 0


def _lengths(given: str, chunk: int) -> list[int]:
    try:
        lengths = [int(length) for length in given.split(",")]
    except ValueError as error:
        raise InputError(f"--lengths takes whole numbers with commas between, got '{given}'") from error
    if chunk < 1 or min(lengths) <= chunk:
        raise InputError(f"every length must be more than the chunk ({chunk}), got {given}")
    return lengths


def _measure(core: Any, length: int, args: Any) -> dict[str, float]:
    import torch

    cache = core.new_cache(1, length + args.tokens, rows=args.cache_rows, index_keys=args.index_keys)
    cache.fill_with_noise(length - args.chunk)
    ids_BT = torch.randint(0, core.config.vocab_size, (1, args.chunk))
    gc.collect()
    before = _reset_peak()
    with torch.inference_mode():
        started = time.thread_time()
        core(ids_BT, cache=cache, last_only=True)
        read = (time.thread_time() - started) / args.chunk
        peak = _peak() - before
        steps = []
        for _ in range(args.tokens):
            started = time.thread_time()
            core(ids_BT[:, :1], cache=cache, last_only=True)
            steps.append(time.thread_time() - started)
    line = {
        "length": length,
        "read_ms": 1000 * read,
        "decode_ms": 1000 * min(steps),
        "bytes": cache.nbytes / cache.capacity,
        "formula": _formula(core.config, args, cache.capacity),
        "peak_mb": peak / 1e6,
    }
    print(f"{length:>10,} {line['read_ms']:>15.2f} {line['decode_ms']:>11.2f} {line['bytes']:>12.1f} "
          f"{line['formula']:>8.1f} {line['peak_mb']:>9.1f}", flush=True)  # fmt: skip
    return line


def _compare_pages(core: Any, lengths: list[int], args: Any) -> None:
    """Both kinds of cache, token by token in turns: medians of times and of their ratios, and what a fork costs."""
    import torch

    ids_BT = torch.zeros(1, 1, dtype=torch.long)
    print(f"{'tokens':>10} {'plain, ms':>10} {'pages, ms':>10} {'ratio':>6} {'fork, ms':>9} {'pages':>7} "
          f"{'fork, MB':>9} {'pages':>7}")  # fmt: skip
    for length in lengths:
        room = length + 2 * args.tokens + 4
        caches = [core.new_cache(1, room, rows=args.cache_rows, index_keys=args.index_keys, pages=one)
                  for one in (False, True)]  # fmt: skip
        times: list[list[float]] = [[], []]
        with torch.inference_mode():
            for one in caches:
                one.fill_with_noise(length)
            for turn in range(args.tokens):
                for kind in (0, 1) if turn % 2 else (1, 0):
                    started = time.thread_time()
                    core(ids_BT, cache=caches[kind], last_only=True)
                    times[kind].append(1000 * (time.thread_time() - started))
        pool, forks, costs = caches[1].pool, [], []
        held = pool.nbytes
        for one in caches:
            started = time.thread_time()
            forks.append(one.fork())
            costs.append(1000 * (time.thread_time() - started))
        ratio = median(paged / plain for plain, paged in zip(*times, strict=True))
        middle = [median(each) for each in times]
        print(f"{length:>10,} {middle[0]:>10.2f} {middle[1]:>10.2f} {ratio:>6.3f} {costs[0]:>9.1f} {costs[1]:>7.1f} "
              f"{forks[0].nbytes / 1e6:>9.1f} {(pool.nbytes - held) / 1e6:>7.2f}", flush=True)  # fmt: skip


def _formula(config: Any, args: Any, capacity: int) -> float:
    """Bytes a token: an entry and an index key a sparse layer, a window of entries for a sliding one."""
    from dsv4.ops.fp8 import RowFormat

    part = config.attention
    key = 2 * part.index_size if args.index_keys == "plain" else part.index_size + 4
    entry = 2 * part.entry if args.cache_rows == "plain" else RowFormat.shared(part.entry, part.rotated).bytes
    sparse = sum(reach == "sparse" for reach in config.reach)
    sliding = sum(reach == "sliding" for reach in config.reach)
    return sparse * (entry + key) + sliding * entry * min(part.window, capacity) / capacity


def _reset_peak() -> int:
    """Forget the highest memory of this process, where the system lets us; the bytes it holds now."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            found = next(line for line in file if line.startswith(key))
    except OSError:  # systems without /proc say only the highest ever
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    main()
