"""One block: memory, attention and experts, each reading from the residual lanes and writing back.

Shape letters: B batch, T tokens, N lanes, W hidden, E experts.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from dsv4.core.attention import SharedAttention
from dsv4.core.compressed import CompressedAttention
from dsv4.core.config import COMPRESSED, CoreConfig
from dsv4.core.engram import Engram
from dsv4.core.frame import Frame
from dsv4.core.heads import HeadAttention
from dsv4.core.hyper import HyperLanes
from dsv4.core.latent import LatentAttention
from dsv4.core.moe import Dense, Experts
from dsv4.ops.norm import RMSNorm


class BlockOutput(NamedTuple):
    """Lanes after the block, expert loads [E], balance loss, and the indexer's loss where asked for."""

    x_BTNW: Tensor
    load_E: Tensor
    balance: Tensor
    index_loss: Tensor | None


def attention_of(config: CoreConfig, layer: int) -> SharedAttention | LatentAttention | HeadAttention:
    """The attention that a layer's reach and the kind of its entries ask for."""
    if config.attention.kind == "mla":
        return LatentAttention(config, layer)
    if config.attention.kind == "heads":
        return HeadAttention(config, layer)
    return CompressedAttention(config, layer) if config.reach[layer] in COMPRESSED else SharedAttention(config, layer)


class Block(nn.Module):
    """Engram (in some layers), then attention, then experts or a dense unit."""

    def __init__(self, config: CoreConfig, layer: int, *, vocabulary: int) -> None:
        super().__init__()
        remembers = config.engram is not None and layer in config.engram.layers
        self.engram = Engram(config, layer, vocabulary=vocabulary) if remembers else None
        plain = config.lanes.count == 1
        self.hyper_attention = None if plain else HyperLanes(config, 2 * layer)
        self.attention_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.attention = attention_of(config, layer)
        self.hyper_experts = None if plain else HyperLanes(config, 2 * layer + 1)
        self.experts_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.experts = Dense(config) if layer in config.experts.dense else Experts(config, layer)

    def forward(self, x_BTNW: Tensor, shifts: list[Tensor] | None, frame: Frame) -> BlockOutput:
        """`shifts` are the memory ids, or None where memory is closed for the whole pass."""
        if self.engram is not None and shifts is not None:
            x_BTNW = x_BTNW + self.engram(x_BTNW, shifts, frame)
        if self.hyper_attention is None or self.hyper_experts is None:
            y_BTW, index_loss = self.attention(self.attention_norm(x_BTNW[:, :, 0]), frame)
            x_BTNW = x_BTNW + y_BTW[:, :, None]
            y_BTW, load_E, balance = self.experts(self.experts_norm(x_BTNW[:, :, 0]), frame.token_ids_BT)
            return BlockOutput(x_BTNW + y_BTW[:, :, None], load_E, balance, index_loss)
        into_BTW, post_BTN, comb_BTNN = self.hyper_attention.read(x_BTNW)
        y_BTW, index_loss = self.attention(self.attention_norm(into_BTW), frame)
        x_BTNW = self.hyper_attention.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        into_BTW, post_BTN, comb_BTNN = self.hyper_experts.read(x_BTNW)
        y_BTW, load_E, balance = self.experts(self.experts_norm(into_BTW), frame.token_ids_BT)
        x_BTNW = self.hyper_experts.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        return BlockOutput(x_BTNW, load_E, balance, index_loss)
