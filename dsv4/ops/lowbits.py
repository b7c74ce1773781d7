"""Weights that releases store in eight or four bits, opened to ordinary numbers.

Shape letters: R rows, C columns, H and W rows and columns of a block.
Source: DeepSeek-V3's release (e4m3 codes in blocks of 128 x 128, each with a float32 scale), V4's (the same with
power-of-two scales, and e2m1 codes, two a byte, with a power-of-two scale for 32 columns; low half of a byte first).
"""

from __future__ import annotations

import torch
from torch import Tensor

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FOUR_BIT_COLUMNS = 32


def open_blocks(codes_RC: Tensor, scales: Tensor, *, block: tuple[int, int] = (128, 128)) -> Tensor:
    """code · scale of its block, float32 [R, C]; blocks at the right and lower edge may be cut off.

    ValueError when there is not one scale a block.
    """
    rows, columns = codes_RC.shape
    wanted = (-(-rows // block[0]), -(-columns // block[1]))
    if tuple(scales.shape) != wanted:
        raise ValueError(f"weights {rows} x {columns} in blocks of {block} need {wanted} scales, got {scales.shape}")
    spread = wide_scales(scales).repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return codes_RC.float() * spread


def open_four_bits(codes_RC: Tensor, scales_RC: Tensor) -> Tensor:
    """Numbers of e2m1 codes [R, C / 2 bytes] times the scale of their 32 columns: float32 [R, C]."""
    table = torch.tensor((*E2M1, *(-value for value in E2M1)), device=codes_RC.device)
    bytes_RC = codes_RC.view(torch.uint8).long()
    values_RC = table[torch.stack((bytes_RC & 15, bytes_RC >> 4), -1)].flatten(-2)
    if scales_RC.shape != (values_RC.shape[0], -(-values_RC.shape[1] // FOUR_BIT_COLUMNS)):
        raise ValueError(f"four-bit weights {tuple(values_RC.shape)} have scales of shape {tuple(scales_RC.shape)}")
    return values_RC * wide_scales(scales_RC).repeat_interleave(FOUR_BIT_COLUMNS, -1)[:, : values_RC.shape[1]]


def wide_scales(scales: Tensor) -> Tensor:
    """Scales in float32; one-byte ones are exponents of two (ue8m0), biased by 127."""
    if scales.element_size() == 1:
        return torch.exp2(scales.view(torch.uint8).float() - 127)
    return scales.float()
