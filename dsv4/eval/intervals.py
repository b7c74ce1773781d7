"""The Wilson score interval of a share. Source: Wilson 1927, "Probable inference", J. Am. Stat. Assoc. 22."""

from __future__ import annotations

import math


def wilson(hits: int, count: int, *, z: float = 1.96) -> tuple[float, float]:
    """Lower and upper bound of the true share behind `hits` of `count`; (0, 1) when nothing was counted.

    z: half-width in standard deviations, 1.96 for 95 %. Raises ValueError when hits are not within the count.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"hits must lie between 0 and the count, got {hits} of {count}")
    if count == 0:
        return 0.0, 1.0
    share, spread = hits / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)
