"""Judges clips of things: is each actor the right one of all that there are, and does it move as it was asked to?

Shape letters: F frames, M motions, H and W pixels. Names are compared at 64 px moved by up to 3 px, motions at 32 px
moved by up to 2 px.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dsv4.data.atlas import Atlas, Names
from dsv4.data.captions import random_clip
from dsv4.data.compose import render_clips, to_bytes
from dsv4.data.language import MOTIONS, Caption, is_shape
from dsv4.data.motions import STILL, motion_row, motion_table
from dsv4.data.scenes import drawable, layout, place_scenes
from dsv4.data.things import scene_names
from dsv4.errors import unknown
from dsv4.eval.pictures import SHIFT as NAME_SHIFT
from dsv4.eval.pictures import SIDE as NAME_SIDE
from dsv4.eval.pictures import Nearest, Window, ground_of, shrink

KINDS = ("name", "motion", "two")
SIDE, SHIFT = 32, 2
LOOKS = (0.13, 0.4, 0.67, 0.93)  # moments of a clip at which names are compared
SAME = 2e-4  # mean squared difference below which two motions of a thing look the same, as a ball's turns do


@dataclass(frozen=True, kw_only=True)
class ClipCase:
    """One request for a clip, and what is judged of it."""

    caption: Caption
    kind: str

    @property
    def prompt(self) -> str:
        """What the model is asked for."""
        return self.caption.text()


def cases(data_dir: Path, kind: str, *, limit: int, seed: int = 0) -> list[ClipCase]:
    """`limit` requests: one thing to be named; one in a motion it never had in training; a pair that never met.

    Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("kind of clip case", kind, KINDS)
    rng = random.Random(f"clips {kind} {seed}")
    names = Names.load(data_dir)
    things = scene_names(names.things)
    found: list[ClipCase] = []
    while len(found) < limit:
        caption = random_clip(rng, things, shapes=0, two=float(kind == "two"), held=kind != "name")
        if not any(map(is_shape, caption.nouns)):
            found.append(ClipCase(caption=drawable(caption, names), kind=kind))
    return found


def truth(case: ClipCase, atlas: Atlas, *, size: int = 64, frames: int = 16) -> np.ndarray:
    """The clip that the case asks for, uint8 [F, H, W, 3]."""
    return _draw([case.caption], atlas, size, frames)[0]


def name_right(
    case: ClipCase, made_FHW3: np.ndarray, nearest: Nearest, actor: int, looked: slice | None = None
) -> bool:
    """Whether an actor is the nearest of all things at its places in four frames of those that are looked at."""
    caption, frames = case.caption, len(made_FHW3)
    begin, end, _ = (looked or slice(None)).indices(frames)
    table_MF4 = motion_table(frames)
    row = motion_row(caption.motions[actor], company=len(caption.nouns) > 1)
    x, y, size = layout(caption)[actor]
    chosen = sorted({begin + round(moment * (end - begin - 1)) for moment in LOOKS})
    windows = []
    for frame in chosen:
        right, down, times, turn = table_MF4[row, frame].tolist()
        windows.append(Window(x=x + right, y=y + down, size=size * times, turn=turn))
    noun = caption.nouns[actor]
    sprites = nearest.candidates(noun, flat=caption.flat)
    made = [made_FHW3[frame] for frame in chosen]
    errors_K = nearest.errors(made, windows, sprites, caption.ground, side=NAME_SIDE, shift=NAME_SHIFT)
    return sprites[int(errors_K.argmin())] == nearest.atlas.names.sprite(noun, flat=caption.flat)


def motion_right(case: ClipCase, made_FHW3: np.ndarray, atlas: Atlas, actor: int) -> bool:
    """Whether the clip is nearest to the actor's own motion, of all ten and standing still.

    Motions that look the same with this actor count as one.
    """
    caption, frames = case.caption, len(made_FHW3)
    others = [
        replace(caption, motions=caption.motions[:actor] + (motion,) + caption.motions[actor + 1 :])
        for motion in MOTIONS
    ]
    drawn_MFHW3 = _draw(others, atlas, SIDE, frames, still=actor)
    low, high = _strip(len(caption.nouns), actor)
    drawn = torch.from_numpy(drawn_MFHW3).float()[:, :, SHIFT:-SHIFT, low + SHIFT : high - SHIFT] / 255
    made = torch.stack([shrink(frame, SIDE) for frame in made_FHW3]).permute(0, 2, 3, 1)[:, :, low:high]
    height, width = drawn.shape[2:4]
    best: Tensor | None = None
    for dy in range(2 * SHIFT + 1):
        for dx in range(2 * SHIFT + 1):
            error_M = (drawn - made[:, dy : dy + height, dx : dx + width]).square().mean((1, 2, 3, 4))
            best = error_M if best is None else torch.minimum(best, error_M)
    assert best is not None
    right, chosen = MOTIONS.index(caption.motions[actor]), int(best.argmin())
    return chosen == right or float((drawn[chosen] - drawn[right]).square().mean()) < SAME


def judge(case: ClipCase, output: np.ndarray, nearest: Nearest) -> bool:
    """Whether what the case's kind is about is right in the clip, uint8 [F, H, W, 3]: names, motions,
    or both of two; the ground belongs to the names.

    Raises ValueError for a clip of fewer than four frames.
    """
    if len(output) < 4:
        raise ValueError(f"a motion cannot be judged on {len(output)} frames; at least 4 are needed")
    actors = range(len(case.caption.nouns))
    if case.kind != "motion" and ground_of(output[len(output) // 2]) != case.caption.ground:
        return False
    names = case.kind == "motion" or all(name_right(case, output, nearest, actor) for actor in actors)
    moves = case.kind == "name" or all(motion_right(case, output, nearest.atlas, actor) for actor in actors)
    return names and moves


def other_case(case: ClipCase, names: Names, rng: random.Random) -> ClipCase:
    """The same request with one noun (or, for a motion's case, the motion) replaced, which a right clip must fail."""
    nouns, motions = list(case.caption.nouns), list(case.caption.motions)
    actor = rng.randrange(len(nouns))
    if case.kind == "motion":
        motions[actor] = rng.choice([motion for motion in MOTIONS if motion != motions[actor]])
    else:
        nouns[actor] = rng.choice([name for name in scene_names(names.things) if name not in nouns])
    changed = replace(case.caption, nouns=tuple(nouns), motions=tuple(motions))
    return replace(case, caption=drawable(changed, names))


def _strip(actors: int, actor: int) -> tuple[int, int]:
    """First and last pixel column of the part of the picture that an actor has to itself."""
    return round(SIDE * actor / actors), round(SIDE * (actor + 1) / actors)


def _draw(captions: list[Caption], atlas: Atlas, size: int, frames: int, *, still: int | None = None) -> np.ndarray:
    """Clips of captions, uint8 [M, F, H, W, 3]; with `still`, one more in which that actor stands still."""
    arrays = place_scenes([*captions, captions[0]] if still is not None else captions, atlas.names).arrays()
    if still is not None:
        arrays["motion"][-1, still] = STILL
    batch = {name: torch.from_numpy(array).to(atlas.packed.device) for name, array in arrays.items()}
    return to_bytes(render_clips(batch, atlas, size, frames)).permute(0, 2, 3, 4, 1).cpu().numpy()
