"""Judges seeing: scenes laid out by chance, described in one exact sentence, and questions about them.

An answer is right when it is the expected sentence, letter for letter, whatever hidden description stands before it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dsv4.data.atlas import Atlas, Names
from dsv4.data.captions import QUESTIONS, random_picture
from dsv4.data.language import Caption
from dsv4.data.pictures import pick_question, visible
from dsv4.data.scenes import LOOKED_ACTORS, LOOKED_AT, Scenes, place_scenes
from dsv4.data.things import scene_names
from dsv4.errors import unknown

# What is described, by how many things it holds; "pair" is one that never met in training.
DESCRIBED = {
    "one": (1, 0, 0, 0),
    "two": (0, 1, 0, 0),
    "pair": (0, 1, 0, 0),
    "three": (0, 0, 1, 0),
    "several": (0, 0, 0, 1),
    "four": (0, 0, 0, 0, 1, 0),
    "five": (0, 0, 0, 0, 0, 1),
}
ASKED = tuple(kind for kind in QUESTIONS if kind != "describe")
KINDS = (*DESCRIBED, *ASKED)


@dataclass(frozen=True, kw_only=True)
class SeeingCase:
    """One picture, a question about it, and the answer."""

    caption: Caption
    prompt: str
    truth: str
    scene: Scenes = field(repr=False)


def cases(data_dir: Path, kind: str, *, limit: int, seed: int = 0, held_phrasing: bool = False) -> list[SeeingCase]:
    """`limit` pictures to be described (a key of DESCRIBED) or asked about (a question's kind).

    held_phrasing: ask in the words that training never uses. Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("kind of seeing case", kind, KINDS)
    rng = random.Random(f"seeing {kind} {seed}")
    names = Names.load(data_dir)
    things = scene_names(names.things)
    weights = DESCRIBED.get(kind, (0.25, 0.45, 0.2, 0.1))
    found: list[SeeingCase] = []
    while len(found) < limit:
        caption = visible(random_picture(rng, things, weights=weights, held=kind == "pair"), names)
        try:
            wanted = "describe" if kind in DESCRIBED else kind
            _, question, answer = pick_question(caption, rng, things, kind=wanted, held=held_phrasing)
        except ValueError:
            continue  # this scene settles no such question
        scene = place_scenes([caption], names, jitter=LOOKED_AT, rng=rng, actors=LOOKED_ACTORS)
        found.append(SeeingCase(caption=caption, prompt=question, truth=answer, scene=scene))
    return found


def pictures(found: Sequence[SeeingCase], atlas: Atlas, *, size: int = 512) -> np.ndarray:
    """The pictures of some cases, uint8 [B, H, W, 3]."""
    import torch

    from dsv4.data.compose import render_pictures, to_bytes

    scenes = [case.scene.arrays() for case in found]
    joined = {name: np.concatenate([scene[name] for scene in scenes]) for name in scenes[0]}
    batch = {name: torch.from_numpy(array).to(atlas.packed.device) for name, array in joined.items()}
    return to_bytes(render_pictures(batch, atlas, size)).permute(0, 2, 3, 1).cpu().numpy()


def judge(case: SeeingCase, output: str) -> bool:
    """Whether the answer behind any hidden description is exactly the expected one."""
    return output.rpartition("</think>")[2].strip() == case.truth
