"""Ordinary attention: every head, or group of heads, has keys and values of its own.

Shape letters: B batch, T queries, W hidden, H heads, G key heads, X head size.
Source: the language part of DeepSeek-OCR (transformers' deepseek_ocr2_text): positions turn whole heads as two halves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.core.config import CoreConfig, HeadsConfig
from dsv4.core.frame import Frame
from dsv4.core.latent import attend_tiles
from dsv4.core.reading import EntryAttention
from dsv4.ops.linear import Linear
from dsv4.ops.rotary import rotate_halves


class HeadAttention(EntryAttention):
    """One layer's attention; all its keys and then all its values are the entry of a token."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        part = config.attention
        assert isinstance(part, HeadsConfig)
        super().__init__(layer=layer, reach="full", window=None, top_k=0, scale=part.size**-0.5, value=None)
        self.part = part
        self.query = Linear(config.hidden, part.heads * part.size)
        self.key = Linear(config.hidden, part.kv_heads * part.size)
        self.value_of = Linear(config.hidden, part.kv_heads * part.size)
        self.out = Linear(part.heads * part.size, config.hidden)
        self.sink = self.indexer = None

    def forward(self, x_BTW: Tensor, frame: Frame) -> tuple[Tensor, None]:
        """Output [B, T, W], and no indexer's loss."""
        part, turn = self.part, frame.near
        q_BTHX = rotate_halves(self.query(x_BTW).unflatten(-1, (part.heads, -1)), turn.cos_BT1P, turn.sin_BT1P)
        k_BTGX = rotate_halves(self.key(x_BTW).unflatten(-1, (part.kv_heads, -1)), turn.cos_BT1P, turn.sin_BT1P)
        source = self._entries(torch.cat((k_BTGX.flatten(-2), self.value_of(x_BTW)), -1), frame)
        both_BSGX = source.all().to(x_BTW.dtype).unflatten(-1, (2 * part.kv_heads, -1))
        keys, values = both_BSGX[:, :, : part.kv_heads], both_BSGX[:, :, part.kv_heads :]
        out_BTHX = attend_tiles(self, q_BTHX, keys, values, frame, scale=self.scale or 1.0)
        return self.out(out_BTHX.flatten(-2)), None
