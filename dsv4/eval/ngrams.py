"""Which n-grams light up: a heat map of Engram's gates over a question and its answer, and what memory adds.

Run as `python -m dsv4.eval.ngrams "What is a heron?" -o heron.svg`. At every place a layer looks up the n-grams that
end there; a gate for each residual lane opens as far as the lane agrees with what is found (`dsv4.core.engram`).
Shape letters: T tokens, N lanes, W hidden.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4.errors import InputError
from dsv4.eval.plot import FAINT, box, page, words

if TYPE_CHECKING:
    from dsv4.core.model import LanguageCore
    from dsv4.tokenizer import Tokenizer

MARKS = ("bos", "user", "assistant", "eos", "svg", "paint", "film")
CELL, ROW, LEFT, HEAD, ACROSS = 30, 16, 104, 50, 24  # units of the figure; tokens in a band
GATE, ADDED = ((255, 255, 255), (9, 82, 175)), ((255, 255, 255), (176, 84, 0))
LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer's memory did at every place: gates [T][N], and the length of what it added over the stream's."""

    number: int
    gates: tuple[tuple[float, ...], ...]
    added: tuple[float, ...]
    reach: int  # tokens of its longest n-gram

    def strongest(self, count: int) -> list[int]:
        """The places where it added most, the strongest first."""
        return sorted(range(len(self.added)), key=lambda place: -self.added[place])[:count]

    def gate(self, places: Sequence[int]) -> float:
        """The mean over lanes and some places."""
        return sum(sum(self.gates[place]) / len(self.gates[place]) for place in places) / max(1, len(places))


@dataclass(frozen=True, kw_only=True)
class Lit:
    """A text in tokens and what memory did to it; the answer begins at place `answer`."""

    tokens: tuple[str, ...]
    answer: int
    layers: tuple[Layer, ...]

    def ngram(self, place: int, count: int) -> str:
        """The tokens of the n-gram that ends at a place, as they are written."""
        return "".join(self.tokens[max(0, place + 1 - count) : place + 1]).strip()


def light(core: LanguageCore, token_ids: Sequence[int]) -> tuple[Layer, ...]:
    """One pass over a text; InputError for a core without memory."""
    import torch

    found: dict[int, Layer] = {}

    def note(module: Any, given: tuple[Any, ...], added_BTNW: Any) -> None:
        x_BTNW, shifts, frame = given
        gate_BTN, _ = module.look_up(x_BTNW, shifts, frame)
        share_BT = added_BTNW.float().flatten(2).norm(dim=-1) / x_BTNW.float().flatten(2).norm(dim=-1).clamp_min(1e-9)
        found[module.layer] = Layer(
            number=module.layer,
            gates=tuple(map(tuple, gate_BTN[0].float().tolist())),
            added=tuple(share_BT[0].tolist()),
            reach=module.part.max_order,
        )

    memories = [block.engram for block in core.blocks if getattr(block, "engram", None) is not None]
    if not memories:
        raise InputError("this model's core has no Engram memory, so no n-gram can light up")
    hooks = [memory.register_forward_hook(note) for memory in memories]
    try:
        with torch.inference_mode():
            core(torch.tensor([list(token_ids)], device=core.embedding.weight.device), logits=False)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found[number] for number in sorted(found))


def asked(model: Any, question: str, answer: str) -> Lit:
    """What memory did while a question and its answer, in words or a call, were read."""
    from dsv4.chat_format import chat_ids

    ids = chat_ids(model.tokenizer, question, answer=answer)
    start = len(chat_ids(model.tokenizer, question))
    return Lit(tokens=tuple(names(model.tokenizer, ids)), answer=start, layers=light(model.core, ids))


def names(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Every token as it is written; marks of the conversation by their names in brackets."""
    marks = {tokenizer.id_of(f"<|{name}|>"): f" ⟨{name}⟩ " for name in MARKS}
    return [marks.get(token) or tokenizer.decode([token]).replace("\n", "⏎") for token in ids]


def draw(lit: Lit, *, title: str) -> str:
    """The heat map: bands of tokens, for each layer a row a lane and one for what was added, then the strongest."""
    strong = max(1e-9, *(value for layer in lit.layers for value in layer.added))
    spans = [("asked", 0, lit.answer), ("answered", lit.answer, len(lit.tokens))]
    bands = [
        (said if place == start else "", place, min(stop, place + size))
        for said, start, stop in spans
        for size in [math.ceil((stop - start) / math.ceil((stop - start) / ACROSS))]
        for place in range(start, stop, size)
    ]
    width = LEFT + CELL * max(20, *(stop - start for _, start, stop in bands)) + 44
    body = [words(16, 24, title, more='font-size="15" font-weight="bold"'), *_scale(16, 36, strong)]
    best = {layer.number: layer.strongest(LISTED) for layer in lit.layers}
    top = 58.0
    for said, start, stop in bands:
        drawn, top = _band(lit, said, range(start, stop), top, strong, best)
        body += drawn
    body += _list(lit, best, top + 20, width)
    return page(body, width=width, height=top + 34 + 17 * (LISTED + 1))


def _scale(x: float, y: float, strong: float) -> list[str]:
    body = []
    for left, (end, said) in (
        (x, (GATE, "gate: 0 to 1, shut to open")),
        (x + 236, (ADDED, f"added / stream: 0 to {strong:.2f}")),
    ):
        body += [box(left + 8 * step, y, 8, 10, _colour(end, step / 9)) for step in range(10)]
        body.append(words(left + 88, y + 9, said, more=f'fill="{FAINT}"'))
    body.append(words(x + 460, y + 9, "▲ the strongest places, listed below", more=f'fill="{FAINT}"'))
    return body


def _band(
    lit: Lit, said: str, places: range, top: float, strong: float, best: dict[int, list[int]]
) -> tuple[list[str], float]:
    """One band of tokens, and where the next may begin."""
    body = [words(16, top + HEAD - 8, said, more='font-style="italic"')]
    for number, place in enumerate(places):
        x, y = LEFT + CELL * number + CELL / 2, top + HEAD - 4
        token = lit.tokens[place].strip()
        style = f' fill="{FAINT}" font-size="9"' if token.startswith("⟨") else ' font-size="12"'
        body.append(words(x - 3, y, token, more=f'transform="rotate(-45 {x - 3:.1f} {y:.1f})"{style}'))
    top += HEAD
    for layer in lit.layers:
        lanes = len(layer.gates[0])
        body.append(words(16, top + ROW * (lanes + 1) / 2 + 4, f"layer {layer.number}"))
        for row in range(lanes + 1):
            name = f"lane {row + 1}" if row < lanes else "added"
            body.append(words(LEFT - 6, top + 12, name, anchor="end", more=f'fill="{FAINT}" font-size="10"'))
            for number, place in enumerate(places):
                value = layer.gates[place][row] if row < lanes else layer.added[place]
                colour = _colour(GATE, value) if row < lanes else _colour(ADDED, value / strong)
                before = lit.tokens[place - 1] if number else " "
                joined = not before.endswith(" ") and not lit.tokens[place].startswith(" ")  # a piece of a word
                told = f"{lit.ngram(place, layer.reach)}: {value:.2f}"
                x = LEFT + CELL * number + (0 if joined else 2)
                body.append(
                    box(
                        x,
                        top,
                        CELL - (0 if joined else 2),
                        ROW - 1,
                        colour,
                        told=told,
                        more='stroke="#e5e5e5" stroke-width="0.5"',
                    )
                )
            top += ROW
        for number, place in enumerate(places):
            if place in best[layer.number]:
                body.append(
                    words(
                        LEFT + CELL * (number + 0.5), top + 8, "▲", anchor="middle", more='font-size="9" fill="#b05400"'
                    )
                )
        top += 12
    return body, top + 2


def _list(lit: Lit, best: dict[int, list[int]], top: float, width: float) -> list[str]:
    """The n-grams of the strongest places, a column a layer."""
    body, step = [], (width - 32) / len(lit.layers)
    for column, layer in enumerate(lit.layers):
        x = 16 + step * column
        body.append(words(x, top, f"layer {layer.number} adds most at the end of", more='font-weight="bold"'))
        for row, place in enumerate(best[layer.number], 1):
            gates = " and ".join(f"{gate:.2f}" for gate in layer.gates[place])
            body.append(words(x, top + 17 * row, f"“{lit.ngram(place, layer.reach)}”", more='font-size="12"'))
            told = f"added {layer.added[place]:.2f}, gates {gates}"
            body.append(words(x + step - 24, top + 17 * row, told, anchor="end", more=f'fill="{FAINT}"'))
    return body


def _colour(ends: tuple[tuple[int, int, int], tuple[int, int, int]], share: float) -> str:
    share = min(1.0, max(0.0, share))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))


def told(lit: Lit) -> list[str]:
    """A table: each layer's mean gate and what it added, in the question and in the answer."""
    lines = ["| layer | | gate, mean | added / stream, mean | adds most at the end of |", "|---|---|---|---|---|"]
    for layer in lit.layers:
        for said, places in (("question", range(lit.answer)), ("answer", range(lit.answer, len(lit.tokens)))):
            added = sum(layer.added[place] for place in places) / max(1, len(places))
            most = max(places, key=lambda place: layer.added[place])
            ngram = lit.ngram(most, layer.reach)
            lines.append(f"| {layer.number} | {said} | {layer.gate(places):.2f} | {added:.2f} | “{ngram}” |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Ask, look and draw; returns the exit status."""
    from dsv4.studio import Studio

    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.ngrams", description=__doc__)
    parser.add_argument("question")
    parser.add_argument("-o", "--out", required=True, type=Path, help="an SVG file")
    parser.add_argument("--model", default="nano")
    args = parser.parse_args(argv)
    studio = Studio.load(args.model)
    answer = studio.chat(args.question).reply.text
    lit = asked(studio.model, args.question, answer)
    args.out.write_text(draw(lit, title=f"Which n-grams light up in {studio.name}: {args.question}"), encoding="utf-8")
    print("\n".join(told(lit)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
