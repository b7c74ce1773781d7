"""Small cores in float64, so that differences mean wrong maths and not rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from dsv4.core import presets
from dsv4.core.config import CoreConfig
from dsv4.core.model import LanguageCore


def build(config: CoreConfig | None = None, *, seed: int = 0, **changes: object) -> LanguageCore:
    """A float64 core in evaluation with every parameter away from its start, so that no part is silent."""
    torch.manual_seed(seed)
    config = dataclasses.replace(config or presets.micro(), **changes)
    core = LanguageCore.from_config(config).double().eval()
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            if "scale" in name:
                parameter.fill_(0.7)
            elif parameter.ndim < 2 or any(part in name for part in ("norm", "conv", "hyper")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "table" in name:
                parameter.normal_()
    return core


@pytest.fixture(name="build")
def build_fixture() -> Callable[..., LanguageCore]:
    return build


@pytest.fixture
def core() -> LanguageCore:
    return build()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(1))
