"""A closed world of a few small things, made on the spot, for the tests of the picture side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24
NAMES = (
    "tiger", "ant", "apple", "soccer ball", "heron", "grapes", "boat", "piano", "lamp", "house", "train", "mushroom",
    "guitar", "owl", "cactus", "rocket", "violin", "sandwich", "umbrella", "blue circle", "kite", "zebra", "anchor",
)  # fmt: skip
NOT_FLAT = "heron"


def write_sources(folder: Path) -> Path:
    """`things.jsonl.zst` and `things_shaded.webp`: every thing two coloured blocks in corners of its own."""
    import zstandard

    rng = np.random.default_rng(5)
    sheet = np.zeros((SIDE, 40 * SIDE, 4), np.uint8)
    lines = [{"_form": "for tests", "_count": len(NAMES)}]
    for index, name in enumerate(NAMES):
        cell = sheet[:, index * SIDE : (index + 1) * SIDE]
        colours = rng.integers(0, 256, (2, 3))
        middle = int(rng.integers(8, 16))
        cell[3:middle, 3:21] = [*colours[0], 255]
        cell[middle:21, 3 : 8 + index % 7 * 2] = [*colours[1], 255]
        fill, other = ("#" + "".join(f"{255 - value:02x}" for value in colour) for colour in colours)
        blocks = ((fill, f"M12 12H84V{4 * middle}H12z"), (other, f"M12 {4 * middle}H{30 + index}V84H12z"))
        drawn = "".join(f'<path fill="{colour}" d="{way}"/>' for colour, way in blocks)
        svg = None if name == NOT_FLAT else f'<svg viewBox="0 0 96 96">{drawn}</svg>'
        lines.append({"index": index, "name": name, "aliases": [], "codepoints": "0", "svg": svg})
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(folder / "things_shaded.webp", lossless=True, exact=True)
    packed = zstandard.compress("\n".join(json.dumps(line) for line in lines).encode())
    (folder / "things.jsonl.zst").write_bytes(packed)
    return folder


def write_world(folder: Path) -> Path:
    """A data folder with everything that the picture streams read."""
    import random

    from dsv4.data.atlas import build_atlas
    from dsv4.data.captions import QUESTIONS, random_picture
    from dsv4.data.store import save_table
    from dsv4.tokenizer import Tokenizer

    data = folder / "data"
    build_atlas(write_sources(folder / "sources"), data)
    words = ["harbour", "willow", "ink", "lantern", "quiet", "meadow", "stone", "river"]
    rng = random.Random(0)
    texts = [random_picture(rng, NAMES).text() for _ in range(300)] + [
        form for kind in QUESTIONS.values() for form in kind
    ]
    tokenizer = Tokenizer.train(texts + words * 3, vocab_size=700)
    tokenizer.save(data / "tokenizer.json")
    meanings = [tokenizer.encode(f"{word.title()}: a word.") for word in words]
    save_table(data / "words.npz", {"word": words, "asked": words, "answer": meanings})
    return data
