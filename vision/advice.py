"""Which mode is enough for a kind of document, from published error rates.

Source: DeepSeek-OCR (arXiv 2510.18234), table 4: edit distance by kind of document, lower is better.
"""

from __future__ import annotations

import dataclasses
import difflib

from .modes import MODES, Mode

_COLUMNS = ("tiny", "small", "base", "large", "gundam", "gundam-m")
EDIT_DISTANCE: dict[str, dict[str, float]] = {
    kind: dict(zip(_COLUMNS, row, strict=True))
    for kind, row in {
        "slides": (0.116, 0.111, 0.080, 0.108, 0.085, 0.090),
        "book": (0.147, 0.085, 0.037, 0.038, 0.035, 0.052),
        "report": (0.207, 0.079, 0.027, 0.022, 0.289, 0.034),
        "newspaper": (0.940, 0.744, 0.645, 0.353, 0.122, 0.099),
        "any": (0.320, 0.205, 0.156, 0.117, 0.083, 0.077),
    }.items()
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """The mode to take, what was measured with it, and what it costs for this picture."""

    mode: Mode
    edit_distance: float
    best: float
    tokens: int

    @property
    def why(self) -> str:
        """One sentence for people."""
        return (
            f"{self.mode.name.title()} is enough: {self.tokens} tokens, published edit distance "
            f"{self.edit_distance:.3f} where the best mode has {self.best:.3f}"
        )


def advise(kind: str, width: int, height: int, *, slack: float = 0.05) -> Advice:
    """The cheapest mode that comes within `slack` of the best published edit distance for a `kind` of document.

    Kinds: slides, book, report, newspaper, any. Modes without released weights are left out. Raises ValueError for
    another kind, or a picture without pixels.
    """
    if kind not in EDIT_DISTANCE:
        near = difflib.get_close_matches(kind, EDIT_DISTANCE, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown kind of document '{kind}'{hint} Kinds: {', '.join(EDIT_DISTANCE)}")
    rates = {name: rate for name, rate in EDIT_DISTANCE[kind].items() if MODES[name].trained}
    best = min(rates.values())
    enough = [MODES[name] for name, rate in rates.items() if rate <= best + slack + 1e-9]
    chosen = min(enough, key=lambda mode: mode.num_tokens(width, height).sequence)
    tokens = chosen.num_tokens(width, height).sequence
    return Advice(mode=chosen, edit_distance=rates[chosen.name], best=best, tokens=tokens)
