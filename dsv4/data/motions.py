"""The ten motions of the closed world as tables: where an actor is, how large and how turned, in every frame.

Shape letters: M rows (the motions alone, the motions in company, one row for standing still), F frames.
"""

from __future__ import annotations

import numpy as np

from dsv4.data.language import MOTIONS

STILL = 2 * len(MOTIONS)  # the row of an actor that does not move
STEPS = 241  # of the fine table; a multiple of every usual clip's frames less one, so that frames fall on steps


def motion_row(motion: str | None, *, company: bool) -> int:
    """The table's row of a motion; in company the ways are shorter, so that two actors stay in their halves."""
    return STILL if motion is None else MOTIONS.index(motion) + company * len(MOTIONS)


def motion_table(frames: int = STEPS) -> np.ndarray:
    """float32 [M, F, 4]: shift right and down (in picture sides), size (times), turn (radians, clockwise).

    A motion takes the whole clip, however many frames that has.
    """
    u_F = np.arange(frames) / max(1, frames - 1)
    rows = [_motion(name, u_F, along, rise) for along, rise in ((0.24, 0.22), (0.075, 0.2)) for name in MOTIONS]
    still_F4 = np.tile(np.array([0.0, 0.0, 1.0, 0.0]), (frames, 1))
    return np.stack([*rows, still_F4]).astype(np.float32)


def _motion(name: str, u_F: np.ndarray, along: float, rise: float) -> np.ndarray:
    """One motion [F, 4]; along and rise: half of the way to the side and up, in picture sides."""
    zero, one = np.zeros_like(u_F), np.ones_like(u_F)
    sweep = 1 - 2 * u_F
    wave = np.sin(2 * np.pi * u_F)
    turn = 2 * np.pi * u_F * 15 / 16  # a clip of 16 frames ends one frame before it would begin again
    parts = {
        "moving left": (along * sweep, zero, one, zero),
        "moving right": (-along * sweep, zero, one, zero),
        "moving up": (zero, rise * sweep, one, zero),
        "moving down": (zero, -rise * sweep, one, zero),
        "spinning": (zero, zero, one, turn),
        "bouncing": (zero, 0.5 * rise - rise * np.abs(wave), one, zero),
        "growing": (zero, zero, 0.4 + 0.7 * u_F, zero),
        "shrinking": (zero, zero, 1.1 - 0.7 * u_F, zero),
        "shaking": (0.05 * np.sin(6 * np.pi * u_F), zero, one, zero),
        "swinging": (zero, zero, one, 0.5 * wave),
    }
    return np.stack(parts[name], axis=-1)
