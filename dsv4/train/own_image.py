"""`dsv4 train image`: the head learns a person's own pictures by their captions; the core only reads the words.

Half of every batch is rehearsal: scenes of nano's own data or, without them, pictures that the model itself painted
before it learnt anything new.
Shape letters: N pictures, B rows, T tokens, H and W pixels. Source: as in `own_svg`; the loss is that of `flow`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsv4 import limits
from dsv4._parts import part
from dsv4.chat_format import paint_ids
from dsv4.data.captions import PAINT_PHRASES, random_picture, vary, wordings
from dsv4.data.pictures import LENGTH
from dsv4.errors import InputError
from dsv4.messages import image
from dsv4.model import Model, tap_blocks
from dsv4.pictures_in import open_pictures
from dsv4.tokenizer import Tokenizer
from dsv4.train.head_job import DROP, head_loss
from dsv4.train.optim import Average
from dsv4.train.own_pairs import PICTURES, Pair, read_pairs
from dsv4.train.precision import autocast
from dsv4.train.step import Batch
from dsv4.train.world import World

SIDE = limits.PAINTED_SIZES[-1]  # that pictures of the usual size are painted at
REHEARSED, REHEARSAL_STEPS, AT_ONCE = 64, 4, 16
MOST_ASKED = 256  # tokens of a request: every row of every batch is padded to the longest
SEEN = 3.0  # a picture's longer side by its shorter one, beyond which too little is left of it in a square

Rows = tuple[list[list[int]], Tensor]  # requests in ids, and their pictures [B, 3, H, W] in -1..1


def read_pictures(folder: Path) -> tuple[list[Pair], Tensor]:
    """Every picture of a folder, its middle square at the size that is painted at: float32 [N, 3, H, W] in -1..1.

    Raises InputError for what cannot be read, and for what is too long for a square.
    """
    pairs, side = read_pairs(folder, PICTURES), SIDE
    found = []
    for pair in pairs:
        (opened,) = open_pictures([image(pair.path)])
        width, height = opened.size
        if max(width, height) > SEEN * min(width, height):
            raise InputError(f"'{pair.path.name}' is {width} x {height}; cut it to a square, or near to one")
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        square = opened.crop((left, top, left + short, top + short)).resize((side, side))
        found.append(torch.tensor(np.asarray(square), dtype=torch.float32).permute(2, 0, 1) / 127.5 - 1)
    return pairs, torch.stack(found)


def painted(studio: Any, prompts: Sequence[str], *, steps: int = 8) -> np.ndarray:
    """What a studio paints for prompts, each by seed 0: uint8 [N, H, W, 3] at the size that is painted at."""
    made: list[np.ndarray] = []
    for start in range(0, len(prompts), AT_ONCE):
        rows = [{"prompt": one, "size": SIDE, "steps": steps} for one in prompts[start : start + AT_ONCE]]
        for result in studio.together.make("image", rows):
            if isinstance(result, InputError):
                raise result
            made.append(result.array)
    return np.stack(made)


def nearness(studio: Any, captions: Sequence[str], pictures_N3HW: Tensor) -> list[float]:
    """PSNR in decibels between what is painted for each caption and the picture that it means; 60 where they agree."""
    wanted_NHW3 = ((pictures_N3HW + 1) / 2).permute(0, 2, 3, 1).double().numpy()
    errors_N = np.square(painted(studio, captions) / 255 - wanted_NHW3).mean((1, 2, 3))
    return (-10 * np.log10(errors_N.clip(1e-6))).tolist()


def longest_request(tokenizer: Tokenizer, captions: Sequence[str]) -> int:
    """Tokens of the longest request that `vary` can make of captions; InputError names a caption that is too long."""
    longest = 0
    for caption in captions:
        count = max(len(paint_ids(tokenizer, text)) for text in wordings(caption, PAINT_PHRASES))
        if count > MOST_ASKED:
            raise InputError(
                f"the caption '{caption[:60]}...' takes {count} tokens in a request; at most {MOST_ASKED} are learnt. "
                "Shorten it: a picture is asked for by the words it was learnt under"
            )
        longest = max(longest, count)
    return longest


class OwnImageJob:
    """Own pictures and rehearsed ones through the head; see `Job` in run.py for the attributes."""

    def __init__(
        self,
        model: Model,
        world: World,
        own: tuple[Sequence[str], Tensor],
        rehearsed: tuple[Sequence[str], Tensor] | Path,
        *,
        rows: int,
        seed: int,
    ) -> None:
        assert model.head is not None
        self.core, self.head, self.world = model.core.eval(), model.head.float().train().requires_grad_(True), world
        self.parts: dict[str, nn.Module] = {"head": model.head}
        self.trained: list[nn.Module] = [model.head]
        self.gentle: list[nn.Module] = []
        self.average: Average | None = Average(model.head, decay=0.99)
        self.pad = model.tokenizer.id_of("<|pad|>")
        # Every batch has the same shapes, for a step is captured once on CUDA; the mask says which places count.
        self.width = max(
            LENGTH["paint"] if isinstance(given, Path) else longest_request(model.tokenizer, given[0])
            for given in (own, rehearsed)
        )
        self.generator = torch.Generator(world.device).manual_seed(seed)
        self._streams = [
            _scenes(given, seed=seed, rows=rows) if isinstance(given, Path)
            else _own(lambda text: paint_ids(model.tokenizer, text), *given, seed=seed, rows=rows)
            for given in (own, rehearsed)
        ]  # fmt: skip

    def kind(self, step: int) -> str:
        """All steps are alike."""
        return "own"

    def rests(self, kind: str) -> bool:
        """Every step teaches all that is trained."""
        return False

    def batch(self, kind: str) -> Batch:
        """Own rows and rehearsed ones, with noise and chances."""
        asked, shown = zip(*(next(stream) for stream in self._streams), strict=True)
        ids = [row for rows in asked for row in rows]
        device = self.world.device
        ids_BT = torch.tensor([row + [self.pad] * (self.width - len(row)) for row in ids], device=device)
        clean_B3HW = torch.cat([pictures.to(device) for pictures in shown])
        own_B = torch.tensor([1] * len(asked[0]) + [0] * len(asked[1]), device=device)
        levels, count = part("generation").noise_levels, len(ids)
        return {
            "ids": ids_BT,
            "mask": ids_BT != self.pad,
            "clean": clean_B3HW[:, :, None],
            "sigma": levels("picture", count, generator=self.generator, device=device),
            # What is painted without words must stay as it was: guidance leads away from it. So own rows keep theirs.
            "drop": (torch.rand(count, generator=self.generator, device=device) < DROP) & (own_B == 0),
            "noise": torch.randn(clean_B3HW[:, :, None].shape, generator=self.generator, device=device),
        }

    def loss(self, kind: str, batch: Batch) -> dict[str, Tensor]:
        """The flow's loss of a batch."""
        with torch.no_grad(), autocast(self.world.device):
            taps = self.core(
                batch["ids"], taps=tap_blocks(self.core.config.layers), logits=False, sparse=False
            ).taps  # fmt: skip
        with autocast(self.world.device):
            loss = head_loss(
                self.head, taps, batch["mask"], batch["clean"], sigma_B=batch["sigma"], drop_B=batch["drop"],
                clean_first_B=None, noise_B3FHW=batch["noise"],
            )  # fmt: skip
        return {"loss": loss}

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Nothing to steer."""

    def close(self) -> None:
        """Nothing to stop."""


def _own(
    ids_of: Callable[[str], list[int]], captions: Sequence[str], pictures_N3HW: Tensor, *, seed: int, rows: int
) -> Iterator[Rows]:
    """The own pictures in ever new orders, `rows` at a time."""
    rng, waiting = random.Random(f"own pictures {seed}"), list[int]()
    while True:
        while len(waiting) < rows:
            waiting += rng.sample(range(len(captions)), len(captions))
        places, waiting = waiting[:rows], waiting[rows:]
        yield [ids_of(vary(rng, captions[place], PAINT_PHRASES)) for place in places], pictures_N3HW[places]


def _scenes(data: Path, *, seed: int, rows: int) -> Iterator[Rows]:
    """Scenes of nano's own data, drawn as its training draws them."""
    from dsv4.data.atlas import Atlas
    from dsv4.data.compose import render_pictures
    from dsv4.data.pictures import PictureStream

    atlas, stream = Atlas.load(data), PictureStream(data, "paint", seed=seed, rows=rows)
    for arrays in stream:
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        asked = [ids[mask].tolist() for ids, mask in zip(batch["ids"], batch["mask"], strict=True)]
        yield asked, render_pictures(batch, atlas, SIDE)


def self_painted(painter: Any, path: Path, *, seed: int) -> tuple[list[str], Tensor]:
    """Captions in the words that the tokenizer knows whole, and what the model paints for them; made once."""
    from dsv4.train.own_svg import known_words

    if not path.is_file():
        rng, words = random.Random(f"self-painted {seed}"), known_words(painter.model.tokenizer)
        prompts = [random_picture(rng, words).text() for _ in range(REHEARSED)]
        print(
            f"without --rehearse DIR (nano's own data), the model paints {REHEARSED} pictures to rehearse", flush=True
        )
        pictures_NHW3 = painted(painter, prompts, steps=REHEARSAL_STEPS)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, prompts=np.array(prompts), pictures=pictures_NHW3)
        temporary.replace(path)
    with np.load(path) as kept:
        return kept["prompts"].tolist(), torch.from_numpy(kept["pictures"]).permute(0, 3, 1, 2).float() / 127.5 - 1
