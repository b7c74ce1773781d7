"""Rows 12 and 13 of the performance table: a picture and a clip from end to end, and the SVG mask beside llguidance.

Run `python bench/hands.py [--row 12|13] [--model NAME] [--steps N] [--runs N]`; it prints one JSON object a line.
Row 13 compares only where llguidance is installed (`pip install llguidance`), and says so otherwise. It walks the
same tokens through both: circles and rectangles in colours, which a grammar of token ranges can say.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import dsv4
from dsv4._parts import part

SHAPES = 200
GOALS = {"picture": 1.0, "clip": 3.0}


def seconds(work: Callable[[], Any], runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The median time of a call by a clock, after one that is not counted."""
    work()
    times = []
    for _ in range(runs):
        started = clock()
        work()
        times.append(clock() - started)
    return statistics.median(times)


def row_12(model: str, steps: int, runs: int) -> None:
    """A picture of 128 pixels and a clip of 64 pixels and 16 frames, from the prompt to the pixels."""
    studio = dsv4.load(model)
    works = {
        "picture": lambda: studio.image("a red circle above a blue square", size=128, steps=steps),
        "clip": lambda: studio.video("a red circle moving left", seconds=2, steps=steps),
    }
    for name, work in works.items():
        took = seconds(work, runs)
        # Where others share the machine, the processor's time is what can be compared.
        busy = seconds(work, 1, time.process_time)
        record = {"row": 12, "what": name, "steps": steps, "seconds": round(took, 3), "cpu_seconds": round(busy, 3)}
        record["goal"] = GOALS[name]
        print(json.dumps({**record, "met": took <= GOALS[name]}), flush=True)


def tokens() -> list[int]:
    """A drawing of many circles and rectangles as token ids, the same every time."""
    vocab, rng = part("generation.svg").vocabulary(), np.random.default_rng(0)
    words = ["svg", "none"]
    for _ in range(SHAPES):
        x, y, size = (int(value) for value in (*rng.integers(20, 70, 2), rng.integers(2, 12)))
        kind = ["circle", x, y, size] if rng.random() < 0.5 else ["rect", x, y, size, size]
        words += [["red", "blue", "green"][rng.integers(3)], *map(str, kind)]
    return [vocab.id_of(word) for word in [*words, "/svg"]]


def our_step(ids: list[int]) -> Callable[[], None]:
    """Every token through our machine: its mask, then the token."""
    state_of = part("generation.svg").SvgState

    def walk() -> None:
        state = state_of(max_tokens=4096)
        for token in ids:
            assert state.allowed()[token]
            state.push(token)

    return walk


def their_step(ids: list[int]) -> Callable[[], None]:
    """Every token through llguidance's matcher over the same vocabulary: its mask as booleans, then the token."""
    import llguidance.numpy as masks
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    vocab = part("generation.svg").vocabulary()
    size = len(vocab)

    class Atomic:
        eos_token_id, bos_token_id = size, None
        tokens = [b"\xff<|" + str(place).encode() + b"|>" for place in range(size)] + [b"\xff<|eos|>"]
        special_token_ids = list(range(size + 1))

        def __call__(self, text: bytes | str) -> list[int]:
            return []

    def one(word: str) -> str:
        return f"<[{vocab.id_of(word)}]>"

    places = f"<[{vocab.id_of('-8')}-{vocab.id_of('104')}]>"
    paints = " | ".join(one(word) for word in ("red", "blue", "green"))
    circle, rect = (f"{one(kind)} {' '.join([places] * count)}" for kind, count in (("circle", 3), ("rect", 4)))
    start = f"start: {one('svg')} {one('none')} item+ {one('/svg')}"
    grammar = f"{start}\nitem: paint? ({circle} | {rect})\npaint: {paints}"
    tokenizer = LLTokenizer(TokenizerWrapper(Atomic()))
    compiled = LLMatcher.grammar_from_lark(grammar)
    wrong = LLMatcher.validate_grammar(compiled, tokenizer)
    assert not wrong, wrong

    def walk() -> None:
        matcher = LLMatcher(tokenizer, compiled)
        mask = masks.allocate_token_bitmask(1, tokenizer.vocab_size)
        for token in ids:
            masks.fill_next_token_bitmask(matcher, mask, 0)
            allowed = np.unpackbits(mask[0].view(np.uint8), bitorder="little")[:size].astype(bool)
            assert allowed[token]
            matcher.consume_token(token)

    return walk


def row_13(runs: int) -> None:
    """Microseconds a step, ours and theirs in turn, on the same tokens."""
    ids = tokens()
    walks = {"ours": our_step(ids)}
    if find_spec("llguidance") is None:
        print(json.dumps({"row": 13, "note": "llguidance is not installed, so only our own mask is timed"}))
    else:
        walks["llguidance"] = their_step(ids)
    times: dict[str, list[float]] = {name: [] for name in walks}
    for turn in range(runs + 1):  # in turn, by the processor's clock; the first turn is not counted
        for name, walk in walks.items():
            started = time.process_time()
            walk()
            if turn:
                times[name].append(time.process_time() - started)
    took = {name: 1e6 * statistics.median(one) / len(ids) for name, one in times.items()}
    record = {"row": 13, "tokens": len(ids), **{f"{name}_us": round(value, 2) for name, value in took.items()}}
    if "llguidance" in took:
        ratio = took["ours"] / took["llguidance"]
        record |= {"ratio": round(ratio, 3), "goal": 0.5, "met": ratio <= 0.5}
    print(json.dumps(record), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", type=int, choices=(12, 13))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.row != 12:
        row_13(args.runs)
    if args.row != 13:
        row_12(args.model, args.steps, args.runs)


if __name__ == "__main__":
    main()
