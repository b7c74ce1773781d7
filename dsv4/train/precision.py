"""Number format and compilation of a training step, by device."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

# A block is compiled once for every kind of layer and every shape; torch's own limit is made for fewer.
KINDS_AND_SHAPES = 64


def autocast(device: torch.device) -> torch.autocast:
    """Matrix products in bfloat16; parameters, norms and losses stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def compile_core(core: nn.Module, device: torch.device) -> None:
    """Compile the blocks of a language core on an accelerator, once."""
    if device.type == "cpu" or core._compiled:
        return
    torch._dynamo.config.recompile_limit = KINDS_AND_SHAPES
    core.compile_blocks()


def compile_head(head: nn.Module, device: torch.device) -> None:
    """Compile the blocks of a picture head on an accelerator, once."""
    if device.type == "cpu" or head._run_block is not None:
        return
    torch._dynamo.config.recompile_limit = KINDS_AND_SHAPES
    head.compile_blocks()


def compile_eyes(eyes: Any, device: torch.device) -> None:
    """Compile the blocks of both trunks of a DeepEncoder on an accelerator, once."""
    if device.type == "cpu":
        return
    torch._dynamo.config.recompile_limit = KINDS_AND_SHAPES
    for block in (*eyes.sam.blocks, *eyes.clip.transformer.resblocks):
        if block._compiled_call_impl is None:
            block.compile(dynamic=False)


def eager() -> contextlib.AbstractContextManager[object]:
    """Within it nothing runs compiled: for passes of shapes that are not worth compiling."""
    return torch.compiler.set_stance("force_eager")
