"""Attention over the last entries and over compressed ones that several layers share (CSA2).

Shape letters: B batch, T queries, Q queries of a tile, N compressed entries, W hidden, R query rank, H heads, D entry
size, I index heads, C index size, K chosen, J blocks.
Source: V4.1 report (arXiv 2609.19969) §2.3, order of operations as in NeMo Automodel's deepseek_v41. A source makes an
entry of every M tokens and an index key from it before it is turned; a chooser scores the keys; other layers read what
was chosen before them. Choosers behind the pool's source score only the blocks of entries whose best scored highest
there, and the newest block. Entries, keys and index queries are rounded to FP4, in training too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv4.core.compressed import WindowAttention
from dsv4.core.config import AttentionConfig, CoreConfig, SharingConfig
from dsv4.core.frame import Frame, stretched
from dsv4.core.passing import Picks, Shared
from dsv4.core.reading import gather_tile
from dsv4.core.rows import Readable, Rows
from dsv4.ops import attend as ops
from dsv4.ops.fp4 import on_four_bits
from dsv4.ops.linear import Linear, linear
from dsv4.ops.norm import RMSNorm
from dsv4.ops.numbers import wide
from dsv4.ops.pool import pool_windows
from dsv4.ops.rotary import rotate
from dsv4.ops.select import PIECE, best_places, chosen_places, index_scores

GATHER_FROM = 8192  # compressed entries from which on a tile of queries reads only those that it chose


class SharedCompressor(nn.Module):
    """Makes one latent of every `ratio` tokens, without overlap; of one token it is a projection."""

    def __init__(self, config: CoreConfig, layer: int, *, ratio: int) -> None:
        super().__init__()
        size = config.attention.entry
        self.layer, self.ratio = layer, ratio
        self.entry = Linear(config.hidden, size)
        self.gate = Linear(config.hidden, size) if ratio > 1 else None
        self.norm = RMSNorm(size, eps=config.norm_eps)

    def forward(self, x_BTW: Tensor, frame: Frame) -> Tensor:
        """Latents [B, N, D] of the windows that the new tokens filled, not yet turned; N may be 0."""
        if self.gate is None:
            return self.norm(linear(x_BTW, self.entry.weight.to(x_BTW.dtype)))
        wide_BTW = wide(x_BTW)
        new_BTC = torch.cat([linear(wide_BTW, wide(one.weight)) for one in (self.entry, self.gate)], -1)
        rows_BTC = new_BTC[:, : frame.length // self.ratio * self.ratio]
        if frame.cache is not None:
            kept = frame.cache.append_projected(self.layer, "entry", new_BTC, ratio=self.ratio, lead=0)
            rows_BTC = new_BTC[:, :0] if kept is None else kept
        if not rows_BTC.shape[1]:
            return x_BTW.new_zeros(x_BTW.shape[0], 0, self.norm.weight.shape[0])
        values, gates = rows_BTC.chunk(2, -1)
        pooled_BND = pool_windows(values, gates, gates.new_zeros(self.ratio, 1))
        return self.norm(pooled_BND.to(x_BTW.dtype))


class SharedIndexer(nn.Module):
    """Queries and head weights of a chooser; a source also makes keys."""

    def __init__(self, config: CoreConfig, part: AttentionConfig, *, tile: int, source: bool) -> None:
        super().__init__()
        self.heads, self.size, self.tile = part.index_heads, part.index_size, tile
        self.query = Linear(part.q_rank, self.heads * self.size)
        self.weights = Linear(config.hidden, self.heads)
        self.key = Linear(part.entry, self.size) if source else None
        self.key_norm = RMSNorm(self.size, eps=config.norm_eps) if source else None

    def keys(self, latent_BND: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Index keys [B, N, C], turned."""
        assert self.key is not None and self.key_norm is not None
        return rotate(self.key_norm(self.key(latent_BND)), cos, sin)

    def queries(self, x_BTW: Tensor, latent_BTR: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Index queries [B, T, I, C], on the grid, and head weights [B, T, I]."""
        query_BTIC = rotate(self.query(latent_BTR).unflatten(-1, (self.heads, self.size)), cos, sin)
        return _rounded(query_BTIC, self.tile, "e8m0"), self.weights(x_BTW)


class SharedCompressedAttention(WindowAttention):
    """One layer's attention; whether it makes entries and whether it chooses follows from `SharingConfig`."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__(config, layer)
        part = config.attention
        assert isinstance(part, AttentionConfig) and part.sharing is not None
        self.part, self.plan, self.ratio = part, part.sharing, config.ratio(layer)
        source = layer in self.plan.sources
        self.pool = SharedCompressor(config, layer, ratio=self.ratio) if source else None
        self.window_indexer: SharedIndexer | None = None
        if layer in self.plan.choosers:
            self.window_indexer = SharedIndexer(config, part, tile=self.plan.key_tile, source=source)

    def _read(
        self, x_BTW: Tensor, latent_BTR: Tensor, q_BTHD: Tensor, new_BTD: Tensor, frame: Frame
    ) -> tuple[Tensor, Tensor | None]:
        shared = frame.shared
        assert shared is not None
        if self.pool is not None:
            self._publish(self.pool, x_BTW, frame, shared)
        far = shared.entries
        if far is None:
            raise ValueError(f"layer {self.layer} reads entries that a layer before it makes; run the blocks in order")
        near = self._entries(new_BTD, frame)
        selects = frame.sparse and far.stop > self.top_k
        index = None
        if self.window_indexer is not None:
            shared.picks = None
            if selects or frame.index_loss:
                turn = self._turn(frame)
                angles = turn.index_cos_BT1P, turn.index_sin_BT1P
                index = self.window_indexer.queries(x_BTW.detach(), latent_BTR.detach(), *angles)
        gathers = selects and not frame.index_loss and (frame.length == 1 or far.stop >= GATHER_FROM)
        step = gather_tile(far.stop, self.part.index_heads) if gathers else ops.TILE // 2
        tiles: list[Tensor] = []
        losses: list[Tensor] = []
        picks: list[Picks] = []
        blocks: list[Picks] = []
        for begin in range(0, frame.length, step):
            end = min(begin + step, frame.length)
            scores_BQN, picked = None, None if shared.picks is None else shared.picks.part(begin, end)
            if index is not None:
                scores_BQN, picked = self._choose(index, begin, end, frame, shared, selects, blocks)
                picks += [picked] if picked is not None else []
            tile = self._tile(q_BTHD[:, begin:end], near, far, picked, scores_BQN, begin, end, frame, gathers)
            tiles.append(tile[0])
            losses += tile[1]
        shared.picks = Picks.joined(picks) if picks else shared.picks
        shared.blocks = Picks.joined(blocks) if blocks else shared.blocks
        return torch.cat(tiles, 1), sum(losses[1:], losses[0]) if losses else None

    def _publish(self, pool: SharedCompressor, x_BTW: Tensor, frame: Frame, shared: Shared) -> None:
        """Make the entries and keys of the windows that are now full, and hold out all there are."""
        part, cache, indexer = self.part, frame.cache, self.window_indexer
        assert indexer is not None
        latent_BND = pool(x_BTW, frame)
        full = (frame.start + frame.length) // self.ratio
        places = torch.arange(full - latent_BND.shape[1], full, device=x_BTW.device)[None] * self.ratio
        entry, index = (
            stretched(places, size, theta=part.far_theta, yarn=part.yarn) for size in (part.rotated, part.index_rotated)
        )
        made = {
            "entry": (rotate(latent_BND, *entry), self.plan.entry_tile, "e4m3"),
            "index": (indexer.keys(latent_BND.detach(), *index), self.plan.key_tile, "e8m0"),
        }
        held: dict[str, Readable] = {}
        for name, (new_BND, tile, scale) in made.items():
            # Packed rows are rounded by being packed; what is on the grid already might be rounded once more.
            new = new_BND if cache is not None and cache.packed else _rounded(new_BND, tile, scale)
            if cache is None:
                held[name] = Readable(new, first=0, stop=full)
            else:
                some = new if new.shape[1] else None
                held[name] = cache.append_windows(self.layer, name, some, ratio=self.ratio, full=full)
        shared.entries, shared.keys, shared.picks, shared.blocks = held["entry"], held["index"], None, None

    def _choose(
        self,
        index: tuple[Tensor, Tensor],
        begin: int,
        end: int,
        frame: Frame,
        shared: Shared,
        selects: bool,
        blocks: list[Picks],
    ) -> tuple[Tensor | None, Picks | None]:
        """Scores of all entries for some queries (None where only a pool was scored), and what these choose."""
        assert shared.keys is not None
        plan, full = self.plan, (frame.start + end) // self.ratio
        q_BQIC, weights_BQI = index[0][:, begin:end], index[1][:, begin:end]
        pooled = None if shared.blocks is None else shared.blocks.part(begin, end)
        if pooled is not None and frame.length == 1 and not frame.index_loss:
            return None, _from_pool(q_BQIC, weights_BQI, shared.keys, pooled, plan, full, self.top_k)
        scores_BQN = key_scores(shared.keys, q_BQIC, weights_BQI, full)
        if not selects:
            return scores_BQN, None
        ranked_BQN, seen_BQN = scores_BQN.detach(), self._far_seen(begin, end, frame, q_BQIC.shape[0])
        if self.layer == plan.pool_source and -(-shared.keys.stop // plan.pool_size) > plan.pool_blocks:
            blocks.append(best_blocks(ranked_BQN, seen_BQN, plan))
        if pooled is not None:
            inside = pooled.mask(-(-full // plan.pool_size)).repeat_interleave(plan.pool_size, -1)
            seen_BQN = seen_BQN & inside[..., :full]
        return scores_BQN, _best(ranked_BQN, seen_BQN, self.top_k)

    def _far_seen(self, begin: int, end: int, frame: Frame, batch: int) -> Tensor:
        """Which compressed entries some queries see: [B, Q, N]."""
        device = frame.near.cos_BT1P.device
        query_Q = torch.arange(frame.start + begin, frame.start + end, device=device)
        entry_N = torch.arange((frame.start + end) // self.ratio, device=device)
        return (entry_N < ((query_Q + 1) // self.ratio)[:, None])[None].expand(batch, -1, -1)

    def _tile(
        self,
        q_BQHD: Tensor,
        near: Readable,
        far: Readable,
        picked: Picks | None,
        scores_BQN: Tensor | None,
        begin: int,
        end: int,
        frame: Frame,
        gathers: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """Output of some queries, and the indexer's loss over them where it is asked for."""
        full = (frame.start + end) // self.ratio
        near_BSD, near_BQS = self._near(near, begin, end, frame, q_BQHD)
        if gathers and picked is not None:
            return self._gathered(q_BQHD, near_BSD, near_BQS, far, *picked), []
        seen_BQN = self._far_seen(begin, end, frame, q_BQHD.shape[0])
        chosen_BQN = seen_BQN if picked is None else picked.mask(full)
        entries_BSD = torch.cat((near_BSD, far.read(0, full).to(q_BQHD.dtype)), 1)
        seen_BQS = torch.cat((near_BQS, chosen_BQN), -1)
        losses: list[Tensor] = []
        if frame.index_loss and scores_BQN is not None:
            over_BQN = chosen_BQN if frame.index_loss == "chosen" else seen_BQN
            loss = self._window_loss(q_BQHD, entries_BSD, torch.cat((near_BQS, over_BQN), -1), scores_BQN, over_BQN)
            losses.append(loss / frame.length)
        return self._attend(q_BQHD, entries_BSD, seen_BQS), losses


def key_scores(keys: Readable, q_BQIC: Tensor, weights_BQI: Tensor, stop: int) -> Tensor:
    """`index_scores` of the first `stop` keys; packed ones are opened a piece at a time."""
    step = PIECE if isinstance(keys.held, Rows) and keys.held.form is not None else max(1, stop)
    parts = [
        index_scores(q_BQIC, weights_BQI, keys.read(low, min(stop, low + step)).to(q_BQIC.dtype))
        for low in range(0, max(1, stop), step)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def best_blocks(scores_BQN: Tensor, seen_BQN: Tensor, plan: SharingConfig) -> Picks:
    """The `pool_blocks` best blocks of seen entries by their best score; the newest is always among them."""
    short = -scores_BQN.shape[-1] % plan.pool_size
    masked_BQN = torch.nn.functional.pad(scores_BQN.masked_fill(~seen_BQN, float("-inf")), (0, short), value=-torch.inf)
    tops_BQJ = masked_BQN.unflatten(-1, (-1, plan.pool_size)).amax(-1)
    newest_BQ1 = (seen_BQN.sum(-1, keepdim=True) - 1) // plan.pool_size
    newest_BQJ = torch.arange(tops_BQJ.shape[-1], device=scores_BQN.device) == newest_BQ1
    tops_BQJ = tops_BQJ.masked_fill(newest_BQJ, float("inf"))
    return _best(tops_BQJ, tops_BQJ > float("-inf"), plan.pool_blocks)


def _from_pool(
    q_BQIC: Tensor,
    weights_BQI: Tensor,
    keys: Readable,
    pooled: Picks,
    plan: SharingConfig,
    full: int,
    top_k: int,
) -> Picks:
    """What one query of each row chooses of its pool, the only keys that are read."""
    offsets = torch.arange(plan.pool_size, device=q_BQIC.device)
    places_B1P = (pooled.places[..., None] * plan.pool_size + offsets).flatten(-2)
    real_B1P = pooled.real.repeat_interleave(plan.pool_size, -1) & (places_B1P < full)
    places_B1P = places_B1P.clamp(max=full - 1)
    found_BPC = keys.gather(places_B1P)[:, 0].to(q_BQIC.dtype)
    some = _best(index_scores(q_BQIC, weights_BQI, found_BPC), real_B1P, top_k)
    return Picks(places_B1P.gather(-1, some.places), some.real)


def _best(scores_BQN: Tensor, allowed_BQN: Tensor, k: int) -> Picks:
    if scores_BQN.shape[-1] < k:
        return Picks(*chosen_places(allowed_BQN, k))
    return Picks(*best_places(scores_BQN, allowed_BQN, k))


def _rounded(x_D: Tensor, tile: int, scale: str) -> Tensor:
    return on_four_bits(x_D, tile, scale) if tile else x_D
