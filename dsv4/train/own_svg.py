"""`dsv4 train svg`: a model learns a person's own drawings, and goes on drawing what it knew.

What it knew is kept by rehearsal: every batch is filled up with documents of nano's own data or, where there are none,
with what the model itself wrote before it learnt anything new (pseudo-rehearsal).
Afterwards the model goes back towards its old weights as far as its new drawings allow.
Shape letters: R rows, T tokens. Sources: A. Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal";
weights between old and new ones, WiSE-FT (arXiv 2109.01903).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsv4._parts import part
from dsv4.chat_format import chat_ids, svg_ids
from dsv4.data.documents import DRAW_PHRASES, Document
from dsv4.data.language import noun_phrase
from dsv4.data.text import PackedRows, TextMixture
from dsv4.errors import InputError
from dsv4.model import Model
from dsv4.tokenizer import Tokenizer
from dsv4.train.feeder import Feeder
from dsv4.train.optim import Average
from dsv4.train.own_pairs import DRAWINGS, Pair, read_pairs
from dsv4.train.precision import autocast
from dsv4.train.step import Batch
from dsv4.train.text_job import BALANCE_WEIGHT, text_loss
from dsv4.train.world import World

MOST_TOKENS = 1000  # of a drawing; longer ones are simplified, as those of nano's own data are
OWN_SHARE = 0.4  # of all tokens
PLAIN = 0.7  # share of requests that are the bare caption
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the way from the old weights to the new ones
REHEARSED = 160  # requests that the model answers beforehand
LONGEST_ANSWER = 220  # tokens of such an answer; what breaks off there is not rehearsed
ASKED = ("{} icon", "{} icon", "{a}", "What is {a}?")  # of words that the tokenizer knows whole
WIDTHS = (256, 512, 1024, 2048)  # tokens of a row: the least that holds the longest drawing and its request
LOST = 0.97  # likeness below which a drawing is told of


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One drawing to be learnt: what it is called, its tokens, and what was lost on the way there."""

    caption: str
    ids: tuple[int, ...]
    lost: str  # empty when nothing was


def read_drawings(folder: Path) -> tuple[list[Pair], list[Drawing]]:
    """Every SVG of a folder as tokens; raises InputError that names all that cannot be learnt, and why."""
    pairs = read_pairs(folder, DRAWINGS)
    drawings, broken = [], []
    for pair in pairs:
        try:
            found = part("generation.svg").tokenise(pair.path.read_bytes(), MOST_TOKENS)
        except (OSError, ValueError) as error:
            broken.append(f"{pair.path.name}: {error}")
            continue
        lossless = not found.left_out and not found.colours and not found.shortened and found.ssim >= LOST
        drawings.append(Drawing(caption=pair.caption, ids=found.ids, lost="" if lossless else found.report()))
    if broken:
        more = f" (and {len(broken) - 5} more)" if len(broken) > 5 else ""
        raise InputError("these cannot be learnt; mend or remove them: " + "; ".join(broken[:5]) + more)
    return pairs, drawings


def answer_of(tokenizer: Tokenizer, drawing: Drawing) -> np.ndarray:
    """The ids that are to follow a request for a drawing."""
    return np.array([*(tokenizer.svg_offset + token for token in drawing.ids), tokenizer.id_of("<|eos|>")], np.int32)


def own_documents(tokenizer: Tokenizer, drawings: Sequence[Drawing], *, seed: int) -> Iterator[Document]:
    """The drawings in ever new orders, each under its caption or a request around it."""
    rng = random.Random(f"own {seed}")
    answers = [answer_of(tokenizer, drawing) for drawing in drawings]
    while True:
        for place in rng.sample(range(len(drawings)), len(drawings)):
            form = "{}" if rng.random() < PLAIN else rng.choice(DRAW_PHRASES[1:])
            yield svg_ids(tokenizer, asked_as(form, drawings[place].caption)), answers[place]


def asked_as(form: str, caption: str) -> str:
    """A caption in one of DRAW_PHRASES, with an article where it is wanted and the caption has none."""
    named = caption.split(" ")[0].lower() in ("a", "an", "the", "some", "two", "three")
    return form.format(caption, a=caption if named else noun_phrase(caption))


def row_length(tokenizer: Tokenizer, drawings: Sequence[Drawing]) -> int:
    """Tokens of a row that holds every drawing under every request; InputError names a caption that is too long.

    A document that fits no row would wait for ever, and the others behind it.
    """
    longest = 0
    for one in drawings:
        asked = max(len(svg_ids(tokenizer, asked_as(form, one.caption))) for form in DRAW_PHRASES)
        count = max(asked, 60) + len(answer_of(tokenizer, one))
        if count > WIDTHS[-1]:
            raise InputError(
                f"the caption '{one.caption[:60]}...' takes {asked} tokens in a request and its drawing "
                f"{count - asked}; together at most {WIDTHS[-1]} are learnt. Shorten it"
            )
        longest = max(longest, count)
    return next(width for width in WIDTHS if width >= longest)


def rehearsal(studio: Any, *, count: int, seed: int, tell: Callable[[str], None]) -> list[list[list[int]]]:
    """What the model writes when it is asked for `count` words of its own tokenizer: pairs of request and answer."""
    tokenizer: Tokenizer = studio.model.tokenizer
    rng, words = random.Random(f"rehearsal {seed}"), known_words(tokenizer)
    asked = [
        (rng.choice(ASKED).format(word, a=noun_phrase(word)))
        for word in rng.sample(words, min(count, len(words)))
    ]  # fmt: skip
    found: list[list[list[int]]] = []
    end = tokenizer.id_of("<|eos|>")
    for task in ("svg", "chat"):
        prompts = [text for text in asked if text.startswith("What") == (task == "chat")]
        tell(f"the model answers {len(prompts)} requests of its own, to be rehearsed ({task})")
        rows = [{"prompt": text, "max_tokens": LONGEST_ANSWER} for text in prompts]
        for text, made in zip(prompts, studio.together.make(task, rows), strict=True):
            if task == "chat":
                answer = [*tokenizer.encode(made.text), end] if made.stopped == "end" else []
                request = chat_ids(tokenizer, text)
            else:
                drawn = part("generation.svg").vocabulary().encode(made.raw)
                answer = [*(tokenizer.svg_offset + token for token in drawn), end]
                request = svg_ids(tokenizer, text)
            if 1 < len(answer) < LONGEST_ANSWER:
                found.append([list(request), list(answer)])
    return found


def known_words(tokenizer: Tokenizer) -> list[str]:
    """The words that are one token each, of four letters or more, in the order of the vocabulary."""
    texts = [tokenizer.decode([number]) for number in range(256, tokenizer.svg_offset)]
    whole = (text[1:] for text in texts if text[:1] == " ")
    return [word for word in whole if len(word) > 3 and word.isascii() and word.isalpha() and word.islower()]


class OwnRows(PackedRows):
    """Packed rows: own documents up to their share of the tokens, rehearsed ones for the rest."""

    def __init__(
        self, own: Iterator[Document], others: Callable[[], Document], *, pad: int, seq_len: int, rows: int
    ) -> None:
        super().__init__(self._one, pad=pad, seq_len=seq_len, rows=rows)
        self._own, self._others = own, others
        self._given = {"own": 0.0, "others": 0.0}

    def _one(self) -> Document:
        total = sum(self._given.values())
        kind = "own" if self._given["own"] <= OWN_SHARE * total else "others"
        document = next(self._own) if kind == "own" else self._others()
        self._given[kind] += len(document[0]) + len(document[1])
        return document


class OwnSvgJob:
    """Own drawings and rehearsal through the core; see `Job` in run.py for the attributes."""

    def __init__(
        self,
        model: Model,
        world: World,
        drawings: Sequence[Drawing],
        rehearsed: Sequence[Document] | Path,
        *,
        rows: int,
        seed: int,
    ) -> None:
        self.core, self.world = model.core.train().requires_grad_(True), world
        self.parts: dict[str, nn.Module] = {"core": model.core}
        self.trained: list[nn.Module] = [model.core]
        self.gentle: list[nn.Module] = []
        self.average: Average | None = Average(model.core, decay=0.98)
        tokenizer = model.tokenizer
        seq_len = row_length(tokenizer, drawings)

        def stream(number: int) -> Iterator[dict[str, np.ndarray]]:
            if isinstance(rehearsed, Path):
                mixture = TextMixture(rehearsed, seed=number, seq_len=seq_len, rows=1)
                others: Callable[[], Document] = mixture.next_document
            else:
                rng = random.Random(f"others {number}")
                others = lambda: rng.choice(rehearsed)  # noqa: E731 - a stream of one line
            own = own_documents(tokenizer, drawings, seed=number)
            return iter(OwnRows(own, others, pad=tokenizer.id_of("<|pad|>"), seq_len=seq_len, rows=rows))

        self.feeder = Feeder(stream, workers=0, seed=seed, device=world.device)

    def kind(self, step: int) -> str:
        """All steps are alike."""
        return "own"

    def rests(self, kind: str) -> bool:
        """Every step teaches all that is trained."""
        return False

    def batch(self, kind: str) -> Batch:
        """The next packed rows."""
        return self.feeder.next()

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch; the router's bias stays as it is, for the loads of a few drawings say nothing."""
        with autocast(self.world.device):
            text, balance, _ = text_loss(self.core, batch)
        return {"loss": text + BALANCE_WEIGHT * balance, "text": text}

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Nothing to steer."""

    def close(self) -> None:
        """Stop the data stream."""
        self.feeder.close()


def exactly_drawn(model: Model, drawings: Sequence[Drawing]) -> list[bool]:
    """For each drawing whether the model, asked by its bare caption, draws it token by token."""
    from dsv4.eval.text import exact

    tokenizer = model.tokenizer
    asked = [(svg_ids(tokenizer, one.caption), answer_of(tokenizer, one).tolist()) for one in drawings]
    return exact(model.core.eval(), asked, pad=tokenizer.id_of("<|pad|>"), device=next(model.core.parameters()).device)


def going_back(model: Model, before: Mapping[str, Tensor], drawings: Sequence[Drawing]) -> Iterator[tuple[float, int]]:
    """Set the core to shares of the way from `before`, least first, that draw all that it draws at the end of it.

    Gives each share, and how many drawings that is: who writes the weights takes the first that survives rounding.
    """
    after = {name: value.clone() for name, value in model.core.state_dict().items()}

    def go(share: float) -> int:
        mixed = {
            name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
            for name, value in after.items()
        }
        model.core.load_state_dict(mixed)
        return sum(exactly_drawn(model, drawings))

    most = go(1.0)
    for share in SHARES:
        if go(share) >= most:
            yield share, most


def kept_rehearsal(path: Path, make: Callable[[], list[list[list[int]]]]) -> list[Document]:
    """The rehearsed documents of a run, made once and kept in its folder; InputError when there are none to keep."""
    if not path.is_file():
        found = make()
        if not found:
            raise InputError("the model ended none of the answers it was to rehearse; give it its data: --rehearse DIR")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found))
        temporary.replace(path)
    return [(request, np.array(answer, np.int32)) for request, answer in json.loads(path.read_text())]
