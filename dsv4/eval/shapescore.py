"""ShapeGenEval and ShapeVBench: scores of pictures and clips of coloured shapes by image analysis alone.

Shape letters: H and W pixels, F frames. Sources: GenEval (Ghosh et al. 2023) for the six categories and the rule of
positions; VBench (Huang et al. 2024) for flicker and the parts of the clip's score. No network judges anything.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dsv4.data.atlas import SHAPE_FILL, shape_sprites
from dsv4.data.captions import random_ground
from dsv4.data.language import (
    GROUNDS,
    MOTIONS,
    NUMBERS,
    RELATIONS,
    SHAPE_COLOURS,
    SHAPE_NOUNS,
    SHAPES,
    Caption,
    held_motion,
    held_scene,
)  # fmt: skip
from dsv4.errors import unknown

CATEGORIES = ("single", "two", "counting", "colours", "position", "attribution")
TRACKED = tuple(motion for motion in MOTIONS if motion.startswith("moving") or motion in ("growing", "shrinking"))
KINDS = (*CATEGORIES, "clip")

GROUND_FAR = 20.0  # Lab distance from the ground that makes a pixel part of an object
COLOUR_FAR = 32.0  # Lab distance within which a colour has its name
SMALLEST = 0.004  # share of the picture that an object fills at least
FIT = 0.72  # overlap with a template that makes a shape


@dataclass(frozen=True, kw_only=True)
class ShapeCase:
    """One request for shapes: a still picture of one of six categories, or a clip of one moving shape."""

    caption: Caption
    kind: str

    @property
    def prompt(self) -> str:
        """What the model is asked for."""
        return self.caption.text()


@dataclass(frozen=True, kw_only=True)
class Found:
    """One object in a picture: shape and colour (None when unlike any), box in pixels, share of the picture."""

    shape: str | None
    colour: str | None
    box: tuple[int, int, int, int]
    area: float

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def cases(data_dir: Path | None, kind: str, *, limit: int, seed: int = 0) -> list[ShapeCase]:
    """`limit` requests of a category, the pairs among them held out; `data_dir` is not read, shapes need none.

    Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("kind of shape case", kind, KINDS)
    rng = random.Random(f"shapes {kind} {seed}")
    return [ShapeCase(caption=_caption(kind, rng), kind=kind) for _ in range(limit)]


def _caption(kind: str, rng: random.Random) -> Caption:
    noun = rng.choice(SHAPE_NOUNS)
    if kind in ("single", "colours"):
        return Caption(nouns=(noun,), ground=random_ground(rng, [noun]))
    if kind == "counting":
        return Caption(nouns=(noun,), count=rng.randint(2, 4), ground=random_ground(rng, [noun]))
    if kind == "clip":
        motion = rng.choice([motion for motion in TRACKED if not held_motion(noun, motion)] or list(TRACKED))
        return Caption(nouns=(noun,), motions=(motion,), ground=random_ground(rng, [noun]))
    while True:
        nouns = tuple(rng.sample(SHAPE_NOUNS, 2))
        colours, shapes = zip(*(noun.split() for noun in nouns), strict=True)
        if held_scene(nouns) and shapes[0] != shapes[1] and (kind != "attribution" or colours[0] != colours[1]):
            relation = rng.choice(RELATIONS) if kind == "position" else None
            return Caption(nouns=nouns, relation=relation, ground=random_ground(rng, nouns))


def atoms(case: ShapeCase, made_HW3: np.ndarray) -> dict[str, bool]:
    """Every single claim of the request and whether the picture keeps it."""
    ground, objects = detect(made_HW3)
    caption, found = case.caption, {}
    groups = []
    for noun in caption.nouns:
        colour, shape = noun.split()
        alike = [one for one in objects if one.shape == shape]
        both = [one for one in alike if one.colour == colour]
        found[f"{noun}: shape"] = len(alike) >= caption.count
        if case.kind != "single":
            found[f"{noun}: colour"] = len(both) >= caption.count
        if case.kind == "counting":
            found[f"{noun}: {NUMBERS[caption.count]}"] = len(both) == caption.count
        groups.append(both)
    if caption.relation:
        pairs = [(a, b) for a in groups[0] for b in groups[1]]
        found[caption.relation] = bool(pairs) and all(caption.relation in relations(a, b) for a, b in pairs)
    found["ground"] = ground == caption.ground
    found["nothing more"] = len(objects) == caption.count * len(caption.nouns)
    return found


def judge(case: ShapeCase, output: np.ndarray) -> bool:
    """Whether the picture, uint8 [H, W, 3], keeps every claim; for a clip [F, H, W, 3], whether it moves as asked."""
    if case.kind == "clip":
        return clip_scores(case, output)["semantic"] > 0.85  # a wrong way alone leaves 0.75
    return all(atoms(case, output).values())


def overall(results: Mapping[str, Sequence[bool]]) -> float:
    """GenEval's overall score: the mean of the categories' shares of right pictures."""
    shares = [sum(hits) / len(hits) for hits in results.values() if len(hits)]
    return sum(shares) / max(1, len(shares))


def detect(made_HW3: np.ndarray) -> tuple[str, list[Found]]:
    """The ground's name and every object, largest first."""
    height, width = made_HW3.shape[:2]
    lab_HW3 = to_lab(made_HW3)
    border = np.concatenate([lab_HW3[0], lab_HW3[-1], lab_HW3[:, 0], lab_HW3[:, -1]])
    ground_3 = np.median(border, axis=0)
    names = list(GROUNDS)
    ground = names[int(np.linalg.norm(to_lab(np.array(list(GROUNDS.values()))) - ground_3, axis=-1).argmin())]
    there_HW = np.linalg.norm(lab_HW3 - ground_3, axis=-1) > GROUND_FAR
    objects = []
    for ys, xs in components(there_HW):
        if len(ys) < SMALLEST * height * width:
            continue
        left, top, right, bottom = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
        mask = np.zeros((bottom - top, right - left), np.uint8)
        mask[ys - top, xs - left] = 255
        found = Found(
            shape=_shape_of(mask),
            colour=_colour_of(lab_HW3[ys, xs]),
            box=(left, top, right, bottom),
            area=len(ys) / (height * width),
        )
        objects.append(found)
    return ground, sorted(objects, key=lambda found: -found.area)


def relations(a: Found, b: Found, *, slack: float = 0.1) -> set[str]:
    """How `a` lies to `b`: offset of the centres less a tenth of both sizes, in the directions that prevail."""
    offset = np.subtract(a.centre, b.centre)
    sizes = [np.array([one.box[2] - one.box[0], one.box[3] - one.box[1]]) for one in (a, b)]
    kept = np.maximum(np.abs(offset) - slack * (sizes[0] + sizes[1]), 0) * np.sign(offset)
    if not kept.any():
        return set()
    across, down = kept / np.linalg.norm(offset)
    found = {"to the left of": -across, "to the right of": across, "above": -down, "below": down}
    return {name for name, amount in found.items() if amount > 0.5}


def components(there_HW: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of every 4-connected part of a mask, by joining the runs of neighbouring rows."""
    runs: list[tuple[int, int, int]] = []
    parent: list[int] = []

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    above: list[int] = []
    for y, row in enumerate(there_HW):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        own = []
        for start, stop in edges.reshape(-1, 2).tolist():
            number = len(runs)
            runs.append((y, start, stop))
            parent.append(number)
            own.append(number)
            for other in above:
                if runs[other][1] < stop and start < runs[other][2]:
                    parent[root(other)] = root(number)
        above = own
    parts: dict[int, list[tuple[int, int, int]]] = {}
    for number, run in enumerate(runs):
        parts.setdefault(root(number), []).append(run)
    return [
        (
            np.concatenate([np.full(stop - start, y) for y, start, stop in part]),
            np.concatenate([np.arange(start, stop) for _, start, stop in part]),
        )
        for part in parts.values()
    ]


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB bytes [..., 3] to CIE L*a*b* under D65."""
    linear = np.asarray(rgb, np.float64) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@lru_cache(maxsize=1)
def templates(side: int = 32) -> dict[str, np.ndarray]:
    """Each shape filling a square, as a mask."""
    inner = round(side / SHAPE_FILL / 2) * 2
    cut = (inner - side) // 2
    sprites = shape_sprites(inner)[: len(SHAPES), cut : cut + side, cut : cut + side, 3]
    return {noun.split()[1]: cover > 127 for noun, cover in zip(SHAPE_NOUNS, sprites, strict=False)}


def _shape_of(mask: np.ndarray) -> str | None:
    from PIL import Image

    seen = np.asarray(Image.fromarray(mask).resize((32, 32), Image.Resampling.BILINEAR)) > 127
    fits = {name: float((seen & cover).sum() / (seen | cover).sum()) for name, cover in templates().items()}
    best = max(fits, key=lambda name: fits[name])
    return best if fits[best] >= FIT else None


def _colour_of(lab_N3: np.ndarray) -> str | None:
    """The name of the object's middle colour, None when it has none or when less than two thirds are of it."""
    middle = np.median(lab_N3, axis=0)
    names = list(SHAPE_COLOURS)
    far = np.linalg.norm(to_lab(np.array(list(SHAPE_COLOURS.values()))) - middle, axis=-1)
    even = (np.linalg.norm(lab_N3 - middle, axis=-1) < COLOUR_FAR).mean() > 2 / 3
    return names[int(far.argmin())] if far.min() < COLOUR_FAR and even else None


def clip_scores(case: ShapeCase, made_FHW3: np.ndarray) -> dict[str, float]:
    """ShapeVBench of one clip: its parts, `semantic`, `quality`, and `total`, each in 0..1.

    Raises ValueError for a clip of fewer than four frames.
    """
    frames = len(made_FHW3)
    if frames < 4:
        raise ValueError(f"a motion cannot be judged on {frames} frames; at least 4 are needed")
    colour, shape = case.caption.nouns[0].split()
    seen = [detect(frame) for frame in made_FHW3]
    track = [next((one for one in objects if one.colour == colour), None) for _, objects in seen]
    where = [frame for frame in range(frames) if track[frame] is not None]
    scores = {
        "presence": len(where) / frames,
        "shape": sum(one is not None and one.shape == shape for one in track) / frames,
        "alone": sum(len(objects) == 1 for _, objects in seen) / frames,
        "ground": sum(ground == case.caption.ground for ground, _ in seen) / frames,
        "motion": 0.0, "smooth": 0.0, "size": 0.0, "colour": 0.0,
    }  # fmt: skip
    found = [one for one in track if one is not None]
    if len(found) >= max(3, frames // 2):
        scores |= _track_scores(case.caption.motions[0], np.array(where), found, made_FHW3)
    scores["flicker"] = _stillness(made_FHW3, found)
    scores["semantic"] = float(np.mean([scores[part] for part in ("presence", "shape", "motion", "ground")]))
    parts = ("alone", "smooth", "size", "colour", "flicker")
    scores["quality"] = float(np.mean([scores[part] for part in parts]))
    scores["total"] = (scores["semantic"] + scores["quality"]) / 2
    return scores


def _track_scores(motion: str, when: np.ndarray, found: list[Found], made_FHW3: np.ndarray) -> dict[str, float]:
    height, width = made_FHW3.shape[1:3]
    x, y = np.array([one.centre for one in found]).T / np.array([[width], [height]])
    size = np.sqrt([one.area for one in found])
    span = when[-1] - when[0]
    right, down, more = (float(np.polyfit(when, values, 1)[0] * span) for values in (x, y, size / size.mean()))
    way = float(np.hypot(right, down))
    fits = {
        "moving right": right > 0.05 and right > 2 * abs(down),
        "moving left": -right > 0.05 and -right > 2 * abs(down),
        "moving down": down > 0.05 and down > 2 * abs(right),
        "moving up": -down > 0.05 and -down > 2 * abs(right),
        "growing": more > 0.15 and way < 0.08,
        "shrinking": more < -0.15 and way < 0.08,
    }
    stray = np.hypot(*(values - np.polyval(np.polyfit(when, values, 2), when) for values in (x, y)))
    middles = []
    for frame, one in zip(when, found, strict=True):
        column, row = (int(at) for at in one.centre)
        patch = made_FHW3[frame, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        middles.append(to_lab(np.median(patch.reshape(-1, 3), axis=0)))
    steps = np.linalg.norm(np.diff(middles, axis=0), axis=1)
    resized = motion in ("growing", "shrinking")
    return {
        "motion": float(fits[motion]),
        "way": way,
        "smooth": float(np.clip(1 - np.sqrt((stray**2).mean()) / 0.03, 0, 1)),
        "size": 1.0 if resized else float(np.clip(1 - size.std() / size.mean() / 0.2, 0, 1)),
        "colour": float(np.clip(1 - steps.mean() / 10, 0, 1)),
    }


def _stillness(made_FHW3: np.ndarray, found: Sequence[Found]) -> float:
    """How little pixels outside the object's path change from frame to frame: 1 for not at all, 0 for a tenth."""
    still_HW = np.ones(made_FHW3.shape[1:3], bool)
    for one in found:
        left, top, right, bottom = one.box
        still_HW[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
    if not still_HW.any():
        return 1.0
    change = np.abs(np.diff(made_FHW3.astype(np.float32), axis=0)).mean((0, 3))[still_HW].mean() / 255
    return float(np.clip((0.1 - change) / 0.1, 0, 1))


def truth(case: ShapeCase, *, size: int = 128, frames: int = 16) -> np.ndarray:
    """What the case asks for, uint8: a picture [H, W, 3], or for a clip [F, H, W, 3]."""
    import torch

    from dsv4.data.atlas import shape_atlas
    from dsv4.data.compose import render_clips, render_pictures, to_bytes
    from dsv4.data.scenes import place_scenes

    atlas = shape_atlas()
    batch = {
        name: torch.from_numpy(array) for name, array in place_scenes([case.caption], atlas.names).arrays().items()
    }
    if case.kind == "clip":
        return to_bytes(render_clips(batch, atlas, size, frames))[0].permute(1, 2, 3, 0).numpy()
    return to_bytes(render_pictures(batch, atlas, size))[0].permute(1, 2, 0).numpy()
