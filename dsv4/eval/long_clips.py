"""Clips longer than the head was trained on: are the actors still right at the end, does the picture jump on the way?

Run as `python -m dsv4.eval.long_clips --data build/data --limit 12 -o docs/long_clips.png`. Three ways to a long clip,
as people have them: in one pass (`--seconds`), where a motion takes the whole clip; gone on with (`--after`) in the
same words, where it begins anew; and gone on with in the motion that begins where the last one ended.
Source: the judges of `clips`. Shape letters: F frames, H and W pixels.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.data.atlas import Atlas
from dsv4.eval import clips
from dsv4.eval.clips import ClipCase
from dsv4.eval.intervals import wilson
from dsv4.eval.pictures import Nearest, ground_of
from dsv4.eval.sheet import draw_sheet
from dsv4.limits import CLIP_FPS
from dsv4.results import check_output

TRAINED = 16  # frames
LENGTHS = (16, 32, 48)
KINDS = ("motion", "two")  # one thing in a motion that it never had in training; two things that never met
WAYS = {"pass": "one pass", "again": "--after, same words", "back": "--after, motion back"}
RETURN = {
    "moving left": "moving right", "moving right": "moving left", "moving up": "moving down",
    "moving down": "moving up", "growing": "shrinking", "shrinking": "growing",
}  # fmt: skip
HEAD = """\
| frames | made | one: name, first 16 | last 16 | moves | two: names, first 16 | last 16 | move | seam (true) | jumps |
|---|---|---|---|---|---|---|---|---|---|"""
JUMP = 2.0  # times the usual difference between neighbours: seen as a jump
EVERY, SHOWN = 6, 2  # frames between those on the sheet; cases of each kind there

# Case, frames, seed and the clip that is gone on with (which the result begins with) -> uint8 [F, H, W, 3].
Make = Callable[[ClipCase, int, int, np.ndarray | None], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A motion from its beginning to its end, and the frames of it that are looked at."""

    case: ClipCase
    frames_FHW3: np.ndarray
    looked: slice | None = None  # None: all

    def actors_right(self, nearest: Nearest) -> bool:
        """Whether every actor is the nearest of all things, and the ground is right."""
        looked, actors = self.frames_FHW3[self.looked or slice(None)], range(len(self.case.caption.nouns))
        if ground_of(looked[len(looked) // 2]) != self.case.caption.ground:
            return False
        return all(clips.name_right(self.case, self.frames_FHW3, nearest, actor, self.looked) for actor in actors)

    def moves_right(self, atlas: Atlas) -> bool:
        """Whether every actor moves as it was asked to, over the whole motion."""
        actors = range(len(self.case.caption.nouns))
        return all(clips.motion_right(self.case, self.frames_FHW3, atlas, actor) for actor in actors)


def asked(case: ClipCase, way: str, window: int) -> ClipCase:
    """What window number `window` from 0 is asked for: in "back", every second one takes the motions back."""
    if way != "back" or window % 2 == 0:
        return case
    motions = tuple(RETURN.get(motion, motion) for motion in case.caption.motions)
    return replace(case, caption=replace(case.caption, motions=motions))


def film(make: Make, case: ClipCase, way: str, frames: int, seed: int) -> np.ndarray:
    """A clip of so many frames, uint8 [F, H, W, 3]; a window that goes on begins with the last frame before it."""
    if way == "pass":
        return make(case, frames, seed, None)
    made = make(case, TRAINED, seed, None)
    while len(made) < frames:
        made = make(asked(case, way, len(made) // TRAINED), TRAINED + 1, seed, made)
    return made


def drawn(atlas: Atlas) -> Make:
    """A maker that draws what was asked for: the true clips."""

    def make(case: ClipCase, frames: int, seed: int, before: np.ndarray | None) -> np.ndarray:
        made = clips.truth(case, atlas, frames=frames)
        return made if before is None else np.concatenate([before, made[1:]])

    return make


def painted(studio: Any, steps: int) -> Make:
    """A maker that asks a studio, as people do; what it goes on with stands in a file without loss."""
    from dsv4.messages import video

    def make(case: ClipCase, frames: int, seed: int, before: np.ndarray | None) -> np.ndarray:
        told = {"seconds": frames / CLIP_FPS, "seed": seed, "steps": steps}
        if before is None:
            return studio.video(case.prompt, **told).frames
        with tempfile.TemporaryDirectory() as folder:
            part("generation").save_clip(Path(folder) / "before.apng", before, fps=CLIP_FPS, provenance=None)
            return studio.video(case.prompt, after=video(Path(folder) / "before.apng"), **told).frames

    return make


def first_part(case: ClipCase, way: str, clip_FHW3: np.ndarray) -> Part:
    """The first 16 frames."""
    if way == "pass":
        return Part(case=case, frames_FHW3=clip_FHW3, looked=slice(0, TRAINED))
    return Part(case=case, frames_FHW3=clip_FHW3[:TRAINED])


def last_part(case: ClipCase, way: str, clip_FHW3: np.ndarray) -> Part:
    """The last 16 frames; what was gone on with is judged as a clip from the frame it began with."""
    frames = len(clip_FHW3)
    if way == "pass":
        return Part(case=case, frames_FHW3=clip_FHW3, looked=slice(frames - TRAINED, frames))
    window = frames // TRAINED - 1
    return Part(case=asked(case, way, window), frames_FHW3=clip_FHW3[-TRAINED - (window > 0) :])


def seam(clip_FHW3: np.ndarray) -> float:
    """How much the picture changes from one window of 16 frames to the next, in times the change elsewhere."""
    steps_F = np.abs(np.diff(clip_FHW3.astype(np.float32), axis=0)).mean((1, 2, 3))
    at_F = np.arange(1, len(clip_FHW3)) % TRAINED == 0
    return float(steps_F[at_F].mean() / max(1e-6, steps_F[~at_F].mean()))


def measure(made: Sequence[np.ndarray], found: Sequence[ClipCase], way: str, nearest: Nearest) -> dict[str, list]:
    """Verdicts of the clips made for the cases: first, last, moves, and the seam beside the true clip's."""
    told: dict[str, list] = {"first": [], "last": [], "moves": [], "seam": [], "true": []}
    for case, clip_FHW3 in zip(found, made, strict=True):
        last = last_part(case, way, clip_FHW3)
        told["first"].append(first_part(case, way, clip_FHW3).actors_right(nearest))
        told["last"].append(last.actors_right(nearest))
        told["moves"].append(last.moves_right(nearest.atlas))
        if len(clip_FHW3) > TRAINED:
            told["seam"].append(seam(clip_FHW3))
            told["true"].append(seam(film(drawn(nearest.atlas), case, way, len(clip_FHW3), 0)))
    return told


def line(frames: int, way: str, one: dict[str, list], two: dict[str, list]) -> str:
    """A row of the table."""
    cells = [_share(told[name]) for told in (one, two) for name in ("first", "last", "moves")]
    seams, true = one["seam"] + two["seam"], one["true"] + two["true"]
    cells += [f"{np.mean(seams):.1f} ({np.mean(true):.1f})" if seams else "–"]
    cells += [_share([ratio > JUMP for ratio in seams]) if seams else "–"]
    return f"| {frames} | {WAYS[way]} | " + " | ".join(cells) + " |"


def _share(hits: Sequence[bool]) -> str:
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({100 * low:.0f}–{100 * high:.0f} %)"


def main(argv: list[str] | None = None) -> int:
    """Print the table, each row as it comes, and write the sheet."""
    from dsv4.studio import Studio

    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.long_clips", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder made by `dsv4 data build`")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=12, help="clips of each kind")
    parser.add_argument("--steps", type=int, default=2, help="of the flow; two go without guidance, as everywhere")
    parser.add_argument("-o", "--output", type=Path, help="also draw every sixth frame of some clips here")
    args = parser.parse_args(argv)
    if args.output:
        check_output(args.output, "image")
    nearest, make = Nearest(atlas=Atlas.load(args.data)), painted(Studio.load(args.model), args.steps)
    found = {kind: clips.cases(args.data, kind, limit=args.limit) for kind in KINDS}
    print(HEAD, flush=True)
    longest, cells, made = max(LENGTHS), [], {}
    for frames in LENGTHS:
        for way in WAYS if frames > TRAINED else ("pass",):
            told = []
            for kind, cases in found.items():
                # What is gone on with begins like the longest, so that is made once.
                key = (kind, way, frames if way == "pass" else longest)
                if key not in made:
                    made[key] = [film(make, case, way, key[2], seed) for seed, case in enumerate(cases)]
                told.append(measure([clip[:frames] for clip in made[key]], cases, way, nearest))
                if frames == longest:
                    shown = zip(cases[:SHOWN], made[key], strict=False)
                    cells += [(f"{case.prompt}: {WAYS[way]}", list(clip[::EVERY])) for case, clip in shown]
            print(line(frames, way, *told), flush=True)
    if args.output:
        draw_sheet(cells, columns=longest // EVERY).quantize(256).save(args.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
