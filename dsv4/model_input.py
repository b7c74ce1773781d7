"""What the model reads: ids, pictures and where they go, checked once here and trusted everywhere below.

Shape letters: B batch (always 1), T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One prompt, ready for the model.

    Args:
        token_ids_BT: int64, shape [1, T].
        views: the prepared pictures in the order they appear; each has `.tokens`, the places it takes.
        image_spans: (start, stop) of each picture's places in T, in order, none overlapping.
        memory_ids_BT: int64, what Engram hashes; -1 closes it at a place. None: the token ids, closed at pictures.
        positions_BT: int64, not negative. None: 0, 1, 2, ...

    Raises:
        ValueError: if a dtype, a shape or a span disagrees with the rest.
    """

    token_ids_BT: Tensor
    views: tuple[Any, ...] = ()
    image_spans: tuple[tuple[int, int], ...] = ()
    memory_ids_BT: Tensor | None = None
    positions_BT: Tensor | None = None

    def __post_init__(self) -> None:
        import torch

        shape = tuple(self.token_ids_BT.shape)
        if len(shape) != 2 or shape[0] != 1 or shape[1] < 1:
            raise ValueError(f"token_ids_BT must have shape [1, T] with T of at least 1, got {list(shape)}")
        for name in ("token_ids_BT", "memory_ids_BT", "positions_BT"):
            ids_BT = getattr(self, name)
            if ids_BT is None:
                continue
            if ids_BT.dtype != torch.int64:
                raise ValueError(f"{name} must be int64, got {ids_BT.dtype}")
            if tuple(ids_BT.shape) != shape:
                raise ValueError(f"{name} has shape {list(ids_BT.shape)}, but there are tokens of shape {list(shape)}")
        self._check_spans(shape[1])
        self._check_values()
        if self.memory_ids_BT is None:
            object.__setattr__(self, "memory_ids_BT", self._closed_at_pictures())
        if self.positions_BT is None:
            object.__setattr__(self, "positions_BT", torch.arange(shape[1], device=self.token_ids_BT.device)[None])

    @property
    def length(self) -> int:
        """How many places the prompt takes."""
        return self.token_ids_BT.shape[1]

    @classmethod
    def fake(cls, *, length: int = 16, vocab_size: int = 256) -> ModelInput:
        """A valid text-only input, the same on every call."""
        import torch

        return cls(token_ids_BT=(torch.arange(length) * 7 % vocab_size)[None])

    def _check_spans(self, length: int) -> None:
        if len(self.views) != len(self.image_spans):
            raise ValueError(f"{len(self.views)} pictures, but {len(self.image_spans)} spans")
        end = 0
        for index, (view, (start, stop)) in enumerate(zip(self.views, self.image_spans, strict=True)):
            if not end <= start < stop <= length:
                raise ValueError(f"span ({start}, {stop}) of picture {index} overlaps another or leaves 0..{length}")
            if stop - start != view.tokens:
                raise ValueError(f"picture {index} takes {view.tokens} places, its span has {stop - start}")
            end = stop

    def _check_values(self) -> None:
        if int(self.token_ids_BT.min()) < 0:
            raise ValueError("token_ids_BT holds a negative id")
        if self.positions_BT is not None and int(self.positions_BT.min()) < 0:
            raise ValueError("positions_BT holds a negative position")
        if self.memory_ids_BT is not None and int(self.memory_ids_BT.min()) < -1:
            raise ValueError("memory_ids_BT holds an id below -1; -1 is the one that closes the memory")

    def _closed_at_pictures(self) -> Tensor:
        memory_ids_BT = self.token_ids_BT.clone()
        for start, stop in self.image_spans:
            memory_ids_BT[:, start:stop] = -1
        return memory_ids_BT
