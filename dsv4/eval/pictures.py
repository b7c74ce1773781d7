"""Judges pictures of things: at each thing's place, is the right one the nearest of all that there are?

Shape letters: K candidates, S shifts, F frames, P values of a window, H and W pixels.
A picture is compared with every thing drawn at its place over its ground, at 64 px, moved by up to 3 px.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dsv4.data.atlas import Atlas, Names
from dsv4.data.captions import random_ground, random_picture
from dsv4.data.compose import cut_out, render_pictures, to_bytes
from dsv4.data.language import GROUNDS, Caption, is_shape
from dsv4.data.scenes import drawable, layout, place_scenes
from dsv4.data.things import scene_names
from dsv4.errors import unknown

KINDS = ("one", "pair", "three")
SIDE, SHIFT = 64, 3
KEPT = 128  # places whose candidates stay drawn, a few megabytes each


@dataclass(frozen=True, kw_only=True)
class PictureCase:
    """One request for a still picture."""

    caption: Caption

    @property
    def prompt(self) -> str:
        """What the model is asked for."""
        return self.caption.text()


def cases(data_dir: Path, kind: str, *, limit: int, seed: int = 0) -> list[PictureCase]:
    """`limit` requests of a kind: one thing; a pair that never met in training; three things.

    One thing: no thing comes twice before all have come once. Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("kind of picture case", kind, KINDS)
    rng = random.Random(f"pictures {kind} {seed}")
    names = Names.load(data_dir)
    things = scene_names(names.things)
    if kind != "one":
        weights = (0, 1, 0, 0) if kind == "pair" else (0, 0, 1, 0)
        drawn = [random_picture(rng, things, shapes=0, weights=weights, held=kind == "pair") for _ in range(limit)]
        # A coloured shape now and then stands among the things; here only things are asked for.
        while mixed := [i for i, caption in enumerate(drawn) if any(map(is_shape, caption.nouns))]:
            for i in mixed:
                drawn[i] = random_picture(rng, things, shapes=0, weights=weights, held=kind == "pair")
        return [PictureCase(caption=drawable(caption, names)) for caption in drawn]
    order: list[str] = []
    while len(order) < limit:
        order += rng.sample(things, len(things))
    captions = [
        Caption(nouns=(noun,), ground=random_ground(rng, [noun]), flat=rng.random() < 0.5) for noun in order[:limit]
    ]
    return [PictureCase(caption=drawable(caption, names)) for caption in captions]


def truth(case: PictureCase, atlas: Atlas, *, size: int = 128) -> np.ndarray:
    """The picture that the case asks for, uint8 [H, W, 3]."""
    arrays = place_scenes([case.caption], atlas.names).arrays()
    batch = {name: torch.from_numpy(array).to(atlas.packed.device) for name, array in arrays.items()}
    return to_bytes(render_pictures(batch, atlas, size))[0].permute(1, 2, 0).cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where an actor is in one frame: place as x, y, size and turn in picture sides."""

    x: float
    y: float
    size: float
    turn: float = 0.0

    def box(self, side: int, shift: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom pixel around the actor, with room for shifts inside the picture."""
        lows = [max(shift, int((at - self.size / 2) * side)) for at in (self.x, self.y)]
        highs = [min(side - shift, int(np.ceil((at + self.size / 2) * side))) for at in (self.x, self.y)]
        return lows[0], lows[1], max(lows[0] + 2, highs[0]), max(lows[1] + 2, highs[1])


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Compares made pictures with every candidate; keeps the candidates' drawings for the places it met last."""

    atlas: Atlas
    _drawn: dict[tuple, Tensor] = field(default_factory=dict)

    def candidates(self, noun: str, *, flat: bool) -> list[int]:
        """The sprites that a noun competes with: all things in the look; for a shape, all shapes."""
        things = len(self.atlas.names.things)
        if is_shape(noun):
            return list(range(2 * things, self.atlas.count))
        return [2 * thing + flat for thing in range(things)]

    def errors(
        self, made_FHW3: Sequence[np.ndarray], windows: Sequence[Window], sprites: list[int], ground: str, *,
        side: int, shift: int,
    ) -> Tensor:  # fmt: skip
        """Smallest squared error of each candidate over all shifts, summed over frames; float32 [K]."""
        total_KS: Tensor | float = 0.0
        for made_HW3, window in zip(made_FHW3, windows, strict=True):
            left, top, right, bottom = window.box(side, shift)
            small_3HW = shrink(made_HW3, side).to(self.atlas.packed.device)
            crops_SP = torch.stack(
                [
                    small_3HW[:, top + dy : bottom + dy, left + dx : right + dx].reshape(-1)
                    for dy in range(-shift, shift + 1)
                    for dx in range(-shift, shift + 1)
                ]
            )
            over = self._over(window, sprites, side, shift).float() / 255
            colour_3 = torch.tensor(GROUNDS[ground], device=over.device).float() / 255
            drawn_KP = (over[:, :3] + (1 - over[:, 3:]) * colour_3[:, None, None]).flatten(1)
            cross_KS = drawn_KP @ crops_SP.T
            total_KS = total_KS + drawn_KP.square().sum(1)[:, None] - 2 * cross_KS + crops_SP.square().sum(1)
        assert isinstance(total_KS, Tensor)
        return total_KS.amin(1)

    def _over(self, window: Window, sprites: list[int], side: int, shift: int) -> Tensor:
        """The candidates cut out at a window, uint8 [K, 4, h, w]; drawn once for each place within the window."""
        left, top, right, bottom = window.box(side, shift)
        span = max(right - left, bottom - top)
        x, y = (window.x * side - left) / span, (window.y * side - top) / span
        place = (round(x, 3), round(y, 3), round(window.size * side / span, 3), round(window.turn, 3))
        key = (*place, right - left, bottom - top, sprites[0], len(sprites))
        if key not in self._drawn:
            device = self.atlas.packed.device
            parts = []
            for some in torch.tensor(sprites, device=device).split(256):
                drawn = cut_out(some, torch.tensor([place], device=device).expand(len(some), 4), self.atlas, span)
                parts.append(drawn[:, :, : bottom - top, : right - left].mul(255).round().to(torch.uint8))
            if len(self._drawn) >= KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[key] = torch.cat(parts)
        return self._drawn[key]


def nearest_of_all(made_HW3: np.ndarray, case: PictureCase, nearest: Nearest) -> list[bool]:
    """For each noun of the case whether it is the nearest of all candidates at its place."""
    found = []
    for noun, (x, y, size) in zip(case.caption.nouns, layout(case.caption), strict=True):
        sprites = nearest.candidates(noun, flat=case.caption.flat)
        windows = [Window(x=x, y=y, size=size)]
        errors_K = nearest.errors([made_HW3], windows, sprites, case.caption.ground, side=SIDE, shift=SHIFT)
        found.append(sprites[int(errors_K.argmin())] == nearest.atlas.names.sprite(noun, flat=case.caption.flat))
    return found


def ground_of(made_HW3: np.ndarray) -> str:
    """The ground whose colour is nearest to the middle colour of the picture's border."""
    border = np.concatenate([made_HW3[0], made_HW3[-1], made_HW3[:, 0], made_HW3[:, -1]]).astype(float)
    middle = np.median(border, axis=0)
    return min(GROUNDS, key=lambda name: float(np.square(middle - np.array(GROUNDS[name])).sum()))


def judge(case: PictureCase, output: np.ndarray, nearest: Nearest) -> bool:
    """Whether every thing is the right one at its place and the ground is right; output uint8 [H, W, 3]."""
    return all(nearest_of_all(output, case, nearest)) and ground_of(output) == case.caption.ground


def other_case(case: PictureCase, names: Names, rng: random.Random) -> PictureCase:
    """The same request with one noun replaced, which a right picture of `case` must fail."""
    nouns = list(case.caption.nouns)
    place = rng.randrange(len(nouns))
    others = [name for name in scene_names(names.things) if name not in nouns]
    nouns[place] = rng.choice(others)
    return PictureCase(caption=drawable(replace(case.caption, nouns=tuple(nouns)), names))


def shrink(made_HW3: np.ndarray, side: int) -> Tensor:
    """A picture averaged down to `side`, float32 [3, side, side] in 0..1."""
    picture_13HW = torch.from_numpy(np.ascontiguousarray(made_HW3)).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(picture_13HW, (side, side), mode="area")[0]
