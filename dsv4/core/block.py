"""One block: memory, attention and experts, each reading from the residual lanes and writing back.

Shape letters: B batch, T tokens, N lanes, W hidden, E experts.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from dsv4.core.attention import SharedAttention
from dsv4.core.compressed import CompressedAttention
from dsv4.core.config import COMPRESSED, CoreConfig
from dsv4.core.engram import Engram, FusedEngram
from dsv4.core.frame import Frame
from dsv4.core.heads import HeadAttention
from dsv4.core.hyper import HyperLanes, collapse
from dsv4.core.latent import LatentAttention
from dsv4.core.moe import Dense, Experts
from dsv4.core.shared_compressed import SharedCompressedAttention
from dsv4.ops.norm import RMSNorm


class BlockOutput(NamedTuple):
    """Lanes after the block, expert loads [E], balance loss, the indexer's loss where asked for, and in single-pass
    lanes the weights by which the next site reads."""

    x_BTNW: Tensor
    load_E: Tensor
    balance: Tensor
    index_loss: Tensor | None
    pre_BTN: Tensor | None = None


def attention_of(config: CoreConfig, layer: int) -> SharedAttention | LatentAttention | HeadAttention:
    """The attention that a layer's reach and the kind of its entries ask for."""
    if config.attention.kind == "mla":
        return LatentAttention(config, layer)
    if config.attention.kind == "heads":
        return HeadAttention(config, layer)
    if config.reach[layer] == "shared_compressed":
        return SharedCompressedAttention(config, layer)
    return CompressedAttention(config, layer) if config.reach[layer] in COMPRESSED else SharedAttention(config, layer)


def memory_of(config: CoreConfig, layer: int, vocabulary: int) -> Engram | FusedEngram | None:
    """The memory of a layer, where it has one."""
    if config.engram is None or layer not in config.engram.layers:
        return None
    return (FusedEngram if config.engram.form == "fused" else Engram)(config, layer, vocabulary=vocabulary)


class Block(nn.Module):
    """Engram (in some layers), then attention, then experts or a dense unit."""

    def __init__(self, config: CoreConfig, layer: int, *, vocabulary: int) -> None:
        super().__init__()
        self.engram = memory_of(config, layer, vocabulary)
        plain = config.lanes.count == 1
        self.hyper_attention = None if plain else HyperLanes(config, 2 * layer)
        self.attention_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.attention = attention_of(config, layer)
        self.hyper_experts = None if plain else HyperLanes(config, 2 * layer + 1)
        self.experts_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.experts = Dense(config) if layer in config.experts.dense else Experts(config, layer)

    def forward(
        self, x_BTNW: Tensor, shifts: list[Tensor] | None, frame: Frame, pre_BTN: Tensor | None = None
    ) -> BlockOutput:
        """`shifts` are the memory ids, or None where memory is closed for the whole pass; `pre_BTN` is given in
        single-pass lanes alone."""
        if self.engram is not None and shifts is not None:
            x_BTNW = x_BTNW + self.engram(x_BTNW, shifts, frame)
        if self.hyper_attention is None or self.hyper_experts is None:
            y_BTW, index_loss = self.attention(self.attention_norm(x_BTNW[:, :, 0]), frame)
            x_BTNW = x_BTNW + y_BTW[:, :, None]
            y_BTW, load_E, balance = self.experts(self.experts_norm(x_BTNW[:, :, 0]), frame.token_ids_BT)
            return BlockOutput(x_BTNW + y_BTW[:, :, None], load_E, balance, index_loss)
        if pre_BTN is not None:
            return self._single_pass(x_BTNW, pre_BTN, frame)
        into_BTW, post_BTN, comb_BTNN = self.hyper_attention.read(x_BTNW)
        y_BTW, index_loss = self.attention(self.attention_norm(into_BTW), frame)
        x_BTNW = self.hyper_attention.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        into_BTW, post_BTN, comb_BTNN = self.hyper_experts.read(x_BTNW)
        y_BTW, load_E, balance = self.experts(self.experts_norm(into_BTW), frame.token_ids_BT)
        x_BTNW = self.hyper_experts.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        return BlockOutput(x_BTNW, load_E, balance, index_loss)

    def _single_pass(self, x_BTNW: Tensor, pre_BTN: Tensor, frame: Frame) -> BlockOutput:
        assert self.hyper_attention is not None and self.hyper_experts is not None
        next_BTN, post_BTN, comb_BTNN = self.hyper_attention.mix(x_BTNW)
        y_BTW, index_loss = self.attention(self.attention_norm(collapse(x_BTNW, pre_BTN)), frame)
        x_BTNW = self.hyper_attention.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        last_BTN, post_BTN, comb_BTNN = self.hyper_experts.mix(x_BTNW)
        into_BTW = self.experts_norm(collapse(x_BTNW, next_BTN))
        y_BTW, load_E, balance = self.experts(into_BTW, frame.token_ids_BT)
        x_BTNW = self.hyper_experts.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        return BlockOutput(x_BTNW, load_E, balance, index_loss, last_BTN)
