"""How queries read entries: tile by tile, all that are seen or only those that the indexer chose.

Shape letters: B batch, T queries, Q queries of a tile, S entries, W hidden, R query rank, H heads, D entry size,
K chosen.
Source: sparse reach as in the DeepSeek-V3.2 report §2.1. No tensor of all queries times all entries is made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv4.core.frame import Frame
from dsv4.core.indexer import Indexer
from dsv4.core.rows import IndexKeys, Readable
from dsv4.ops import attend as ops
from dsv4.ops import sparse_triton
from dsv4.ops.one_query import attend_one, choose_one
from dsv4.ops.select import best_places, choose, hide_later, selection_loss
from dsv4.ops.visible import visible

GATHER_FROM = 8192  # entries from which on reading only the chosen ones beats masking, for a tile of queries
GATHER_TILE = 16
GATHER_SCORES = 2**24  # scores of all index heads that may exist at once where rows are gathered


class EntryAttention(nn.Module):
    """What every attention over one entry a token has in common; `scale` and `value` as in `ops.attend`."""

    def __init__(
        self, *, layer: int, reach: str, window: int | None, top_k: int, scale: float | None, value: int | None
    ) -> None:
        super().__init__()
        self.layer, self.reach, self.window, self.top_k = layer, reach, window, top_k
        self.scale, self.value = scale, value
        self.sink: Tensor | None
        self.indexer: Indexer | None

    def _entries(self, new_BTD: Tensor, frame: Frame) -> Readable:
        if frame.cache is None:
            return Readable(new_BTD, first=0, stop=new_BTD.shape[1])
        return frame.cache.append_entries(self.layer, new_BTD)

    def _attend(self, q_BQHD: Tensor, entries_BSD: Tensor, seen_BQS: Tensor | None) -> Tensor:
        entries_BSD = entries_BSD.to(q_BQHD.dtype)
        return ops.attend(q_BQHD, entries_BSD, self.sink, seen_BQS, scale=self.scale, value=self.value)

    def _tiled(self, q_BTHD: Tensor, source: Readable, frame: Frame) -> Tensor:
        """Dense attention, a tile of queries at a time; only entries that some query of the tile may see are read."""
        if frame.length == 1 or source.first is None:
            rows_BSD = source.all()
            found = self._attend_one(q_BTHD, rows_BSD, None)
            return self._attend(q_BTHD, rows_BSD, None) if found is None else found
        tiles: list[Tensor] = []
        for begin in range(0, frame.length, ops.TILE):
            end = min(begin + ops.TILE, frame.length)
            low = source.first if self.window is None else max(source.first, frame.start + begin - self.window + 1)
            high = frame.start + end
            seen_BQS = self._seen(begin, end, low, high, frame)
            tiles.append(self._attend(q_BTHD[:, begin:end], source.read(low, high), seen_BQS))
        return tiles[0] if len(tiles) == 1 else torch.cat(tiles, 1)

    def _seen(self, begin: int, end: int, low: int, high: int, frame: Frame) -> Tensor:
        device = frame.near.cos_BT1P.device
        segments = None
        if frame.segments_BT is not None:
            segments = (frame.segments_BT[:, begin:end], frame.segments_BT[:, low:high])
        query_Q = torch.arange(frame.start + begin, frame.start + end, device=device)
        return visible(query_Q, torch.arange(low, high, device=device), window=self.window, segments=segments)

    def _indexed(
        self, x_BTW: Tensor, latent_BTR: Tensor, q_BTHD: Tensor, new_BTD: Tensor, frame: Frame
    ) -> tuple[Tensor, Tensor | None]:
        """Attention where an indexer may choose; the indexer's input is detached."""
        assert self.indexer is not None
        x_BTW, latent_BTR = x_BTW.detach(), latent_BTR.detach()
        new_BTC = self.indexer.keys(x_BTW, frame)
        keys = IndexKeys(new_BTC) if frame.cache is None else frame.cache.append_index_keys(self.layer, new_BTC)
        source = self._entries(new_BTD, frame)
        selects = frame.sparse and source.stop > self.top_k
        if not selects and not frame.index_loss:
            return self._tiled(q_BTHD, source, frame), None
        query_BTIC, weights_BTI = self.indexer.queries(x_BTW, latent_BTR, frame)
        if selects and frame.length == len(q_BTHD) == 1 and not frame.index_loss:
            places_K = choose_one(query_BTIC[0, 0], weights_BTI[0, 0], *keys.first(source.stop), self.top_k)
            if places_K is not None:
                return self._attend_places(q_BTHD, source, places_K[None, None], None), None
        gathers = selects and (frame.length == 1 or source.stop >= GATHER_FROM) and not frame.index_loss
        step = gather_tile(source.stop, self.indexer.heads) if gathers else ops.TILE // 2
        tiles: list[Tensor] = []
        losses: list[Tensor] = []
        for begin in range(0, frame.length, step):
            end = min(begin + step, frame.length)
            high = frame.start + end
            scores_BQS = keys.scores(query_BTIC[:, begin:end], weights_BTI[:, begin:end], high)
            q_BQHD = q_BTHD[:, begin:end]
            if gathers and high > self.top_k and frame.segments_BT is None:
                places = best_places(hide_later(scores_BQS.detach()), None, self.top_k)
                tiles.append(self._attend_places(q_BQHD, source, *places))
                continue
            seen_BQS = self._seen(begin, end, 0, high, frame).expand_as(scores_BQS) if frame.length > 1 else None
            if gathers and high > self.top_k:
                tiles.append(self._attend_places(q_BQHD, source, *best_places(scores_BQS, seen_BQS, self.top_k)))
                continue
            seen_BQS = torch.ones_like(scores_BQS, dtype=torch.bool) if seen_BQS is None else seen_BQS
            chosen_BQS = choose(scores_BQS.detach(), seen_BQS, self.top_k) if frame.sparse else seen_BQS
            tiles.append(self._attend(q_BQHD, source.read(0, high), chosen_BQS))
            if frame.index_loss:
                over_BQS = chosen_BQS if frame.index_loss == "chosen" else seen_BQS
                loss = self._index_loss(q_BQHD, source.read(0, high), scores_BQS, over_BQS)
                losses.append(loss * ((end - begin) / frame.length))
        return torch.cat(tiles, 1), sum(losses[1:], losses[0]) if losses else None

    def _index_loss(self, q_BQHD: Tensor, entries_BSD: Tensor, scores_BQS: Tensor, over_BQS: Tensor) -> Tensor:
        with torch.no_grad():
            entries_BSD = entries_BSD.to(q_BQHD.dtype)
            target_BQS = ops.probabilities(q_BQHD, entries_BSD, self.sink, over_BQS, scale=self.scale).sum(2)
        return selection_loss(scores_BQS, target_BQS, over_BQS)

    def _attend_one(self, q_BQHD: Tensor, rows_BSD: Tensor, places_K: Tensor | None) -> Tensor | None:
        """One query of one sequence by compiled loops, where they can: over all rows, or those at these places."""
        if q_BQHD.shape[:2] != (1, 1):
            return None
        scale, value = self.scale or q_BQHD.shape[-1] ** -0.5, self.value or q_BQHD.shape[-1]
        found_HV = attend_one(q_BQHD[0, 0], rows_BSD[0], places_K, self.sink, scale=scale, value=value)
        return None if found_HV is None else found_HV[None, None].to(q_BQHD.dtype)

    def _attend_places(self, q_BQHD: Tensor, source: Readable, places_BQK: Tensor, real_BQK: Tensor | None) -> Tensor:
        """Attention over the rows at these places; all of them are real where `real_BQK` is None."""
        entries_BSD = source.plain()
        if entries_BSD is not None and real_BQK is None:
            found = self._attend_one(q_BQHD, entries_BSD, places_BQK[0, 0])
            if found is not None:
                return found
        fits = entries_BSD is not None and sparse_triton.applies(q_BQHD, entries_BSD) and q_BQHD.dtype != torch.float64
        if entries_BSD is not None and real_BQK is not None and fits:
            scale = self.scale or q_BQHD.shape[-1] ** -0.5
            return sparse_triton.attend_places(
                q_BQHD, entries_BSD, places_BQK, real_BQK, self.sink, scale=scale, value=self.value
            )
        rows_BQKD = source.gather(places_BQK).to(q_BQHD.dtype)
        return ops.attend_chosen(q_BQHD, rows_BQKD, self.sink, real_BQK, scale=self.scale, value=self.value)


def gather_tile(entries: int, heads: int) -> int:
    """Queries of a tile that gathers, so that the indexer's scores of a tile stay small at any length."""
    return max(1, min(GATHER_TILE, GATHER_SCORES // (entries * heads)))
