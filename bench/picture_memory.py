"""Does memory that is looked up by a picture's codes help? Small models from nothing, with it and without.

Run `python bench/picture_memory.py [--task digits|sprites] [--steps N] [--seeds N]`; it prints one JSON object a run.
digits: eight printed digits are read. sprites: one of 256 coloured patterns is called by its arbitrary name of two
words, which is what a memory might be good for. Both variants have the same parameters, batches and starting weights.

B batch, S side in pixels, V tokens of a picture, T tokens, C cells.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from dsv4.core import presets
from dsv4.core.config import EngramConfig
from dsv4.core.model import LanguageCore
from vision import DeepEncoder, DeepEncoderConfig
from vision.codes import lines_of

SIDE, GRID, BATCH = 256, 4, 32
PLACES = GRID * (GRID + 1) + 1
BITS, VOCABULARY, NAMES = 10, 1100, 256
TASKS = ("digits", "sprites")


class Batch(NamedTuple):
    """Pixels in -1..1, the words of the answer, and what lies over the middle of each cell (0 for nothing)."""

    pixels_B3SS: Tensor
    answer_BT: Tensor
    cells_BC: Tensor


def digits(rng: np.random.Generator, count: int) -> Batch:
    """Two lines of four digits, at a place and in a size and grey of their own."""
    pixels = np.full((count, SIDE, SIDE), 255, np.uint8)
    answer, cells = rng.integers(0, 10, (count, 8)), np.zeros((count, GRID, GRID), np.int64)
    for row in range(count):
        picture = Image.fromarray(pixels[row])
        font = ImageFont.load_default(size=int(rng.integers(36, 52)))
        left, top = rng.integers(-8, 17, 2)
        for place, digit in enumerate(answer[row]):
            x, y = 32 + 64 * (place % 4) + int(left), 96 + 64 * (place // 4) + int(top)
            ImageDraw.Draw(picture).text((x, y), str(digit), font=font, fill=int(rng.integers(0, 120)), anchor="mm")
            cells[row, min(3, y // 64), min(3, x // 64)] = digit + 1
        pixels[row] = np.asarray(picture)
    wide = torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1
    return Batch(wide, torch.from_numpy(answer), torch.from_numpy(cells.reshape(count, -1)))


class Sprites:
    """Symmetric patterns of five by five squares in a colour, each with a name of two words."""

    def __init__(self) -> None:
        rng = np.random.default_rng(12)
        half = rng.random((NAMES, 5, 3)) < 0.5
        self.pattern = np.concatenate([half, half[:, :, 1::-1]], axis=2)
        self.colour = rng.integers(0, 180, (NAMES, 3))
        self.name = rng.integers(0, 32, (NAMES, 2))

    def __call__(self, rng: np.random.Generator, count: int) -> Batch:
        pixels = np.empty((count, SIDE, SIDE, 3), np.float32)
        which, cells = rng.integers(0, NAMES, count), np.zeros((count, GRID, GRID), np.int64)
        for row, sprite in enumerate(which):
            size = int(rng.integers(90, 180))
            x, y = rng.integers(0, SIDE - size, 2)
            squares = np.arange(size) * 5 // size
            inked = self.pattern[sprite][squares][:, squares][..., None]
            pixels[row] = rng.integers(190, 256, 3)
            part = pixels[row, y : y + size, x : x + size]
            part[:] = np.where(inked, self.colour[sprite], part)
            down, across = (abs(np.arange(GRID) * 64 + 32 - start - size / 2) < size / 2 for start in (y, x))
            cells[row] = (sprite + 1) * np.outer(down, across)
        shown = torch.from_numpy(pixels + rng.normal(0, 6, pixels.shape).astype(np.float32)).clamp(0, 255)
        whole = shown.permute(0, 3, 1, 2) / 127.5 - 1
        return Batch(whole, torch.from_numpy(self.name[which]), torch.from_numpy(cells.reshape(count, -1)))


class Reader(nn.Module):
    """Micro eyes and a micro core that answers; `coded` opens memory at the picture."""

    def __init__(self, *, coded: bool) -> None:
        super().__init__()
        self.coded = coded
        sizes = {"native": SIDE, "sam_width": 64, "clip_width": 128, "neck": 32, "middle": 64}
        self.eyes = DeepEncoder(dataclasses.replace(DeepEncoderConfig.micro(out_dim=64), **sizes))
        memory = EngramConfig(layers=(0, 2), rows=4000, width=16, heads=2, picture_bits=BITS)
        self.core = LanguageCore.from_config(dataclasses.replace(presets.micro(VOCABULARY), engram=memory))
        self.cells = nn.Linear(64, NAMES + 1)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores of the words behind each place of the answer, and of what lies over each cell."""
        features_BVD = self.eyes.sequence(batch.pixels_B3SS)
        count, long = batch.answer_BT.shape
        ids_BT = F.pad(batch.answer_BT[:, :-1], (PLACES + 1, 0), value=VOCABULARY - 1)
        words_BTD = self.core.embed(ids_BT)
        embeds_BTD = torch.cat([words_BTD[:, :1], features_BVD, words_BTD[:, PLACES + 1 :]], dim=1)
        memory = ids_BT.clone()
        memory[:, 1 : PLACES + 1] = -1
        if self.coded:
            codes_BTO = memory.new_full((*memory.shape, 3), -1)
            for row, features_VD in enumerate(features_BVD.detach()):
                codes_BTO[row, 1:PLACES] = lines_of(features_VD[:-1], GRID, GRID, bits=BITS, count=3)
            memory = self.core.memory_ids(memory, codes_BTO)
        out = self.core(ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=memory)
        assert out.logits_BTV is not None
        grid_BCD = features_BVD[:, :-1].unflatten(1, (GRID, GRID + 1))[:, :, :GRID].flatten(1, 2)
        return out.logits_BTV[:, -long:], self.cells(grid_BCD)


def losses(model: Reader, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Of the words and of the cells, and which words were right."""
    words_BTV, cells_BCN = model(batch)
    said = F.cross_entropy(words_BTV.flatten(0, 1), batch.answer_BT.flatten())
    cells = F.cross_entropy(cells_BCN.flatten(0, 1), batch.cells_BC.flatten())
    return said, cells, words_BTV.argmax(-1) == batch.answer_BT


def trained(task: str, *, coded: bool, seed: int, steps: int) -> dict[str, float | int | str | bool]:
    """Train one model and score it on 512 pictures that it has not seen."""
    torch.manual_seed(seed)
    draw, rng = (digits if task == "digits" else Sprites()), np.random.default_rng(seed)
    model, started = Reader(coded=coded), time.process_time()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100, 0.05 + (steps - step) / (0.3 * steps))
        said, cells, _ = losses(model, draw(rng, BATCH))
        optimizer.zero_grad()
        (said + 2 * cells).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    fresh = np.random.default_rng(10_000)
    with torch.inference_mode():
        found = [losses(model, draw(fresh, 64)) for _ in range(8)]
    right = torch.cat([hits for *_, hits in found]).float()
    return {
        "task": task, "coded": coded, "seed": seed, "steps": steps,
        "loss": round(float(torch.stack([said for said, *_ in found]).mean()), 4),
        "words": round(float(right.mean()), 4),
        "answers": round(float(right.prod(1).mean()), 4),
        "cells_loss": round(float(torch.stack([cells for _, cells, _ in found]).mean()), 4),
        "cpu_seconds": round(time.process_time() - started, 1),
    }  # fmt: skip


def main() -> None:
    """Train both variants for every seed and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, action="append")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for task in args.task or TASKS:
        for seed in range(args.seeds):
            for coded in (False, True):
                print(json.dumps(trained(task, coded=coded, seed=seed, steps=args.steps)), flush=True)


if __name__ == "__main__":
    main()
