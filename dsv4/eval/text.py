"""Text judges: the share of requests whose whole answer greedy decoding would write exactly.

Greedy exactness is read off one forward pass over request and answer (teacher forcing): if every likeliest token equals
the answer's, greedy decoding writes the answer, and otherwise it does not.
Shape letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsv4.data.documents import Document, Documents, Ids
from dsv4.errors import InputError, unknown
from dsv4.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

# Rows are padded to one of these lengths, so that a compiled core meets few shapes; longer rows take their own length.
LENGTHS = (64, 128, 256, 512, 1024)
# Tokens of one forward pass; their logits are the memory that matters.
BATCH_TOKENS = 8192


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request in words and ids, and the ids of its answer, the end token included."""

    prompt: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def _each(documents: Documents, places: Iterable[int], make: Callable[[int], Document], limit: int) -> list[Document]:
    places = list(places)
    documents.rng.shuffle(places)
    return [make(int(place)) for place in places[:limit]]


def _drawn(make: Callable[[], Document], limit: int) -> list[Document]:
    """Up to `limit` different documents; fewer when new ones have become rare."""
    found: dict[bytes, Document] = {}
    tries = 0
    while len(found) < limit and tries < 20 * limit + 100:
        tries += 1
        document = make()
        found.setdefault(np.asarray(document[0], np.int32).tobytes(), document)
    return list(found.values())


def _icon_by_name(documents: Documents, limit: int) -> list[Document]:
    drawing = documents.icons["drawing"]
    return _each(
        documents, documents.named_icons, lambda i: documents.svg(documents.icon_request(i, 0), drawing[i]), limit
    )


def _icon_full(documents: Documents, limit: int) -> list[Document]:
    drawing = documents.icons["drawing"]
    return _each(
        documents, range(len(drawing)), lambda i: documents.svg(documents.icon_request(i, 3), drawing[i]), limit
    )


def _synonym(documents: Documents, limit: int) -> list[Document]:
    words, icon, drawing = (documents.icons[key] for key in ("synonym", "synonym_icon", "drawing"))
    return _each(
        documents, range(len(words)), lambda i: documents.svg(f"{words[i]} icon", drawing[int(icon[i])]), limit
    )


def _drawing(documents: Documents, limit: int) -> list[Document]:
    from dsv4.data.language import noun_phrase

    called = documents.called_things
    return _each(documents, range(len(called)), lambda i: documents.svg(noun_phrase(called[i][0]), called[i][1]), limit)


def _definition(documents: Documents, limit: int) -> list[Document]:
    words = documents.words
    return _each(
        documents,
        range(len(words["word"])),
        lambda i: documents.chat(documents.define_question(i, 0), words["answer"][i]),
        limit,
    )


def _difference(documents: Documents, limit: int) -> list[Document]:
    """Held-out pairs of words, none where no two words share a kind."""
    tried = (documents.knowledge.difference(held=True) for _ in range(20 * limit))
    found: dict[str, str] = {}
    for pair in tried:
        if pair is not None:
            found.setdefault(*pair)
        if len(found) == limit:
            break
    return [documents.chat(asked, documents.tokenizer.encode(answer)) for asked, answer in found.items()]


# What can be judged. "held" kinds were never trained: held-out pairs, or a held-out phrasing.
KINDS: dict[str, Callable[[Documents, int], list[Document]]] = {
    "icon_by_name": _icon_by_name,
    "icon_full": _icon_full,
    "synonym": _synonym,
    "held_out_colour": lambda documents, limit: _drawn(partial(documents.coloured, held=True), limit),
    "drawing": _drawing,
    "composition": lambda documents, limit: _drawn(partial(documents.composition, held=True), limit),
    "scene_svg": lambda documents, limit: _drawn(partial(documents.scene_svg, held=True), limit),
    "scene_drawn": lambda documents, limit: _drawn(partial(documents.scene_drawn, held=True), limit),
    "definition": _definition,
    "definition_rephrased": lambda documents, limit: _drawn(partial(documents.definition, held=True), limit),
    "question": lambda documents, limit: _drawn(partial(documents.hidden, held=True), limit),
    "fact": lambda documents, limit: _drawn(documents.fact, limit),
    "fact_rephrased": lambda documents, limit: _drawn(partial(documents.fact, held=True), limit),
    "difference": _difference,
    "manner": lambda documents, limit: _drawn(documents.manner, limit),
    "refused": lambda documents, limit: _drawn(partial(documents.refusal, held=True), limit),
    "mistyped": lambda documents, limit: _drawn(partial(documents.slip, held=True), limit),
    "described": lambda documents, limit: _drawn(documents.described, limit),
    "talk": lambda documents, limit: _drawn(documents.talk, limit),
    "talk_rephrased": lambda documents, limit: _drawn(partial(documents.talk, held=True), limit),
}


def cases(data_dir: Path, kind: str, limit: int, seed: int = 0) -> list[Case]:
    """Up to `limit` cases of a kind, the same for a seed; InputError for an unknown kind."""
    return [
        Case(prompt=prompt, prompt_ids=tuple(map(int, ids)), answer_ids=tuple(map(int, answer)))
        for prompt, ids, answer in _cases(Documents(Path(data_dir), seed=seed), kind, limit)
    ]


def judge(
    core: Any,
    tokenizer: Tokenizer,
    data_dir: Path,
    *,
    kind: str,
    limit: int,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> tuple[int, int]:
    """(exactly right, judged) of up to `limit` cases of a kind; `core(ids_BT).logits_BTV` is all that is asked of it.

    Raises InputError for an unknown kind, and when the data were made with another tokenizer.
    """
    documents = Documents(Path(data_dir), seed=seed)
    if documents.tokenizer.fingerprint != tokenizer.fingerprint:
        raise InputError(f"the data in '{data_dir}' were made with another tokenizer than the model's")
    found = [(list(ids), list(answer)) for _, ids, answer in _cases(documents, kind, limit)]
    return sum(exact(core, found, pad=tokenizer.id_of("<|pad|>"), device=device)), len(found)


def exact(
    core: Any, documents: Sequence[tuple[list[int], list[int]]], *, pad: int, device: str | torch.device = "cpu"
) -> list[bool]:
    """For each (request, answer) in ids whether greedy decoding from the request writes the answer."""
    import torch

    right = [False] * len(documents)
    order = sorted(range(len(documents)), key=lambda place: sum(map(len, documents[place])))
    start = 0
    while start < len(order):
        width = _padded(sum(map(len, documents[order[start]])) - 1)
        count = max(1, BATCH_TOKENS // width)
        chosen = [place for place in order[start : start + count] if sum(map(len, documents[place])) - 1 <= width]
        ids_BT = np.full((len(chosen), width), pad, np.int64)
        wanted_BT = np.full((len(chosen), width), -1, np.int64)
        for row, place in enumerate(chosen):
            prompt, answer = documents[place]
            whole = np.array([*prompt, *answer])
            ids_BT[row, : len(whole) - 1] = whole[:-1]
            wanted_BT[row, len(prompt) - 1 : len(whole) - 1] = answer
        with torch.inference_mode():
            best_BT = core(torch.from_numpy(ids_BT).to(device)).logits_BTV.argmax(-1).cpu().numpy()
        for place, good in zip(chosen, ((best_BT == wanted_BT) | (wanted_BT < 0)).all(axis=1), strict=True):
            right[place] = bool(good)
        start += len(chosen)
    return right


def _cases(documents: Documents, kind: str, limit: int) -> list[tuple[str, Ids, Ids]]:
    if kind not in KINDS:
        raise unknown("kind of case", kind, KINDS)
    return [(documents.tokenizer.decode(ids), ids, answer) for ids, answer in KINDS[kind](documents, limit)]


def _padded(length: int) -> int:
    return next((width for width in LENGTHS if length <= width), length)


# One judge a row of the score table: each takes (core, tokenizer, data_dir, *, limit, device).
icon_by_name = partial(judge, kind="icon_by_name")
held_out_colour = partial(judge, kind="held_out_colour")
drawing = partial(judge, kind="drawing")
composition = partial(judge, kind="composition")
scene_svg = partial(judge, kind="scene_svg")
definition = partial(judge, kind="definition")
