"""`dsv4 eval needle`: does nano find one sentence in a long text, by length of the text and depth in it?

Each text is made of plain sentences about things; one of them says where a thing is kept. The question at the end
repeats the sentence up to its last word, and the score is how often the right word is likelier than fifteen others that
also stand in the text: chance is one in sixteen. Shape letters: V vocabulary.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from dsv4.eval.intervals import wilson

THINGS = ("apple", "boat", "chair", "clock", "drum", "fork", "glove", "hammer", "kite", "lamp", "mirror", "pencil",
          "ring", "shoe", "table", "violin")  # fmt: skip
PLACES = ("city", "box", "farm", "church", "forest", "garden", "house", "kitchen", "road", "library", "market", "river",
          "school", "ship", "tower", "valley")  # fmt: skip
FILLER = ("The {place} is old and quiet.", "A {thing} can be made of wood.", "People like to see the {place}.",
          "The {thing} is not large.", "In the morning the {place} is cold.", "A {thing} was sold long ago.",
          "Nobody was in the {place}.", "The colour of the {thing} is dark.")  # fmt: skip
DEPTHS = (0.1, 0.5, 0.9)


def text(tokens_of: Any, length: int, depth: float, rng: random.Random) -> tuple[list[int], str]:
    """Ids of about `length` tokens that end before the last word of the needle, and that word."""
    thing, place = rng.choice(THINGS), rng.choice(PLACES)
    needle, question = f" The secret {thing} is kept in the {place}.", f" The secret {thing} is kept in the"
    ids: list[int] = []
    room = length - len(tokens_of(needle)) - len(tokens_of(question))
    placed = False
    while len(ids) < room:
        if not placed and len(ids) >= depth * room:
            ids += tokens_of(needle)
            room, placed = room + len(tokens_of(needle)), True
        ids += tokens_of(" " + rng.choice(FILLER).format(thing=rng.choice(THINGS), place=rng.choice(PLACES)))
    return ids + tokens_of(question), place


def measure(model: Any, lengths: list[int], trials: int) -> Iterator[dict[str, float]]:
    """A line for each length and depth: hits and trials."""
    import torch

    tokenizer, core = model.tokenizer, model.core
    start = tokenizer.id_of("<|bos|>")
    firsts = [tokenizer.encode(f" {place}")[0] for place in PLACES]
    if len(set(firsts)) < len(PLACES):
        raise ValueError("two places begin with the same token, so their first tokens do not tell them apart")
    for length in lengths:
        for depth in DEPTHS:
            rng, hits = random.Random(length * 100 + round(10 * depth)), 0
            for _ in range(trials):
                ids, place = text(tokenizer.encode, length, depth, rng)
                with torch.inference_mode():
                    cache = core.new_cache(1, len(ids) + 1)
                    for chunk in torch.tensor([[start, *ids]]).split(512, 1):
                        output = core(chunk, cache=cache, last_only=True)
                guess = output.logits_BTV[0, -1, firsts].argmax()
                hits += PLACES[int(guess)] == place
            yield {"length": length, "depth": depth, "hits": hits, "trials": trials}


def run(lengths: list[int], trials: int, out: str | None) -> None:
    """Print the table for the shipped nano, and write it as JSON lines where asked."""
    from dsv4.studio import Studio

    model = Studio.load("nano").model
    print(f"{'tokens':>8} {'depth':>6} {'found':>8}   95 % interval (chance 6 %)")
    lines = []
    for line in measure(model, lengths, trials):
        lines.append(line)
        low, high = wilson(int(line["hits"]), trials)
        share, span = 100 * line["hits"] / trials, f"{100 * low:.0f} to {100 * high:.0f}"
        print(f"{line['length']:>8,} {line['depth']:>6} {share:>6.0f} %   {span}", flush=True)
    if out:
        with open(out, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
