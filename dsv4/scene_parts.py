"""How a request for a drawing is drawn: whole, or, for a scene of things, each thing alone and then all together.

Things with long drawings have no room in the scenes that training shows, so drawn whole they come out as others.
The layout is that of these scenes (`data.drawings`). Tokens are local ids, counted from the first SVG token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsv4.instructions import scene_of, split_motion

if TYPE_CHECKING:
    from dsv4.data.language import Caption


@dataclass(frozen=True, kw_only=True)
class DrawingPlan:
    """A request without its motion, and the scene that it asks for where that is put together."""

    request: str
    scene: Caption | None

    @property
    def prompts(self) -> tuple[str, ...]:
        """What the model is asked to draw, one after another."""
        from dsv4.data.language import noun_phrase

        return (self.request,) if self.scene is None else tuple(noun_phrase(noun) for noun in self._things)

    @property
    def told(self) -> dict[str, Any]:
        """What the provenance says of it."""
        return {} if self.scene is None else {"made_by": "parts"}

    def together(self, drawings: Sequence[Sequence[int]]) -> list[int]:
        """The tokens of the whole, from those of a drawing for each prompt."""
        from dsv4.data.drawings import Drawings

        if self.scene is None:
            (whole,) = drawings
            return list(whole)
        return Drawings().scene(self.scene, dict(zip(self._things, drawings, strict=True)))

    @property
    def _things(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.scene.nouns)) if self.scene is not None else ()


def planned(prompt: str, candidates: int) -> DrawingPlan:
    """The plan for a request. Motions move the whole, and candidates are ranked as wholes: both are drawn whole."""
    request, motion = split_motion(prompt)
    scene = scene_of(request) if candidates == 1 and motion is None else None
    return DrawingPlan(request=request, scene=scene)
