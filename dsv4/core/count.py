"""How many parameters a configuration has, and how many a token uses; nothing is allocated."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsv4.core.config import CoreConfig
from dsv4.core.model import LanguageCore


@dataclass(frozen=True, kw_only=True)
class Count:
    """Numbers of parameters. `active` counts what one token multiplies with, and the memory rows it reads."""

    total: int
    active: int
    memory: int  # rows of Engram
    experts: int  # routed

    @property
    def memory_share(self) -> float:
        """Part of the sparse budget (total - active) that is memory."""
        return self.memory / (self.total - self.active)


def count(config: CoreConfig) -> Count:
    """Count on the meta device. The embedding is a look-up and not active, unless the head reads it (tied)."""
    with torch.device("meta"):
        core = LanguageCore.from_config(config, canonical_ids=torch.empty(config.vocab_size, dtype=torch.long))
    sizes = {name: parameter.numel() for name, parameter in core.named_parameters()}
    total = sum(sizes.values())
    memory = sum(size for name, size in sizes.items() if "engram.table" in name)
    routed = sum(size for name, size in sizes.items() if "experts_in" in name or "experts_out" in name)
    active = total - memory - routed + routed * config.experts.chosen // config.experts.count
    if not config.tied:
        active -= sizes["embedding.weight"]
    if config.engram is not None:
        active += config.engram.read * len(config.engram.layers)
    return Count(total=total, active=active, memory=memory, experts=routed)
