"""Where the rows of Engram lie: on the device, in host memory, or in a file mapped into memory.

Shape letters: R rows, D row width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HOMES = ("device", "host", "mapped")


class MemoryTable(nn.Module):
    """An embedding table that need not live where it is used; the three homes read the same numbers."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width) * 0.02)
        self.home = "device"

    def forward(self, rows_BTR: Tensor) -> Tensor:
        """Rows [B, T, R, D] on the device of the indices."""
        if self.weight.device == rows_BTR.device:
            return F.embedding(rows_BTR, self.weight)
        found = F.embedding(rows_BTR.to(self.weight.device), self.weight)
        return found.to(rows_BTR.device, non_blocking=True)

    def place(self, home: str, *, device: torch.device, file: Path | None = None) -> None:
        """Move the rows; `mapped` writes them to `file` first and can not be trained. ValueError for other homes."""
        if home not in HOMES:
            raise ValueError(f"unknown home '{home}' for memory; choose one of {', '.join(HOMES)}")
        data = self.weight.detach()
        if home == "mapped":
            if file is None:
                raise ValueError("memory-mapped rows need a folder to lie in: place_memory('mapped', folder=...)")
            data = _mapped(data, file)
        else:
            data = data.to(device if home == "device" else "cpu")
            # What was mapped must become memory of its own, or it would keep hanging on the file.
            data = data.clone() if self.home == "mapped" else data
        self.weight = nn.Parameter(data, requires_grad=self.weight.requires_grad and home != "mapped")
        self.home = home

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> MemoryTable:
        # `model.to(device)` must not fetch rows that were placed elsewhere on purpose.
        return super()._apply(fn, *args, **kwargs) if self.home == "device" else self


def _mapped(data_RD: Tensor, file: Path) -> Tensor:
    data_RD = data_RD.cpu().contiguous()
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    data_RD.view(torch.uint8).numpy().tofile(beside)
    beside.replace(file)
    flat = torch.from_file(str(file), shared=False, size=data_RD.numel(), dtype=data_RD.dtype)
    return flat.view(data_RD.shape)
