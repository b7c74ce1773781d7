"""Attention over shared entries: one entry a token is key and value of every head, rotated in and rotated back out.

Shape letters: B batch, T queries, W hidden, R query rank, H heads, D entry size, G output groups.
Source: V4 report §2.3.3. Because values carry their position, the output is turned back by the query's position, so
what a value adds depends on its distance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv4.core.config import AttentionConfig, CoreConfig
from dsv4.core.frame import Frame, Turn
from dsv4.core.indexer import Indexer
from dsv4.core.reading import EntryAttention
from dsv4.core.static import StaticCache, read_static
from dsv4.ops import attend as ops
from dsv4.ops.fp8 import on_grid
from dsv4.ops.linear import Linear, linear
from dsv4.ops.norm import RMSNorm, rms_norm
from dsv4.ops.rotary import rotate


class SharedAttention(EntryAttention):
    """One layer's attention; `reach` is full, sparse or sliding."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        part = config.attention
        assert isinstance(part, AttentionConfig)
        reach = config.reach[layer]
        window = part.window if reach not in ("full", "sparse") else None
        super().__init__(layer=layer, reach=reach, window=window, top_k=part.top_k, scale=None, value=None)
        self.heads, self.groups, self.eps = part.heads, part.groups, config.norm_eps
        self.head_norm, self.grid = part.head_norm, part.grid
        self.query_down = Linear(config.hidden, part.q_rank)
        self.query_norm = RMSNorm(part.q_rank, eps=config.norm_eps)
        self.query_up = Linear(part.q_rank, part.heads * part.entry)
        self.entry = Linear(config.hidden, part.entry)
        self.entry_norm = RMSNorm(part.entry, eps=config.norm_eps)
        self.sink = nn.Parameter(torch.zeros(part.heads))
        self.out_groups = nn.Parameter(torch.empty(part.groups, part.o_rank, part.heads * part.entry // part.groups))
        self.out = Linear(part.groups * part.o_rank, config.hidden)
        self.indexer = Indexer(config) if self.reach == "sparse" else None

    def forward(self, x_BTW: Tensor, frame: Frame) -> tuple[Tensor, Tensor | None]:
        """Output [B, T, W], and the indexer's loss where the frame asks for it."""
        turn = self._turn(frame)
        latent_BTR = self.query_norm(self.query_down(x_BTW))
        q_BTHD = self.query_up(latent_BTR).unflatten(-1, (self.heads, -1))
        q_BTHD = rms_norm(q_BTHD, eps=self.eps) if self.head_norm else q_BTHD
        q_BTHD = rotate(q_BTHD, turn.cos_BT1P, turn.sin_BT1P)
        new_BTD = rotate(self.entry_norm(self.entry(x_BTW)), turn.cos_BT1P[:, :, 0], turn.sin_BT1P[:, :, 0])
        new_BTD = on_grid(new_BTD, self.grid) if self.grid else new_BTD
        out_BTHD, loss = self._read(x_BTW, latent_BTR, q_BTHD, new_BTD, frame)
        return self._project(rotate(out_BTHD, turn.cos_BT1P, -turn.sin_BT1P)), loss

    def _turn(self, frame: Frame) -> Turn:
        return frame.near

    def _read(
        self, x_BTW: Tensor, latent_BTR: Tensor, q_BTHD: Tensor, new_BTD: Tensor, frame: Frame
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(frame.cache, StaticCache):
            return read_static(self, x_BTW, latent_BTR, q_BTHD, new_BTD, frame), None
        if self.indexer is not None and (frame.sparse or frame.cache is not None or frame.index_loss):
            return self._indexed(x_BTW, latent_BTR, q_BTHD, new_BTD, frame)
        if frame.flex:
            assert self.sink is not None
            mask = frame.flex["sliding" if self.window is not None else "whole"]
            return ops.attend_flex(q_BTHD, new_BTD, self.sink, mask), None
        return self._tiled(q_BTHD, self._entries(new_BTD, frame), frame), None

    def _project(self, out_BTHD: Tensor) -> Tensor:
        parts = out_BTHD.flatten(-2).chunk(self.groups, -1)
        low = [linear(part, weight) for part, weight in zip(parts, self.out_groups.unbind(0), strict=True)]
        return self.out(torch.cat(low, -1))
