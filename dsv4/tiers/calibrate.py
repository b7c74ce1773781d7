"""Passages to calibrate with: text and pictures that are given, training data, or what a model of ours makes itself.

Shape letters: T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dsv4.errors import InputError
from dsv4.tiers.run import Passage

if TYPE_CHECKING:
    from dsv4.engine.generate import Prompt
    from dsv4.studio import Studio

LENGTH = 512  # tokens of a passage, at most
LEAST = 4
DRAWN = ("red heart icon", "blue star icon", "home icon", "three circle icons", "a tiger", "a rocket", "green apple",
         "an owl", "a red square above a blue circle", "purple bell icon in a circle")  # fmt: skip
ASKED = ("What is a heron?", "What is a violin?", "What is the opposite of hot?", "What kind of thing is a rose?",
         "What is thunder?", "Define bridge.", "What is to run?", "Is a cat an animal?")  # fmt: skip
PAINTED = ("a tiger on a mint background", "a rocket to the left of a red apple")
SHOWN = ("What is in this picture?", "How many things are there?")
KINDS = ("icon_by_name", "drawing", "definition", "fact", "manner", "scene_svg")  # of training data
ANSWER = 160


def of_model(
    folder: Path, *, text: Sequence[Path] = (), pictures: Sequence[Path] = (), data: Path | None = None, count: int = 48
) -> list[Passage]:
    """Passages for a model of ours; what is not given it writes and paints itself, greedily and by seed."""
    from dsv4.messages import image
    from dsv4.studio import Studio

    studio = Studio.load(folder)
    found: list[Passage] = []
    if text:
        found += [_plain(studio.model.tokenizer.encode(line)) for line in _lines(text, count)]
    elif data is not None:
        found += of_data(data, count=count)
    else:
        found += [_written(studio, ask, prompt) for ask, prompt in _own_prompts(studio)]
    if studio.model.eyes is None:
        return found
    if pictures:
        shown = [image(path) for path in pictures]
    elif studio.model.head is not None:
        from PIL import Image as Pixels

        arrays = [studio.image(prompt, seed=seed).array for seed, prompt in enumerate(PAINTED)]
        shown = [image(Pixels.fromarray(array)) for array in arrays]
    else:
        shown = []
    for one in shown:
        for question in SHOWN:
            found.append(_written(studio, lambda asked, one=one: studio.processor.chat(asked, [one], mode="tiny"),
                                  question))  # fmt: skip
    return found


def of_data(data: Path, *, count: int, seed: int = 1) -> list[Passage]:
    """Requests with their answers from a folder of training data; the judges draw theirs from seed 0."""
    from dsv4.data.documents import Documents
    from dsv4.eval.text import KINDS as JUDGED

    documents = Documents(data, seed=seed)
    each = -(-count // len(KINDS))
    rows = [row for kind in KINDS for row in JUDGED[kind](documents, each)]
    return [_plain([*map(int, ids), *map(int, answer)]) for ids, answer in rows][:count]


def of_checkpoint(
    folder: Path, *, text: Sequence[Path], tokenizer: Path | None, count: int, vocabulary: int
) -> list[Passage]:
    """Passages for a checkpoint folder; without text ids are drawn evenly, which suits random weights and no others."""
    if not text:
        generator = torch.Generator().manual_seed(0)
        return [Passage(token_ids_T=torch.randint(0, vocabulary, (LENGTH // 4,), generator=generator))
                for _ in range(count)]  # fmt: skip
    path = tokenizer or folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"no tokenizer in {folder}; name its tokenizer.json with --tokenizer")
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(path))
    return [_plain(encode.encode(line).ids) for line in _lines(text, count)]


def _lines(paths: Sequence[Path], count: int) -> Iterator[str]:
    """Up to `count` pieces of the files: their lines where those are long enough, several together where not."""
    given = 0
    for path in paths:
        if not path.is_file():
            raise InputError(f"no file '{path}' of text to calibrate with")
        held = ""
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            held = f"{held}\n{line}" if held else line
            if len(held) >= 4 * LEAST:
                yield held
                held, given = "", given + 1
                if given == count:
                    return
    if not given:
        raise InputError("the text to calibrate with is empty")


def _plain(ids: list[int]) -> Passage:
    return Passage(token_ids_T=torch.tensor(ids[:LENGTH]))


def _own_prompts(studio: Studio) -> Iterator[tuple[Callable, str]]:
    for prompt in DRAWN:
        yield studio.processor.svg, prompt
    for prompt in ASKED:
        yield lambda asked: studio.processor.chat(asked, [], mode="tiny"), prompt


def _written(studio: Studio, ask: Callable, prompt: str) -> Passage:
    """A request and the model's own answer to it."""
    from dsv4.engine.generate import generate

    model = studio.model
    ready: Prompt = model.embed(ask(prompt))
    stop = frozenset({model.tokenizer.id_of("<|eos|>")})
    answer = torch.tensor([list(generate(model.core, ready, max_tokens=ANSWER, stop=stop))], dtype=torch.long)
    ids_BT = torch.cat((ready.token_ids_BT, answer), 1)
    if ready.embeds_BTD is None:
        return _plain(ids_BT[0].tolist())
    with torch.inference_mode():
        embeds_BTD = torch.cat((ready.embeds_BTD, model.core.embed(answer)), 1)
    memory_BT = ready.memory_ids_BT if ready.memory_ids_BT is not None else ready.token_ids_BT
    memory_BT = torch.cat((memory_BT, answer), 1)
    return Passage(token_ids_T=ids_BT[0], embeds_TD=embeds_BTD[0].clone(), memory_ids_T=memory_BT[0])
