"""Sizes of a DeepEncoder: nano, micro for tests, and full as published."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from .modes import STRIDE


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepEncoderConfig:
    """Sizes of the two trunks and what joins them; `native` is the side in pixels that the tables are made for."""

    native: int
    sam_width: int
    sam_layers: int
    sam_heads: int
    sam_window: int
    sam_global: tuple[int, ...]
    neck: int
    middle: int
    clip_width: int
    clip_layers: int
    clip_heads: int
    out_dim: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "sam_global", tuple(self.sam_global))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "sam_global" and value <= 0:
                raise ValueError(f"DeepEncoderConfig.{field.name} must be above zero, got {value}")
        if self.native % STRIDE:
            raise ValueError(f"DeepEncoderConfig.native must be a multiple of {STRIDE}, got {self.native}")
        for width, heads in ((self.sam_width, self.sam_heads), (self.clip_width, self.clip_heads)):
            if width % heads:
                raise ValueError(f"a width of {width} does not divide into {heads} heads")
        beyond = [layer for layer in self.sam_global if not 0 <= layer < self.sam_layers]
        if beyond:
            raise ValueError(f"DeepEncoderConfig.sam_global names layer {beyond[0]} of {self.sam_layers}")

    @classmethod
    def nano(cls, out_dim: int = 384) -> DeepEncoderConfig:
        """The shipped size: 7.5 million parameters, native at 512 pixels."""
        return cls(
            native=512, sam_width=192, sam_layers=4, sam_heads=3, sam_window=8, sam_global=(1, 3), neck=64, middle=128,
            clip_width=256, clip_layers=6, clip_heads=4, out_dim=out_dim,
        )  # fmt: skip

    @classmethod
    def micro(cls, out_dim: int = 64) -> DeepEncoderConfig:
        """A size for tests: 0.2 million parameters."""
        return cls(
            native=512, sam_width=32, sam_layers=2, sam_heads=2, sam_window=8, sam_global=(1,), neck=16, middle=32,
            clip_width=64, clip_layers=2, clip_heads=2, out_dim=out_dim,
        )  # fmt: skip

    @classmethod
    def full(cls, out_dim: int = 1280) -> DeepEncoderConfig:
        """The published size: 400.8 million parameters, native at 1024 pixels."""
        return cls(
            native=1024, sam_width=768, sam_layers=12, sam_heads=12, sam_window=14, sam_global=(2, 5, 8, 11), neck=256,
            middle=512, clip_width=1024, clip_layers=24, clip_heads=16, out_dim=out_dim,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON; `from_dict` is its inverse."""
        return {**dataclasses.asdict(self), "sam_global": list(self.sam_global)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DeepEncoderConfig:
        """Rebuild a config; an unknown or missing key raises ValueError that names it."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"unknown key '{key}' in DeepEncoderConfig{hint} Allowed: {', '.join(known)}")
        missing = [name for name in known if name not in data]
        if missing:
            raise ValueError(f"DeepEncoderConfig lacks {', '.join(missing)}")
        return cls(**data)
