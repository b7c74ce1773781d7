"""From a caption to the places of its things: canonical layouts that follow from the words, with a little jitter.

Shape letters: B rows, N actors of a scene (NONE fills up). A place is x, y, size (in picture sides) and turn (radians).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsv4.data.atlas import Names
from dsv4.data.language import GROUNDS, RELATIONS, Caption, is_shape
from dsv4.data.motions import STILL, motion_row

ACTORS = 4  # of a scene that is made
LOOKED_ACTORS = 5  # of a scene that is looked at
NONE = -1  # sprite number of an actor that is not there

Place = tuple[float, float, float]

_LARGE, _PAIR, _ACTING, _BESIDE, _SMALL = 0.74, 0.45, 0.5, 0.37, 0.31
_NEAR, _FAR = 0.255, 0.745
_ROW: tuple[Place, ...] = ((_NEAR, 0.5, _PAIR), (_FAR, 0.5, _PAIR))
_COLUMN: tuple[Place, ...] = ((0.5, _NEAR, _PAIR), (0.5, _FAR, _PAIR))
_LAYOUTS: dict[str, tuple[Place, ...]] = {
    "one": ((0.5, 0.5, _LARGE),),
    "to the left of": _ROW,
    "to the right of": _ROW[::-1],
    "above": _COLUMN,
    "below": _COLUMN[::-1],
    "three": ((_NEAR, _NEAR, _PAIR), (_FAR, _NEAR, _PAIR), (0.5, _FAR, _PAIR)),
    "four": tuple((x, y, _PAIR) for y in (_NEAR, _FAR) for x in (_NEAR, _FAR)),
    "five": (*((x, 0.27, _SMALL) for x in (0.18, 0.5, 0.82)), *((x, 0.73, _SMALL) for x in (0.3, 0.7))),
    "acting": ((0.5, 0.5, _ACTING),),
    "acting two": ((0.26, 0.5, _BESIDE), (0.74, 0.5, _BESIDE)),
    "acting three": ((0.2, 0.5, 0.27), (0.5, 0.5, 0.27), (0.8, 0.5, 0.27)),
}


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """How far drawn scenes stray from their layout: shift (picture sides) and smallest and largest size (times)."""

    shift: float
    low: float
    high: float
    room: bool = False  # a lone thing may stand anywhere inside the picture

    def move(self, rng: random.Random, place: Place, *, alone: bool) -> Place:
        """One place, moved and resized by chance."""
        x, y, size = place
        size *= self.low + (self.high - self.low) * rng.random()
        shift = max(self.shift, 0.45 * (1 - size)) if alone and self.room else self.shift
        low, high = min(0.5, size / 2), max(0.5, 1 - size / 2)  # nothing sticks out of the picture
        x, y = (min(high, max(low, at + shift * (2 * rng.random() - 1))) for at in (x, y))
        return x, y, size


STEADY = Jitter(shift=0.0, low=1.0, high=1.0)
PAINTED = Jitter(shift=0.012, low=0.97, high=1.03)  # small: what is drawn must follow from the words
LOOKED_AT = Jitter(shift=0.055, low=0.66, high=1.06, room=True)  # large: eyes meet pictures that others made


def layout(caption: Caption) -> tuple[Place, ...]:
    """Where the caption's things stand, in its order, before any jitter."""
    number = caption.count if caption.count > 1 else len(caption.nouns)
    if caption.motions:
        return _LAYOUTS[("acting", "acting two", "acting three")[number - 1]]
    if number == 2:
        return _LAYOUTS[caption.relation or RELATIONS[0]]
    return _LAYOUTS[{1: "one", 3: "three", 4: "four", 5: "five"}[number]]


def drawable(caption: Caption, names: Names) -> Caption:
    """The caption with what cannot be drawn or seen replaced.

    The shaded look where a thing has no flat drawing; another ground, the next one, where a noun would hardly be seen.
    """
    flat = caption.flat and names.has_flat(caption.nouns)
    grounds = list(GROUNDS)
    first = grounds.index(caption.ground)
    order = grounds[first:] + grounds[:first]
    shown = (ground for ground in order if all(names.shows(noun, ground, flat=flat) for noun in caption.nouns))
    ground = next(shown, caption.ground)
    return caption if (flat, ground) == (caption.flat, caption.ground) else replace(caption, flat=flat, ground=ground)


def only_shapes(caption: Caption) -> bool:
    """Whether every noun is a coloured shape; those look alike in both looks."""
    return all(is_shape(noun) for noun in caption.nouns)


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Placement arrays of B scenes; what `compose.render_pictures` and `render_clips` draw.

    sprite: int32 [B, N], NONE where there is no actor; place: float32 [B, N, 4]; ground: uint8 [B, 3];
    motion: int32 [B, N], rows of `motions.motion_table`.
    """

    sprite: np.ndarray
    place: np.ndarray
    ground: np.ndarray
    motion: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as a batch holds them."""
        return {"sprite": self.sprite, "place": self.place, "ground": self.ground, "motion": self.motion}


def place_scenes(
    captions: Sequence[Caption],
    names: Names,
    *,
    jitter: Jitter = STEADY,
    rng: random.Random | None = None,
    actors: int = ACTORS,
) -> Scenes:
    """Put every caption's things in their places: at most `actors`. `rng` is needed only where there is jitter."""
    rng = rng or random.Random(0)
    rows = len(captions)
    sprite_BN = np.full((rows, actors), NONE, np.int32)
    place_BN4 = np.zeros((rows, actors, 4), np.float32)
    place_BN4[:, :, 2] = 1.0  # a size of zero would divide
    motion_BN = np.full((rows, actors), STILL, np.int32)
    ground_B3 = np.array([GROUNDS[caption.ground] for caption in captions], np.uint8).reshape(rows, 3)
    for row, caption in enumerate(captions):
        places = layout(caption)
        for actor, place in enumerate(places):
            noun = caption.nouns[actor if caption.count == 1 else 0]
            sprite_BN[row, actor] = names.sprite(noun, flat=caption.flat)
            if jitter is not STEADY:
                place = jitter.move(rng, place, alone=len(places) == 1)
            place_BN4[row, actor, :3] = place
            if caption.motions:
                motion_BN[row, actor] = motion_row(caption.motions[actor], company=len(places) > 1)
    return Scenes(sprite=sprite_BN, place=place_BN4, ground=ground_B3, motion=motion_BN)
