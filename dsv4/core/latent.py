"""Latent attention (MLA): a token leaves one latent and one rotated key part; heads unfold keys and values from them.

Shape letters: B batch, T queries, S entries, W hidden, R query rank, H heads, L latent, P plain numbers of a head,
E rotated numbers, V value size, D = L + E entry size.
Source: DeepSeek-V2 report §2.1 and the DeepSeek-V3.2 report for sparse reach. The naive form unfolds every entry and is
quicker for many queries at once; the absorbed form folds the unfolding into queries and outputs, so that entries are
read as they lie. Both give the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.core.config import CoreConfig, LatentConfig
from dsv4.core.frame import Frame
from dsv4.core.indexer import Indexer
from dsv4.core.reading import EntryAttention
from dsv4.core.rows import Readable
from dsv4.ops import attend as ops
from dsv4.ops.linear import Linear
from dsv4.ops.norm import RMSNorm
from dsv4.ops.rotary import rotate


class LatentAttention(EntryAttention):
    """One layer's latent attention; `reach` is full or sparse. `form` is auto; naive or absorbed insist on one."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        part = config.attention
        assert isinstance(part, LatentConfig)
        scale = (part.plain + part.rotated) ** -0.5 * (part.yarn.score_scale if part.yarn else 1.0)
        super().__init__(
            layer=layer, reach=config.reach[layer], window=None, top_k=part.top_k, scale=scale, value=part.latent
        )
        self.part, self.form = part, "auto"
        into = config.hidden
        self.query_down = self.query_norm = None
        if part.q_rank is not None:
            self.query_down = Linear(config.hidden, part.q_rank)
            self.query_norm = RMSNorm(part.q_rank, eps=part.latent_eps)
            into = part.q_rank
        self.query_up = Linear(into, part.heads * (part.plain + part.rotated))
        self.entry = Linear(config.hidden, part.latent + part.rotated)
        self.entry_norm = RMSNorm(part.latent, eps=part.latent_eps)
        self.unfold = Linear(part.latent, part.heads * (part.plain + part.value))
        self.out = Linear(part.heads * part.value, config.hidden)
        self.sink = None
        self.indexer = Indexer(config) if self.reach == "sparse" else None

    def forward(self, x_BTW: Tensor, frame: Frame) -> tuple[Tensor, Tensor | None]:
        """Output [B, T, W], and the indexer's loss where the frame asks for it."""
        part, turn = self.part, frame.near
        latent_BTR = x_BTW
        if self.query_down is not None and self.query_norm is not None:
            latent_BTR = self.query_norm(self.query_down(x_BTW))
        q_BTHX = self.query_up(latent_BTR).unflatten(-1, (part.heads, -1))
        q_BTHX = rotate(q_BTHX, turn.cos_BT1P, turn.sin_BT1P)
        entry_BTD = rotate(self.entry(x_BTW), turn.cos_BT1P[:, :, 0], turn.sin_BT1P[:, :, 0])
        entry_BTD = torch.cat((self.entry_norm(entry_BTD[..., : part.latent]), entry_BTD[..., part.latent :]), -1)
        if self.indexer is not None and (frame.sparse or frame.cache is not None or frame.index_loss):
            out_BTHL, loss = self._indexed(x_BTW, latent_BTR, self._absorb(q_BTHX), entry_BTD, frame)
            return self._project(out_BTHL), loss
        source = self._entries(entry_BTD, frame)
        if self._is_naive(frame.length, source.stop):
            return self.out(self._unfolded(q_BTHX, source, frame).flatten(-2)), None
        return self._project(self._tiled(self._absorb(q_BTHX), source, frame)), None

    def _is_naive(self, queries: int, entries: int) -> bool:
        """Whether unfolding all entries takes fewer multiplications than reading latents."""
        if self.form != "auto":
            return self.form == "naive"
        part = self.part
        both, unfolded = part.plain + part.value, part.plain + part.rotated + part.value
        naive = entries * both * part.latent + queries * entries * unfolded
        return naive < queries * both * part.latent + queries * entries * (2 * part.latent + part.rotated)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Key part [H, P, L] and value part [H, V, L] of the unfolding."""
        both = self.unfold.weight.unflatten(0, (self.part.heads, -1))
        return both[:, : self.part.plain], both[:, self.part.plain :]

    def _absorb(self, q_BTHX: Tensor) -> Tensor:
        keys_HPL, _ = self._weights()
        plain_HNP = q_BTHX[..., : self.part.plain].flatten(0, 1).transpose(0, 1)
        folded_BTHL = (plain_HNP @ keys_HPL).transpose(0, 1).unflatten(0, q_BTHX.shape[:2])
        return torch.cat((folded_BTHL, q_BTHX[..., self.part.plain :]), -1)

    def _project(self, out_BTHL: Tensor) -> Tensor:
        _, values_HVL = self._weights()
        out_HNL = out_BTHL.flatten(0, 1).transpose(0, 1)
        # One row at a time is what batched kernels are slow at from the left, and quick from the right.
        out_HNV = (values_HVL @ out_HNL.mT).mT if out_HNL.shape[1] == 1 else out_HNL @ values_HVL.mT
        return self.out(out_HNV.transpose(0, 1).flatten(1).unflatten(0, out_BTHL.shape[:2]))

    def _unfolded(self, q_BTHX: Tensor, source: Readable, frame: Frame) -> Tensor:
        """The naive form, a tile of queries at a time: [B, T, H, V]."""
        part = self.part
        entries_BSD = source.all().to(q_BTHX.dtype)
        both_BSHX = self.unfold(entries_BSD[..., : part.latent]).unflatten(-1, (part.heads, -1))
        shared_BSHE = entries_BSD[:, :, None, part.latent :].expand(-1, -1, part.heads, -1)
        keys_BSHX = torch.cat((both_BSHX[..., : part.plain], shared_BSHE), -1)
        values_BSHV = both_BSHX[..., part.plain :]
        return attend_tiles(self, q_BTHX, keys_BSHX, values_BSHV, frame, scale=self.scale or 1.0)


def attend_tiles(
    layer: EntryAttention, q_BTHX: Tensor, keys_BSGX: Tensor, values_BSGV: Tensor, frame: Frame, *, scale: float
) -> Tensor:
    """`ops.attend_heads` over all earlier entries, a tile of queries at a time: [B, T, H, V]."""
    tiles: list[Tensor] = []
    for begin in range(0, frame.length, ops.TILE):
        end = min(begin + ops.TILE, frame.length)
        high = frame.start + end
        seen_BQS = None if frame.length == 1 else layer._seen(begin, end, 0, high, frame)
        tiles.append(
            ops.attend_heads(q_BTHX[:, begin:end], keys_BSGX[:, :high], values_BSGV[:, :high], seen_BQS, scale=scale)
        )
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles, 1)
