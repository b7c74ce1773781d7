"""What a flat picture is made of: its few colours, which of them covers each pixel, and whether it is flat at all.

A pixel between two regions is a blend of both (antialiasing), so it names no colour of its own; its share of each is
kept, and outlines found from the shares lie between pixels. Shape letters: S side in pixels, K colours, N rows, 3 RGB.
Source: alpha matting's linear blend of two colours along an edge; the numbers were measured (docs/hands.md).
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from .palette import lab

MOST_COLOURS = 16
SIDE = 256  # pixels at which flatness is measured
APART = 7.0  # Lab: colours nearer than this are one
_COMMON = 0.01  # of all pixels: what covers less is a colour only where it is
_RARE_APART = 20.0  # as far as this from the others, which JPEG's rings are not
_LEAST = 0.0003  # of all pixels that a colour has at least
_STEP = 36.0  # RGB: neighbours farther apart than this have an edge between them
_OFF = 16.0  # RGB: a pixel farther than this from what the layers say is not explained by them
# Of 8 photographs at SIDE none has fewer than 27 crossings; of 65 scenes and icons none has above 11, a logo in the
# poorest JPEG has 16.
EXPLAINED, SHARP, CROSSINGS = 0.92, 0.85, 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """A square picture as few colours.

    `colours_K3`: uint8, the commonest first. `cover_KSS`: float32, how much of each pixel each colour has; they add up
    to 1. `explained`: share of pixels that the colours and their blends give back. `crossings`: changes of colour along
    a row or column, on average. `sharp`: share of those with a step in the picture, which bands of a gradient lack.
    """

    colours_K3: np.ndarray
    cover_KSS: np.ndarray
    explained: float
    crossings: float
    sharp: float

    @property
    def flat(self) -> bool:
        """Whether tracing can give the picture back: a logo, an icon, a flat drawing; no photograph, no gradient."""
        return self.explained >= EXPLAINED and self.crossings <= CROSSINGS and self.sharp >= SHARP


def layers_of(picture_SS3: np.ndarray) -> Layers:
    """The layers of a square picture (uint8, any content)."""
    edge_SS = _between(picture_SS3)
    colours_K3 = _colours(picture_SS3, edge_SS)
    near_SS, off_SS = _nearest(picture_SS3, colours_K3)
    cover_KSS = np.zeros((len(colours_K3), *near_SS.shape), np.float32)
    np.put_along_axis(cover_KSS, near_SS[None], 1, axis=0)
    if edge_SS.any() and len(colours_K3) > 1:
        off_SS[edge_SS] = _blend(picture_SS3, colours_K3, near_SS, edge_SS, cover_KSS)
    label_SS = cover_KSS.argmax(0)
    return Layers(
        colours_K3=colours_K3,
        cover_KSS=cover_KSS,
        explained=float((off_SS <= _OFF).mean()),
        **_borders(picture_SS3, colours_K3, label_SS, edge_SS),
    )


def _shifted(array: np.ndarray, down: int, right: int) -> np.ndarray:
    """The array moved against (down, right), its border repeated: what lies there from each pixel."""
    height, width = array.shape[:2]
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return array[rows[:, None], columns[None]]


def _between(picture_SS3: np.ndarray) -> np.ndarray:
    """Where a pixel is a blend of two that lie on opposite sides of it, bool [S, S]."""
    pixels = picture_SS3.astype(np.float32)
    found = np.zeros(pixels.shape[:2], bool)
    for reach, (down, right) in itertools.product((1, 2, 4), ((0, 1), (1, 0), (1, 1), (1, -1))):
        before = _shifted(pixels, -reach * down, -reach * right)
        way = _shifted(pixels, reach * down, reach * right) - before
        length = np.square(way).sum(-1)
        part = ((pixels - before) * way).sum(-1) / np.maximum(length, 1)
        off = np.square(pixels - before - part[..., None] * way).sum(-1)
        found |= (length > _STEP**2) & (part > 0.06) & (part < 0.94) & (off < 0.06 * length)
    return found


def _colours(picture_SS3: np.ndarray, edge_SS: np.ndarray) -> np.ndarray:
    """The colours of pixels that are no edge, uint8 [K, 3]: greedily the commonest that is far from those before."""
    pixels_N3 = picture_SS3[~edge_SS] if (~edge_SS).any() else picture_SS3.reshape(-1, 3)
    keys_N = pixels_N3.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    exact, counts = np.unique(keys_N, return_counts=True)
    exact_N3 = np.stack([exact >> 16, exact >> 8 & 255, exact & 255], -1)
    bins, place_N = np.unique(exact_N3 // 8 @ (1 << 10, 1 << 5, 1), return_inverse=True)
    weight = np.bincount(place_N, counts, len(bins))
    mean_N3 = np.stack([np.bincount(place_N, counts * exact_N3[:, c], len(bins)) / weight for c in range(3)], -1)
    lab_N3, order = lab(mean_N3), np.argsort(-weight, kind="stable")
    left = np.ones(len(bins), bool)
    chosen: list[int] = []
    for place in order:
        if not left[place] or len(chosen) == MOST_COLOURS:
            continue
        near = np.linalg.norm(lab_N3 - lab_N3[place], axis=-1) < APART
        share = weight[near & left].sum() / edge_SS.size
        gap = np.linalg.norm(lab_N3[chosen] - lab_N3[place], axis=-1).min() if chosen else np.inf
        if chosen and (share < _LEAST or (share < _COMMON and gap < _RARE_APART)):
            continue
        chosen.append(int(place))
        left &= ~near
    return _refined(exact_N3, counts, mean_N3[chosen])


def _refined(exact_N3: np.ndarray, counts: np.ndarray, colours_K3: np.ndarray) -> np.ndarray:
    """Each colour as the commonest exact one near it where that is common, else as their mean."""
    gaps = np.linalg.norm(lab(exact_N3)[:, None] - lab(colours_K3)[None], axis=-1)
    home, found = gaps.argmin(1), []
    for place, colour in enumerate(colours_K3):
        mine = np.flatnonzero((home == place) & (gaps[:, place] < APART))
        if len(mine) and counts[mine].max() >= 0.3 * counts[mine].sum():
            colour = exact_N3[mine[counts[mine].argmax()]]
        elif len(mine):
            colour = np.average(exact_N3[mine], axis=0, weights=counts[mine])
        found.append(np.round(colour))
    return np.array(found, np.uint8)


def _nearest(picture_SS3: np.ndarray, colours_K3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each pixel's nearest colour, and how far off it is in RGB; both [S, S]."""
    pixels = picture_SS3.astype(np.float32)
    gaps_KSS = np.stack([np.linalg.norm(pixels - colour, axis=-1) for colour in colours_K3.astype(np.float32)])
    return gaps_KSS.argmin(0), gaps_KSS.min(0)


def _blend(
    picture_SS3: np.ndarray, colours_K3: np.ndarray, near_SS: np.ndarray, edge_SS: np.ndarray, cover_KSS: np.ndarray
) -> np.ndarray:
    """Set the cover of edge pixels to shares of one or two colours near them; how far off that is in RGB, [N]."""
    rows, columns = np.nonzero(edge_SS)
    pixels_N3 = picture_SS3[rows, columns].astype(np.float32)
    colours = colours_K3.astype(np.float32)
    there_KN = np.stack([_grown(~edge_SS & (near_SS == place))[rows, columns] for place in range(len(colours))])
    there_KN |= ~there_KN.any(0)  # no region near: any colour will do
    best_N = np.full(len(rows), np.inf, np.float32)
    first_N, second_N, part_N = np.zeros(len(rows), int), np.zeros(len(rows), int), np.zeros(len(rows), np.float32)
    for one, other in itertools.combinations_with_replacement(range(len(colours)), 2):
        way = colours[other] - colours[one]
        part = np.clip((pixels_N3 - colours[one]) @ way / max(float(way @ way), 1.0), 0, 1)
        off = np.linalg.norm(pixels_N3 - colours[one] - part[:, None] * way, axis=-1)
        better = there_KN[one] & there_KN[other] & (off < best_N)
        best_N[better], first_N[better], second_N[better], part_N[better] = off[better], one, other, part[better]
    cover_KSS[:, rows, columns] = 0
    cover_KSS[first_N, rows, columns] += 1 - part_N
    cover_KSS[second_N, rows, columns] += part_N
    return best_N


def _grown(mask_SS: np.ndarray, reach: int = 5) -> np.ndarray:
    for _ in range(reach):
        mask_SS = mask_SS | _shifted(mask_SS, 1, 0) | _shifted(mask_SS, -1, 0)
        mask_SS = mask_SS | _shifted(mask_SS, 0, 1) | _shifted(mask_SS, 0, -1)
    return mask_SS


def _borders(
    picture_SS3: np.ndarray, colours_K3: np.ndarray, label_SS: np.ndarray, edge_SS: np.ndarray
) -> dict[str, float]:
    """How often the colour changes on a line, and at how many of those places there is a step."""
    pixels, colours = picture_SS3.astype(np.float32), colours_K3.astype(np.float32)
    changed = sharp = 0
    for axis in (0, 1):
        head = [slice(None, -1) if axis == one else slice(None) for one in (0, 1)]
        tail = [slice(1, None) if axis == one else slice(None) for one in (0, 1)]
        here, there = tuple(head), tuple(tail)
        other = label_SS[here] != label_SS[there]
        step = np.linalg.norm(pixels[here] - pixels[there], axis=-1)[other]
        whole = np.linalg.norm(colours[label_SS[here][other]] - colours[label_SS[there][other]], axis=-1)
        crossed = (edge_SS[here] | edge_SS[there])[other] | (step >= 0.6 * whole)
        changed, sharp = changed + int(other.sum()), sharp + int(crossed.sum())
    return {"crossings": changed / 2 / len(label_SS), "sharp": sharp / changed if changed else 1.0}
