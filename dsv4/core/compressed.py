"""Attention over the last entries and over compressed ones that stand for several tokens each (CSA and HCA).

Shape letters: B batch, T queries, Q queries of a tile, N compressed entries, W hidden, R query rank, H heads, D entry
size, I index heads, C index size, K chosen.
Source: V4 report §2.3.1 and §2.3.2, order of operations as in transformers' deepseek_v4. A query at place t sees the
compressed entries w < (t + 1) // M, of which sparse layers read the best; all layers see a sliding window beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv4.core.attention import SharedAttention
from dsv4.core.config import AttentionConfig, CoreConfig
from dsv4.core.frame import Frame, Turn, stretched
from dsv4.core.reading import gather_tile
from dsv4.core.rows import Readable
from dsv4.ops import attend as ops
from dsv4.ops.linear import Linear
from dsv4.ops.norm import RMSNorm
from dsv4.ops.pool import pool_overlapping, pool_windows
from dsv4.ops.rotary import rotate
from dsv4.ops.select import best_places, choose, index_scores, selection_loss

GATHER_FROM = 8192  # compressed entries from which on a tile of queries reads only those that it chose


class Compressor(nn.Module):
    """Makes one entry of `size` numbers of every `ratio` tokens; with `overlap` it reads twice as many."""

    def __init__(
        self, config: CoreConfig, layer: int, *, name: str, size: int, ratio: int, overlap: bool, rotated: int
    ) -> None:
        super().__init__()
        self.part = config.attention
        self.layer, self.name, self.ratio, self.overlap, self.rotated = layer, name, ratio, overlap, rotated
        projected = 2 * size if overlap else size
        self.entry = Linear(config.hidden, projected)
        self.gate = Linear(config.hidden, projected)
        self.place = nn.Parameter(torch.zeros(ratio, projected))
        self.norm = RMSNorm(size, eps=config.norm_eps)

    def forward(self, x_BTW: Tensor, frame: Frame) -> Readable:
        """All compressed entries there are once the new tokens are read."""
        new_BTC = torch.cat((self.entry(x_BTW), self.gate(x_BTW)), -1)
        full, before = (frame.start + frame.length) // self.ratio, frame.start // self.ratio
        if frame.cache is None:
            nothing_BND = new_BTC.new_zeros(x_BTW.shape[0], 0, self.norm.weight.shape[0])
            made_BND = self._made(new_BTC[:, : full * self.ratio], 0, led=False) if full else nothing_BND
            return Readable(made_BND, first=0, stop=full)
        lead = int(self.overlap)
        rows_BTC = frame.cache.append_projected(self.layer, self.name, new_BTC, ratio=self.ratio, lead=lead)
        made = None if rows_BTC is None else self._made(rows_BTC.to(x_BTW.dtype), before, led=bool(lead and before))
        return frame.cache.append_windows(self.layer, self.name, made, ratio=self.ratio, full=full)

    def _made(self, rows_BTC: Tensor, first: int, *, led: bool) -> Tensor:
        """Entries of these windows, of which the first not there only to lead is number `first`."""
        values, gates = rows_BTC.chunk(2, -1)
        if self.overlap:
            pooled_BND = pool_overlapping(values, gates, self.place, led=led)
        else:
            pooled_BND = pool_windows(values, gates, self.place)
        assert isinstance(self.part, AttentionConfig)
        places = (first + torch.arange(pooled_BND.shape[1], device=rows_BTC.device)) * self.ratio
        cos, sin = stretched(places[None], self.rotated, theta=self.part.far_theta, yarn=self.part.yarn)
        return rotate(self.norm(pooled_BND.to(rows_BTC.dtype)), cos, sin)


class WindowIndexer(nn.Module):
    """The lightning indexer over compressed keys of its own."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__()
        part = config.attention
        assert isinstance(part, AttentionConfig)
        self.heads = part.index_heads
        self.query = Linear(part.q_rank, part.index_heads * part.index_size)
        self.weights = Linear(config.hidden, part.index_heads)
        self.compressor = Compressor(
            config, layer, name="index", size=part.index_size, ratio=part.light, overlap=True,
            rotated=part.index_rotated,
        )  # fmt: skip

    def queries(self, x_BTW: Tensor, latent_BTR: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
        """Index queries [B, T, I, C] and head weights [B, T, I]."""
        query_BTIC = self.query(latent_BTR).unflatten(-1, (self.heads, -1))
        return rotate(query_BTIC, turn.index_cos_BT1P, turn.index_sin_BT1P), self.weights(x_BTW)


class WindowAttention(SharedAttention):
    """What layers that read compressed entries beside a sliding window have in common."""

    def _turn(self, frame: Frame) -> Turn:
        assert frame.far is not None
        return frame.far

    def _near(self, near: Readable, begin: int, end: int, frame: Frame, q_BQHD: Tensor) -> tuple[Tensor, Tensor]:
        """Entries of the sliding window that some query of the tile sees, and which query sees which."""
        assert self.window is not None
        if near.first is None:
            rows_BSD = near.all().to(q_BQHD.dtype)
            return rows_BSD, torch.ones(
                *rows_BSD.shape[:1], 1, rows_BSD.shape[1], dtype=torch.bool, device=q_BQHD.device
            )
        low, high = max(near.first, frame.start + begin - self.window + 1), frame.start + end
        seen_BQS = self._seen(begin, end, low, high, frame).expand(q_BQHD.shape[0], -1, -1)
        return near.read(low, high).to(q_BQHD.dtype), seen_BQS

    def _gathered(
        self,
        q_BQHD: Tensor,
        near_BSD: Tensor,
        near_BQS: Tensor,
        far: Readable,
        places_BQK: Tensor,
        real_BQK: Tensor,
    ) -> Tensor:
        rows_BQKD = far.gather(places_BQK).to(q_BQHD.dtype)
        near_BQSD = near_BSD[:, None].expand(-1, q_BQHD.shape[1], -1, -1)
        rows = torch.cat((near_BQSD, rows_BQKD), 2)
        return ops.attend_chosen(q_BQHD, rows, self.sink, torch.cat((near_BQS, real_BQK), -1))

    def _window_loss(
        self, q_BQHD: Tensor, entries_BSD: Tensor, seen_BQS: Tensor, scores_BQN: Tensor, over_BQN: Tensor
    ) -> Tensor:
        """Sum over queries of the indexer's loss; queries that see no compressed entry yet teach nothing."""
        first = int((~over_BQN[0].any(-1)).sum())
        if first == over_BQN.shape[1]:
            return scores_BQN.sum() * 0.0
        with torch.no_grad():
            target = ops.probabilities(q_BQHD, entries_BSD, self.sink, seen_BQS)[..., -over_BQN.shape[-1] :].sum(2)
        late = slice(first, None)
        loss = selection_loss(scores_BQN[:, late], target[:, late], over_BQN[:, late])
        return loss * (over_BQN.shape[1] - first)


class CompressedAttention(WindowAttention):
    """One layer's attention of compressed reach."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__(config, layer)
        part = config.attention
        assert isinstance(part, AttentionConfig)
        light = self.reach == "compressed_sparse"
        self.ratio = part.light if light else part.heavy
        self.compressor = Compressor(
            config, layer, name="entry", size=part.entry, ratio=self.ratio, overlap=light, rotated=part.rotated
        )
        self.window_indexer = WindowIndexer(config, layer) if light else None

    def _read(
        self, x_BTW: Tensor, latent_BTR: Tensor, q_BTHD: Tensor, new_BTD: Tensor, frame: Frame
    ) -> tuple[Tensor, Tensor | None]:
        far = self.compressor(x_BTW, frame)
        near = self._entries(new_BTD, frame)
        index = None
        if self.window_indexer is not None:
            given = x_BTW.detach(), latent_BTR.detach()
            keys_BNC = self.window_indexer.compressor(given[0], frame).all().to(x_BTW.dtype)
            if (frame.sparse and far.stop > self.top_k) or frame.index_loss:
                index = (*self.window_indexer.queries(*given, self._turn(frame)), keys_BNC)
        gathers = index is not None and frame.sparse and far.stop > self.top_k and not frame.index_loss
        gathers = gathers and (frame.length == 1 or far.stop >= GATHER_FROM)
        step = ops.TILE // 2
        if gathers and self.window_indexer is not None:
            step = gather_tile(far.stop, self.window_indexer.heads)
        tiles: list[Tensor] = []
        losses: list[Tensor] = []
        for begin in range(0, frame.length, step):
            end = min(begin + step, frame.length)
            tile = self._tile(q_BTHD[:, begin:end], near, far, index, begin, end, frame, gathers)
            tiles.append(tile[0])
            losses += tile[1]
        loss = sum(losses[1:], losses[0]) if losses else None
        return torch.cat(tiles, 1), loss

    def _tile(
        self,
        q_BQHD: Tensor,
        near: Readable,
        far: Readable,
        index: tuple[Tensor, Tensor, Tensor] | None,
        begin: int,
        end: int,
        frame: Frame,
        gathers: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """Output of some queries, and the indexer's loss over them where it is asked for."""
        assert self.window is not None
        start = frame.start
        full = (start + end) // self.ratio
        query_Q = torch.arange(start + begin, start + end, device=q_BQHD.device)
        seen_BQN = (torch.arange(full, device=q_BQHD.device) < ((query_Q + 1) // self.ratio)[:, None])[None]
        seen_BQN = seen_BQN.expand(q_BQHD.shape[0], -1, -1)
        chosen_BQN, scores_BQN = seen_BQN, None
        if index is not None:
            query_BTIC, weights_BTI, keys_BNC = index
            scores_BQN = index_scores(query_BTIC[:, begin:end], weights_BTI[:, begin:end], keys_BNC[:, :full])
            if frame.sparse and not (gathers and full > self.top_k):
                chosen_BQN = choose(scores_BQN.detach(), seen_BQN, self.top_k)
        near_BSD, near_BQS = self._near(near, begin, end, frame, q_BQHD)
        if gathers and full > self.top_k and scores_BQN is not None:
            places = best_places(scores_BQN, seen_BQN if frame.length > 1 else None, self.top_k)
            return self._gathered(q_BQHD, near_BSD, near_BQS, far, *places), []
        entries_BSD = torch.cat((near_BSD, far.read(0, full).to(q_BQHD.dtype)), 1)
        seen_BQS = torch.cat((near_BQS, chosen_BQN), -1)
        losses: list[Tensor] = []
        if frame.index_loss and scores_BQN is not None:
            over_BQN = chosen_BQN if frame.index_loss == "chosen" else seen_BQN
            loss = self._window_loss(q_BQHD, entries_BSD, torch.cat((near_BQS, over_BQN), -1), scores_BQN, over_BQN)
            losses.append(loss / frame.length)
        return self._attend(q_BQHD, entries_BSD, seen_BQS), losses
