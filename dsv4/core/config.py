"""Configuration of the language core: closed, frozen, checked where it is made.

Sizes are counts; `reach` has one word a layer.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, get_type_hints

if TYPE_CHECKING:
    from torch import Tensor

REACHES = ("full", "sparse", "sliding")


def _from_dict(kind: type, given: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind, include_extras=False, localns={"Tensor": Any})
    allowed = [item.name for item in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"
            raise ValueError(f"unknown key '{key}' in {where}; {hint}")
        part = next((part for part in _PARTS if str(part.__name__) in str(hints[key])), None)
        if part is not None and isinstance(value, Mapping):
            value = _from_dict(part, value, part.__name__)
        values[key] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _positive(part: Any, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{type(part).__name__}.{name} must be a whole number of at least 1, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Shared entries (key and value at once) and the indexer that chooses among them."""

    heads: int
    entry: int  # size of a head and of the one entry a token leaves in the cache
    rotated: int  # last part of the entry that carries the position
    q_rank: int
    groups: int  # of heads, in the output projection
    o_rank: int  # a group
    window: int
    top_k: int
    index_heads: int
    index_size: int
    index_rotated: int
    theta: float = 1e4

    def __post_init__(self) -> None:
        _positive(self, "heads", "entry", "q_rank", "groups", "o_rank", "window", "top_k", "index_heads", "index_size")
        if self.heads % self.groups:
            raise ValueError(f"heads ({self.heads}) must divide into groups ({self.groups})")
        for name, size, whole in (
            ("rotated", self.rotated, self.entry),
            ("index_rotated", self.index_rotated, self.index_size),
        ):
            if size < 0 or size % 2 or size > whole:
                raise ValueError(f"{name} must be even and between 0 and {whole}, got {size}")


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Routed experts with a square-root softplus router, and one shared expert."""

    count: int
    chosen: int
    inner: int
    shared_inner: int
    scale: float = 1.5

    def __post_init__(self) -> None:
        _positive(self, "count", "chosen", "inner", "shared_inner")
        if self.chosen > self.count:
            raise ValueError(f"cannot choose {self.chosen} of {self.count} experts")


@dataclass(frozen=True, kw_only=True)
class LanesConfig:
    """Residual lanes (mHC); one lane is a plain residual stream."""

    count: int = 2
    iterations: int = 20
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _positive(self, "count", "iterations")


@dataclass(frozen=True, kw_only=True)
class EngramConfig:
    """Memory of hashed n-grams: orders 2 to `max_order`, `heads` tables of at least `rows` rows for each order."""

    layers: tuple[int, ...]
    rows: int
    width: int  # of a row
    heads: int = 4
    max_order: int = 3
    kernel: int = 4
    pad_id: int = 0  # the token that stands before the start of a document
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self, "rows", "width", "heads", "kernel")
        if self.max_order < 2:
            raise ValueError(f"max_order must be at least 2, got {self.max_order}")

    @property
    def orders(self) -> int:
        """How many n-gram lengths there are."""
        return self.max_order - 1

    @property
    def read(self) -> int:
        """Numbers read a token: all rows side by side."""
        return self.orders * self.heads * self.width


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """The whole core."""

    vocab_size: int
    hidden: int
    reach: tuple[str, ...]  # one of `full`, `sparse`, `sliding` a layer
    attention: AttentionConfig
    experts: ExpertsConfig
    lanes: LanesConfig = field(default_factory=LanesConfig)
    engram: EngramConfig | None = None
    tied: bool = True  # the head reads the embedding table
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _positive(self, "vocab_size", "hidden")
        for word in self.reach:
            if word not in REACHES:
                near = difflib.get_close_matches(str(word), REACHES, n=1, cutoff=0.3)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"unknown reach '{word}', allowed: {', '.join(REACHES)}{hint}")
        if not self.reach:
            raise ValueError("reach must name at least one layer")
        if self.engram is not None:
            outside = [layer for layer in self.engram.layers if not 0 <= layer < self.layers]
            if outside:
                raise ValueError(f"engram layers {outside} are outside the {self.layers} layers (counted from 0)")

    @property
    def layers(self) -> int:
        """How many blocks."""
        return len(self.reach)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers; `from_dict` undoes it."""
        return _lists(asdict(self))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read `to_dict`'s form; ValueError names an unknown key and its nearest match."""
        return _from_dict(cls, given, cls.__name__)

    def fake_input(self, batch: int = 1, length: int = 8) -> dict[str, Tensor]:
        """Keyword arguments of a forward pass over made-up ids, the same every time."""
        import torch

        generator = torch.Generator().manual_seed(0)
        return {"token_ids_BT": torch.randint(0, self.vocab_size, (batch, length), generator=generator)}


_PARTS = (AttentionConfig, ExpertsConfig, LanesConfig, EngramConfig)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
