"""Turn the language core's tapped states into the condition of the picture head.

B batch, T prompt tokens, D core width, C condition width, K learned queries, S = K + T condition tokens, H heads.
Sources: MetaQueries (arXiv 2504.06256) for learned queries; classifier-free guidance (arXiv 2207.12598) for the
null condition; rotary positions (arXiv 2104.09864).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .closed import require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConnectorConfig:
    """Sizes of the connector: `tap_dim` is the core's width, `taps` how many of its layers are read."""

    tap_dim: int = 384
    cond_dim: int = 384
    taps: int = 3
    queries: int = 8
    layers: int = 2
    heads: int = 6
    ffn_dim: int = 384

    def __post_init__(self) -> None:
        require_positive("HeadConnectorConfig", **dataclasses.asdict(self))
        if self.cond_dim % (2 * self.heads):
            raise ValueError(
                f"cond_dim {self.cond_dim} must divide into {self.heads} heads of an even width (positions turn pairs)"
            )


class Condition(NamedTuple):
    """What the head reads: tokens [B,S,C] and a bool mask [B,S], True where a token may be looked at."""

    tokens_BSC: Tensor
    mask_BS: Tensor


class _Block(nn.Module):
    """One bidirectional pre-norm transformer block whose keys are masked."""

    def __init__(self, config: HeadConnectorConfig) -> None:
        super().__init__()
        width = config.cond_dim
        self.heads = config.heads
        self.norm_attention = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_ffn = nn.RMSNorm(width)
        self.up = nn.Linear(width, 2 * config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, width, bias=False)

    def forward(self, x_BSC: Tensor, mask_B11S: Tensor, cos_SE: Tensor, sin_SE: Tensor) -> Tensor:
        batch, length, width = x_BSC.shape
        qkv = self.qkv(self.norm_attention(x_BSC)).view(batch, length, 3, self.heads, width // self.heads)
        q_BHSE, k_BHSE, v_BHSE = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q_BHSE, k_BHSE = _turn(q_BHSE, cos_SE, sin_SE), _turn(k_BHSE, cos_SE, sin_SE)
        seen_BHSE = F.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE, attn_mask=mask_B11S)
        x_BSC = x_BSC + self.out(seen_BHSE.transpose(1, 2).reshape(batch, length, width))
        value, gate = self.up(self.norm_ffn(x_BSC)).chunk(2, dim=-1)
        return x_BSC + self.down(F.silu(gate) * value)


def _turn(x_BHSE: Tensor, cos_SE: Tensor, sin_SE: Tensor) -> Tensor:
    """Rotate the two halves of every head by its position's angles."""
    first, second = x_BHSE.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos_SE - second * sin_SE, first * sin_SE + second * cos_SE], dim=-1)
    return turned.to(x_BHSE.dtype)


class HeadConnector(nn.Module):
    """Three tapped streams -> K query tokens followed by the prompt's T tokens, ready for cross-attention.

    The queries stand in front, so that no position depends on how far the prompt was padded.
    """

    def __init__(self, config: HeadConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.mix = nn.Parameter(torch.zeros(config.taps))
        self.enter = nn.Linear(config.tap_dim, config.cond_dim)
        self.queries_KC = nn.Parameter(torch.randn(config.queries, config.cond_dim) * 0.5)
        self.null_KC = nn.Parameter(torch.randn(config.queries, config.cond_dim) * 0.5)
        self.blocks = nn.ModuleList([_Block(config) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(config.cond_dim)

    def forward(self, taps: tuple[Tensor, ...], mask_BT: Tensor, drop_B: Tensor | None = None) -> Condition:
        """Read `taps` (each [B,T,D]) where `mask_BT` is True; rows in bool `drop_B` become the null condition.

        Raises ValueError when the number of taps or their width is not the configured one.
        """
        self._check(taps, mask_BT)
        weights = self.mix.float().softmax(0)
        mixed_BTD = sum(w * F.rms_norm(tap.float(), (tap.shape[-1],)) for w, tap in zip(weights, taps, strict=True))
        text_BTC = self.enter(mixed_BTD.to(self.enter.weight.dtype))
        batch, length = mask_BT.shape
        queries = self.config.queries
        x_BSC = torch.cat([self.queries_KC.expand(batch, -1, -1), text_BTC], dim=1)
        mask_BT = mask_BT.bool()
        open_BK = torch.ones(batch, queries, dtype=torch.bool, device=mask_BT.device)
        mask_BS = torch.cat([open_BK, mask_BT], dim=1)
        cos_SE, sin_SE = self._angles(queries + length, x_BSC.device)
        for block in self.blocks:
            x_BSC = block(x_BSC, mask_BS[:, None, None], cos_SE, sin_SE)
        x_BSC = self.norm(x_BSC)
        if drop_B is None:
            return Condition(x_BSC, mask_BS)
        return self._drop(x_BSC, mask_BS, drop_B)

    def null(self, batch: int, length: int | None = None) -> Condition:
        """The learned condition of "no prompt" for `batch` rows, padded to `length` tokens (default K)."""
        queries = self.config.queries
        length = queries if length is None else length
        if length < queries:
            raise ValueError(f"the null condition needs at least {queries} tokens, got length {length}")
        tokens_BSC = F.pad(self.null_KC, (0, 0, 0, length - queries)).expand(batch, -1, -1)
        mask_S = torch.arange(length, device=self.null_KC.device) < queries
        return Condition(tokens_BSC, mask_S.expand(batch, -1))

    def _drop(self, x_BSC: Tensor, mask_BS: Tensor, drop_B: Tensor) -> Condition:
        # Blended, not torch.where on an expanded parameter: that returned a gradient of the wrong shape when compiled.
        null_SC = F.pad(self.null_KC, (0, 0, 0, x_BSC.shape[1] - self.config.queries))
        gone_B11 = drop_B.to(x_BSC.dtype)[:, None, None]
        is_query_S = torch.arange(x_BSC.shape[1], device=x_BSC.device) < self.config.queries
        return Condition(x_BSC * (1 - gone_B11) + null_SC * gone_B11, mask_BS & (is_query_S | ~drop_B.bool()[:, None]))

    def _angles(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        half = self.config.cond_dim // self.config.heads // 2
        rate_E = 100.0 ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
        angle_SE = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate_E
        return angle_SE.cos(), angle_SE.sin()

    def _check(self, taps: tuple[Tensor, ...], mask_BT: Tensor) -> None:
        if len(taps) != self.config.taps:
            raise ValueError(f"the connector reads {self.config.taps} tapped layers, got {len(taps)}")
        wanted = (*mask_BT.shape, self.config.tap_dim)
        for number, tap in enumerate(taps):
            if tuple(tap.shape) != wanted:
                raise ValueError(f"tap {number} has shape {tuple(tap.shape)}; the mask and the config want {wanted}")
