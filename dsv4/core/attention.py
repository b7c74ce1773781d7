"""Attention over shared entries: one entry a token is key and value of every head, rotated in and rotated back out.

Shape letters: B batch, T queries, S entries, W hidden, R query rank, H heads, D entry size, G output groups.
Source: V4 report §2.3.3. Because values carry their position, the output is turned back by the query's position, so
what a value adds depends on its distance; sparse reach as in the V3.2 report §2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.core.config import CoreConfig
from dsv4.core.frame import Frame
from dsv4.core.indexer import Indexer
from dsv4.ops import attend as ops
from dsv4.ops.norm import RMSNorm, rms_norm
from dsv4.ops.rotary import rotate
from dsv4.ops.select import choose, chosen_places, gather_rows, index_scores, selection_loss
from dsv4.ops.visible import visible

GATHER_FROM = 8192  # entries from which on reading only the chosen ones beats masking, for a tile of queries
GATHER_TILE = 16


class SharedAttention(nn.Module):
    """One layer's attention; `reach` is full, sparse or sliding."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__()
        part = config.attention
        self.layer, self.reach = layer, config.reach[layer]
        self.heads, self.groups, self.eps = part.heads, part.groups, config.norm_eps
        self.window = part.window if self.reach == "sliding" else None
        self.top_k = part.top_k
        self.query_down = nn.Linear(config.hidden, part.q_rank, bias=False)
        self.query_norm = RMSNorm(part.q_rank, eps=config.norm_eps)
        self.query_up = nn.Linear(part.q_rank, part.heads * part.entry, bias=False)
        self.entry = nn.Linear(config.hidden, part.entry, bias=False)
        self.entry_norm = RMSNorm(part.entry, eps=config.norm_eps)
        self.sink = nn.Parameter(torch.zeros(part.heads))
        self.out_groups = nn.Parameter(torch.empty(part.groups, part.o_rank, part.heads * part.entry // part.groups))
        self.out = nn.Linear(part.groups * part.o_rank, config.hidden, bias=False)
        self.indexer = Indexer(config) if self.reach == "sparse" else None

    def forward(self, x_BTW: Tensor, frame: Frame) -> tuple[Tensor, Tensor | None]:
        """Output [B, T, W], and the indexer's loss where the frame asks for it."""
        latent_BTR = self.query_norm(self.query_down(x_BTW))
        q_BTHD = rms_norm(self.query_up(latent_BTR).unflatten(-1, (self.heads, -1)), eps=self.eps)
        q_BTHD = rotate(q_BTHD, frame.cos_BT1P, frame.sin_BT1P)
        new_BTD = rotate(self.entry_norm(self.entry(x_BTW)), frame.cos_BT1P[:, :, 0], frame.sin_BT1P[:, :, 0])
        loss = None
        if self.indexer is not None and (frame.sparse or frame.cache is not None or frame.index_loss):
            out_BTHD, loss = self._indexed(x_BTW, latent_BTR, q_BTHD, new_BTD, frame)
        elif frame.flex:
            mask = frame.flex["sliding" if self.window is not None else "whole"]
            out_BTHD = ops.attend_flex(q_BTHD, new_BTD, self.sink, mask)
        else:
            entries_BSD, first = self._entries(new_BTD, frame)
            out_BTHD = self._tiled(q_BTHD, entries_BSD, first, frame)
        return self._project(rotate(out_BTHD, frame.cos_BT1P, -frame.sin_BT1P)), loss

    def _project(self, out_BTHD: Tensor) -> Tensor:
        parts = out_BTHD.flatten(-2).chunk(self.groups, -1)
        low = [F.linear(part, weight) for part, weight in zip(parts, self.out_groups.unbind(0), strict=True)]
        return self.out(torch.cat(low, -1))

    def _entries(self, new_BTD: Tensor, frame: Frame) -> tuple[Tensor, int | None]:
        if frame.cache is None:
            return new_BTD, 0
        entries_BSD, first = frame.cache.append_entries(self.layer, new_BTD)
        return entries_BSD.to(new_BTD.dtype), first

    def _tiled(self, q_BTHD: Tensor, entries_BSD: Tensor, first: int | None, frame: Frame) -> Tensor:
        """Dense attention, a tile of queries at a time; only entries that some query of the tile may see are read."""
        if frame.length == 1 or first is None:
            return ops.attend(q_BTHD, entries_BSD, self.sink, None)
        tiles: list[Tensor] = []
        for begin in range(0, frame.length, ops.TILE):
            end = min(begin + ops.TILE, frame.length)
            low = 0 if self.window is None else max(0, frame.start + begin - self.window + 1 - first)
            high = frame.start + end - first
            seen_BQS = self._seen(begin, end, first + low, first + high, frame)
            tiles.append(ops.attend(q_BTHD[:, begin:end], entries_BSD[:, low:high], self.sink, seen_BQS))
        return tiles[0] if len(tiles) == 1 else torch.cat(tiles, 1)

    def _seen(self, begin: int, end: int, low: int, high: int, frame: Frame) -> Tensor:
        device = frame.cos_BT1P.device
        segments = None
        if frame.segments_BT is not None:
            segments = (frame.segments_BT[:, begin:end], frame.segments_BT[:, low:high])
        query_Q = torch.arange(frame.start + begin, frame.start + end, device=device)
        return visible(query_Q, torch.arange(low, high, device=device), window=self.window, segments=segments)

    def _indexed(
        self, x_BTW: Tensor, latent_BTR: Tensor, q_BTHD: Tensor, new_BTD: Tensor, frame: Frame
    ) -> tuple[Tensor, Tensor | None]:
        assert self.indexer is not None
        x_BTW, latent_BTR = x_BTW.detach(), latent_BTR.detach()
        keys_BSC = self.indexer.keys(x_BTW, frame)
        if frame.cache is not None:
            keys_BSC = frame.cache.append_index_keys(self.layer, keys_BSC).to(x_BTW.dtype)
        entries_BSD, _ = self._entries(new_BTD, frame)
        selects = frame.sparse and entries_BSD.shape[1] > self.top_k
        if not selects and not frame.index_loss:
            return self._tiled(q_BTHD, entries_BSD, 0, frame), None
        query_BTIC, weights_BTI = self.indexer.queries(x_BTW, latent_BTR, frame)
        gathers = selects and (frame.length == 1 or entries_BSD.shape[1] >= GATHER_FROM) and not frame.index_loss
        step = GATHER_TILE if gathers else ops.TILE // 2
        tiles: list[Tensor] = []
        losses: list[Tensor] = []
        for begin in range(0, frame.length, step):
            end = min(begin + step, frame.length)
            high = frame.start + end
            scores_BQS = index_scores(query_BTIC[:, begin:end], weights_BTI[:, begin:end], keys_BSC[:, :high])
            seen_BQS = self._seen(begin, end, 0, high, frame).expand_as(scores_BQS)
            chosen_BQS = choose(scores_BQS.detach(), seen_BQS, self.top_k) if frame.sparse else seen_BQS
            tile = (q_BTHD[:, begin:end], entries_BSD[:, :high])
            tiles.append(self._attend_chosen(*tile, chosen_BQS, gathers and high > self.top_k))
            if frame.index_loss:
                over_BQS = chosen_BQS if frame.index_loss == "chosen" else seen_BQS
                with torch.no_grad():
                    target_BQS = ops.probabilities(*tile, self.sink, over_BQS).sum(2)
                losses.append(selection_loss(scores_BQS, target_BQS, over_BQS) * ((end - begin) / frame.length))
        return torch.cat(tiles, 1), sum(losses[1:], losses[0]) if losses else None

    def _attend_chosen(self, q_BQHD: Tensor, entries_BSD: Tensor, chosen_BQS: Tensor, gathers: bool) -> Tensor:
        if not gathers:
            return ops.attend(q_BQHD, entries_BSD, self.sink, chosen_BQS)
        places_BQK, valid_BQK = chosen_places(chosen_BQS, self.top_k)
        return ops.attend_chosen(q_BQHD, gather_rows(entries_BSD, places_BQK), self.sink, valid_BQK)
