"""Choose among several drawings of one request by looking at them: what shows nothing goes last, agreement first.

N drawings. Source: self-consistency (arXiv 2203.11171), taken from answers to renderings: without a judge, the
candidate that is most like the others is the likeliest to be right.
"""

from __future__ import annotations

from collections.abc import Sequence

from .render import rasterise_many
from .wild import likeness

SIDE = 64
_LEAST_INK = 0.01  # of the picture that must differ from the ground


def ranked(svgs: Sequence[str], reference: object | None = None) -> list[int]:
    """Places of the candidates, best first.

    Candidates that show hardly anything come last. The others are ordered by their likeness to
    `reference` (uint8 [64,64,3], what was to be drawn) or, without one, by their mean likeness to each other; equals
    keep their order. Raises ValueError without candidates, and for one that cannot be drawn.
    """
    import numpy as np

    if not svgs:
        raise ValueError("there are no candidates to rank")
    shown = [picture.astype(np.float64) / 255 for picture in rasterise_many(svgs, SIDE)]
    scores = []
    for place, picture_HW3 in enumerate(shown):
        ink = float((np.abs(picture_HW3 - picture_HW3[0, 0]).max(-1) > 0.1).mean())
        others = [np.asarray(reference) / 255] if reference is not None else [*shown[:place], *shown[place + 1 :]]
        alike = float(np.mean([likeness(picture_HW3, other) for other in others])) if others else 0.0
        scores.append((ink >= _LEAST_INK, alike))
    return sorted(range(len(svgs)), key=lambda place: scores[place], reverse=True)
