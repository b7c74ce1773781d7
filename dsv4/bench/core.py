"""`dsv4 bench core`: how fast the language core is, beside transformers and beside its own plainer forms.

Every figure is a ratio in one process, the two sides in turn, thread CPU time, the fastest of a few; results are
checked to be equal first. Shape letters: B batch, T tokens, S entries, D width.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsv4.errors import InputError, unknown

EQUAL = 2e-5  # of the largest logit
LONGEST_TRIED = 16_384  # the peer keeps the settings that were quickest up to here: trying all of them takes minutes


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: two times in milliseconds, and how many times the second is the first."""

    number: int
    what: str
    ours: float
    peer: float
    against: str
    goal: str

    @property
    def ratio(self) -> float:
        """Peer over ours: above one, ours is quicker."""
        return self.peer / self.ours

    def line(self) -> str:
        """For people."""
        figures = f"{self.ours:>10.3f} {self.peer:>10.3f} {self.ratio:>8.2f}"
        return f"{self.number}  {self.what:<42} {figures}  {self.goal:<14} {self.against}"


def main(argv: list[str] | None = None) -> int:
    """Measure the rows asked for, print each as it is done, and write them as JSON lines where asked."""
    parser = argparse.ArgumentParser(prog="dsv4 bench core", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", metavar="PEER", help="transformers: also the rows that need it")
    parser.add_argument("--rows", metavar="LIST", help="only these rows (1 to 9), with commas between")
    parser.add_argument("--repeats", type=int, default=9, help="measurements, of which the shortest counts (default 9)")
    parser.add_argument("--longest", type=int, default=65_536, help="cut longer contexts to this (default 65536)")
    parser.add_argument("--small", action="store_true", help="tiny models: see that everything runs")
    parser.add_argument("--out", metavar="FILE", help="also write the figures here, a JSON object a line")
    args = parser.parse_args(argv)
    wanted = _numbers(args.rows)
    if args.against not in (None, "transformers"):
        raise unknown("peer", args.against, ("transformers",))
    import torch

    torch.set_num_threads(1)
    title = f"{'':<3}{'milliseconds, one thread, bfloat16':<42} {'ours':>10} {'peer':>10} {'ratio':>8}"
    print(f"{title}  {'goal':<14} against")
    out = open(args.out, "w", encoding="utf-8") if args.out else None  # noqa: SIM115 - closed below
    try:
        with torch.inference_mode(False):
            for row in _rows(wanted, args):
                print(row.line(), flush=True)
                if out:
                    out.write(json.dumps({**asdict(row), "ratio": row.ratio, "cores": os.cpu_count()}) + "\n")
    finally:
        if out:
            out.close()
    return 0


def _numbers(given: str | None) -> list[int]:
    if given is None:
        return list(ROWS)
    try:
        numbers = [int(number) for number in given.split(",")]
    except ValueError as error:
        raise InputError(f"--rows takes numbers with commas between, got '{given}'") from error
    for number in numbers:
        if number not in ROWS:
            raise unknown("row", number, ROWS)
    return numbers


def _rows(wanted: list[int], args: Any) -> Iterator[Row]:
    for number in wanted:
        if number in PEERED and args.against is None:
            print(f"{number}  needs --against transformers", flush=True)
            continue
        yield from ROWS[number](args)


def in_turn(calls: dict[str, Callable[[], Any]], *, repeats: int) -> dict[str, float]:
    """The shortest thread CPU time of each call in milliseconds, the calls made in turn after one unmeasured round."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(repeats + 1):
        for name, call in calls.items():
            started = time.thread_time()
            call()
            if turn:
                best[name] = min(best[name], time.thread_time() - started)
    return {name: 1000 * seconds for name, seconds in best.items()}


def _pair(kind: str, args: Any) -> tuple[Any, Any]:
    from .core_peers import pair

    peer, core, apart = pair(kind, small=args.small)
    if apart > EQUAL:
        raise InputError(f"the core and transformers' {kind} differ by {apart:.1e}, so their speed says nothing")
    return peer, core


def _decode(number: int, kind: str, contexts: dict[int, str], args: Any) -> Iterator[Row]:
    import torch

    from .core_peers import best_setting, filled_peer

    peer, core = _pair(kind, args)
    one_BT, setting = torch.zeros(1, 1, dtype=torch.long), "eager, eager"
    for context, goal in contexts.items():
        context = min(context, args.longest)
        ours = core.new_cache(1, context + 64, rewind=1)
        ours.fill_with_noise(context)
        eight = core.new_cache(1, context + 64, rewind=1, index_keys="int8") if kind == "V3.2" else None
        if eight is not None:
            eight.fill_with_noise(context)
        theirs = filled_peer(peer, kind, context)

        def step(core: Any = core, ours: Any = ours) -> None:
            core(one_BT, cache=ours, last_only=True)
            ours.truncate(ours.length - 1)

        calls: dict[str, Callable[[], None]] = {"ours": step}
        if eight is not None:
            calls["eight"] = lambda eight=eight, step=step: step(ours=eight)

        def peer_step(peer: Any = peer, theirs: Any = theirs) -> None:
            peer(one_BT, past_key_values=theirs)

        with torch.inference_mode():
            if context <= LONGEST_TRIED:
                setting = best_setting(peer, kind, lambda: in_turn({"peer": peer_step}, repeats=1)["peer"])
            times = in_turn({**calls, "peer": peer_step}, repeats=args.repeats)
        against = f"transformers {kind} ({setting})"
        for name in calls:
            keys = ", int8 keys" if name == "eight" else ""
            yield Row(number=number, what=f"decode one token after {context:,}{keys}", ours=times[name],
                      peer=times["peer"], against=against, goal=goal)  # fmt: skip


def _flatness(args: Any) -> Iterator[Row]:
    import torch

    _, core = _pair("V3.2", args)
    one_BT, calls = torch.zeros(1, 1, dtype=torch.long), {}
    for context in (512, min(65_536, args.longest)):
        cache = core.new_cache(1, context + 8)
        cache.fill_with_noise(context)

        def step(cache: Any = cache) -> None:
            core(one_BT, cache=cache, last_only=True)
            cache.truncate(cache.length - 1)

        calls[f"{context}"] = step
    with torch.inference_mode():
        short, long = in_turn(calls, repeats=args.repeats).values()
    yield Row(number=4, what="decode after 512 (ours) and 65,536 (peer)", ours=short, peer=long, against="ours, longer",
              goal="<= 3")  # fmt: skip


def _one_layer(args: Any) -> Iterator[Row]:
    import torch

    from dsv4.core import presets
    from dsv4.core.model import LanguageCore

    length = min(1_048_576, args.longest * 16)
    config = presets.nano()
    config = dataclasses.replace(config, reach=("sparse",), engram=None)
    core = LanguageCore.from_config(config).bfloat16().eval().requires_grad_(False)
    caches = [core.new_cache(1, length + 8, index_keys=keys) for keys in ("plain", "int8")]
    for cache in caches:
        cache.fill_with_noise(length)
    block = core.blocks[0]
    x_BTW = torch.randn(1, 1, config.hidden, dtype=torch.bfloat16)
    calls = {}
    for name, sparse, cache in (("plain", True, caches[0]), ("int8", True, caches[1]), ("peer", False, caches[0])):

        def step(sparse: bool = sparse, cache: Any = cache) -> None:
            frame = _frame(core, cache, sparse)
            block.attention(x_BTW, frame)

        calls[name] = step
    with torch.inference_mode():
        times = in_turn(calls, repeats=args.repeats)
    for name in ("plain", "int8"):
        what = f"one sparse layer after {length:,}, {name} keys"
        yield Row(number=5, what=what, ours=times[name], peer=times["peer"], against="ours, dense",
                  goal="ours <= 9 ms")  # fmt: skip


def _frame(core: Any, cache: Any, sparse: bool) -> Any:
    import torch

    from dsv4.core.frame import make_frame

    return make_frame(core.config, positions_BT=torch.tensor([[cache.length]]), batch=1, segments_BT=None, cache=cache,
                      sparse=sparse, index_loss=None)  # fmt: skip


def _prefill(args: Any) -> Iterator[Row]:
    import torch

    from .core_peers import best_setting

    length = min(2048, args.longest)
    for kind, goal in (("V3", ">= 2.5"), ("V3.2", ">= 4")):
        peer, core = _pair(kind, args)
        ids_BT = torch.randint(0, 256, (1, length))

        def ours(core: Any = core, ids_BT: Any = ids_BT) -> None:
            core(ids_BT, cache=core.new_cache(1, length), last_only=True)

        def theirs(peer: Any = peer, ids_BT: Any = ids_BT) -> None:
            peer(ids_BT, use_cache=True, logits_to_keep=1)

        with torch.inference_mode():
            setting = best_setting(peer, kind, lambda: in_turn({"peer": theirs}, repeats=1)["peer"], many=True)
            times = in_turn({"ours": ours, "peer": theirs}, repeats=max(1, args.repeats // 3))
        yield Row(number=6, what=f"read {length:,} tokens", ours=times["ours"], peer=times["peer"],
                  against=f"transformers {kind} ({setting})", goal=goal)  # fmt: skip


def _fp8(args: Any) -> Iterator[Row]:
    import torch

    from dsv4.ops.fp8 import read_e4m3

    codes = torch.randint(0, 127, (min(65_536, args.longest), 64), dtype=torch.uint8)
    stored = codes.view(torch.float8_e4m3fn)
    assert torch.equal(read_e4m3(codes, torch.bfloat16), stored.to(torch.bfloat16))
    calls = {"ours": lambda: read_e4m3(codes, torch.float16), "peer": lambda: stored.to(torch.float16)}
    times = in_turn(calls, repeats=args.repeats)
    yield Row(number=7, what=f"open {codes.numel():,} numbers of FP8 rows", ours=times["ours"], peer=times["peer"],
              against="torch's cast", goal=">= 15")  # fmt: skip


def _lanes(args: Any) -> Iterator[Row]:
    import torch

    from dsv4.core import presets
    from dsv4.core.config import LanesConfig
    from dsv4.core.model import LanguageCore

    base = dataclasses.replace(presets.nano(), reach=("sliding",) * 2, engram=None)
    ids_BT = torch.randint(0, 8192, (1, min(512, args.longest)))
    calls = {}
    for name, lanes in (("ours", 2), ("peer", 1)):
        core = LanguageCore.from_config(dataclasses.replace(base, lanes=LanesConfig(count=lanes))).train()

        def step(core: Any = core) -> None:
            core.hidden(ids_BT).square().mean().backward()

        calls[name] = step
    times = in_turn(calls, repeats=args.repeats)
    yield Row(number=8, what="mHC of two lanes, forward and backward", ours=times["ours"], peer=times["peer"],
              against="plain residual, float32", goal=">= 0.71")  # fmt: skip


def _engram(args: Any) -> Iterator[Row]:
    import torch

    from dsv4.core import presets
    from dsv4.core.model import LanguageCore

    torch.manual_seed(0)
    config = dataclasses.replace(presets.nano(), engram=dataclasses.replace(presets.nano().engram, rows=200_000))
    cores = [LanguageCore.from_config(config).eval().requires_grad_(False) for _ in range(1)]
    torch.manual_seed(0)
    cores.append(LanguageCore.from_config(config).eval().requires_grad_(False))
    one_BT = torch.zeros(1, 1, dtype=torch.long)
    ids_BT = torch.randint(0, 8192, (1, 32))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        cores[1].place_memory("mapped", Path(folder))
        assert torch.equal(cores[0](ids_BT).logits_BTV, cores[1](ids_BT).logits_BTV)
        calls = {}
        for name, core in zip(("peer", "ours"), cores, strict=True):
            cache = core.new_cache(1, 256)

            def step(core: Any = core, cache: Any = cache) -> None:
                core(one_BT, cache=cache, last_only=True)

            calls[name] = step
        times = in_turn(calls, repeats=max(10, args.repeats))
    yield Row(number=9, what="decode with Engram mapped from a file", ours=times["ours"], peer=times["peer"],
              against="ours, resident", goal=">= 0.97")  # fmt: skip


ROWS: dict[int, Callable[[Any], Iterator[Row]]] = {
    1: lambda args: _decode(1, "V3", {512: ">= 2.5"}, args),
    2: lambda args: _decode(2, "V3.2", {4096: ">= 8", 16_384: ">= 60", 65_536: ">= 150"}, args),
    3: lambda args: _decode(3, "V4", {512: ">= 2", 65_536: ">= 3"}, args),
    4: _flatness,
    5: _one_layer,
    6: _prefill,
    7: _fp8,
    8: _lanes,
    9: _engram,
}
PEERED = (1, 2, 3, 4, 6)


if __name__ == "__main__":
    main()
