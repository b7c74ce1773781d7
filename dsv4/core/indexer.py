"""The lightning indexer of a sparse layer: small queries and keys whose scores say which entries to read.

Shape letters: B batch, T tokens, W hidden, R query rank, I index heads, C index size.
Source: DeepSeek-V3.2 report §2.1; fed from the same query latent as attention. Beside latent attention the position is
in the leading numbers, as two halves, as released; beside shared entries in the trailing ones, as pairs.
"""

from __future__ import annotations

from torch import Tensor, nn

from dsv4.core.config import CoreConfig, LatentConfig
from dsv4.core.frame import Frame
from dsv4.ops.linear import Linear
from dsv4.ops.rotary import rotate, rotate_halves


class Indexer(nn.Module):
    """Queries from the query latent, one key a token, and a weight for each head."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        attention = config.attention
        self.heads, self.size = attention.index_heads, attention.index_size
        self.turned = rotate_halves if isinstance(attention, LatentConfig) else rotate
        self.query = Linear(attention.q_rank, self.heads * self.size)
        self.key = Linear(config.hidden, self.size)
        self.key_norm = nn.LayerNorm(self.size, eps=1e-6)
        self.weights = Linear(config.hidden, self.heads)

    def keys(self, x_BTW: Tensor, frame: Frame) -> Tensor:
        """Index keys [B, T, C], part of them rotated."""
        key_BTC = self.key_norm(self.key(x_BTW)).to(x_BTW.dtype)
        return self.turned(key_BTC, frame.near.index_cos_BT1P[:, :, 0], frame.near.index_sin_BT1P[:, :, 0])

    def queries(self, x_BTW: Tensor, latent_BTR: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Index queries [B, T, I, C] and head weights [B, T, I]."""
        query_BTIC = self.query(latent_BTR).unflatten(-1, (self.heads, self.size))
        query_BTIC = self.turned(query_BTIC, frame.near.index_cos_BT1P, frame.near.index_sin_BT1P)
        return query_BTIC, self.weights(x_BTW)
