"""What of a request is not for the model: the motion at its end, which is put into the finished drawing.

F poses. Source: `data.motions`, the tables that the closed world's clips are made from.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from dsv4.data.language import Caption

POSES = 25  # a whole number of eighths and one, so that the turning points of every wave are among them
MOTION_SECONDS = 2.0


def split_motion(prompt: str) -> tuple[str, str | None]:
    """A request without its motion, and the motion's name: "a star bouncing" gives ("a star", "bouncing").

    Only the end of a request is looked at, since a spinning top is a thing; a motion alone is left as it is.
    """
    from dsv4.data.language import MOTIONS

    found = re.fullmatch(rf"(.*?\S)\s+(?:that is |which is )?({'|'.join(MOTIONS)})[\s.!]*", prompt, re.S | re.I)
    if found is None or found[1].lower() in ("a", "an", "the"):
        return prompt, None
    return found[1], found[2].lower()


def scene_of(prompt: str) -> Caption | None:
    """The scene of two or three things that a request asks for, each with its article; None for other requests.

    "a cat to the left of a dog on a mint background" and "draw a cat, a dog and an owl please" are such. Scenes with
    coloured shapes and rows of icons are not: these are learnt whole.
    """
    from dsv4.data.language import GROUNDS, RELATIONS, Caption, is_shape

    grounds, relations = ("|".join(map(re.escape, names)) for names in (GROUNDS, RELATIONS))
    wish = r"(?:please )?(?:(?:draw|make|show)(?: me)? |(?:an? )?(?:svg|drawing) of )?"
    form = rf"{wish}(.+?)(?: on an? ({grounds}) background)?,?(?: please)?[\s.!]*"
    found = re.fullmatch(form, " ".join(prompt.lower().split()))
    if found is None:
        return None
    noun = r"(?:an?|the) ((?:(?! an? | the |,|\band\b).)+)"
    pair = re.fullmatch(rf"{noun} ({relations}|and) {noun}", found[1])
    row = re.fullmatch(rf"{noun}, {noun},? and {noun}", found[1])
    nouns = (pair[1], pair[3]) if pair else row.groups() if row else ()
    if not nouns or any(is_shape(name) or re.search(r"\bicons?\b", name) for name in nouns):
        return None
    relation = pair[2] if pair and pair[2] != "and" else None
    return Caption(nouns=nouns, relation=relation, ground=found[2] or "white")


def poses_of(motion: str) -> np.ndarray:
    """float32 [F, 4] for `generation.svg.moving`: a motion of one actor that has the canvas to itself."""
    from dsv4.data.motions import motion_row, motion_table

    poses_F4 = motion_table(POSES)[motion_row(motion, company=False)].copy()
    if abs(poses_F4[-1, 3]) > math.pi:
        # A clip's last frame is one short of the whole turn; a drawing has no frames, so it turns wholly.
        poses_F4[:, 3] *= 2 * math.pi / poses_F4[-1, 3]
    return poses_F4
