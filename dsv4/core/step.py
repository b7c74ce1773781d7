"""One token of one sequence on a CPU: the same arithmetic as the blocks, with far fewer and smaller operations.

At this size launching an operation costs more than doing it, so the few mixing and routing numbers are computed in
Python and rotations are products with one small matrix. Tests hold it equal to the general path.

Shape letters: N lanes, W hidden, H heads, D entry size, S entries, C index size, R rows of memory, E experts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from dsv4.core.attention import SharedAttention
from dsv4.core.block import Block
from dsv4.core.config import COMPRESSED, CoreConfig
from dsv4.core.engram import Engram
from dsv4.core.hyper import HyperLanes
from dsv4.core.moe import Experts
from dsv4.ops.hashing import DEAD
from dsv4.ops.linear import linear
from dsv4.ops.norm import RMSNorm
from dsv4.ops.select import best_places
from dsv4.ops.sinkhorn import scalar

if TYPE_CHECKING:
    from dsv4.core.frame import Frame
    from dsv4.core.model import LanguageCore


def applies(core: LanguageCore, given_BTD: Tensor, frame: Frame) -> bool:
    """Whether this pass may take this path."""
    return (
        frame.cache is not None
        and core.steps_quickly
        and given_BTD.shape[:2] == (1, 1)
        and given_BTD.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not frame.index_loss
        and not torch.is_autocast_enabled("cpu")
        and given_BTD.dtype == core.embedding.weight.dtype
        and given_BTD.dtype in (torch.float32, torch.float64)  # sums here are taken in the format of the activations
        and not torch.compiler.is_compiling()
    )


def can_step(config: CoreConfig) -> bool:
    """Whether all parts of a configuration have their one-token form here: those of our own presets."""
    experts = config.experts
    return (
        config.attention.kind == "shared"
        and not set(config.reach) & set(COMPRESSED)
        and config.lanes.mixing == "mhc"
        and config.lanes.passes == 2
        and (config.attention.head_norm, config.attention.grid) == (True, 0)
        and (config.engram is None or config.engram.form == "paper")
        and (experts.score, experts.groups, experts.limit, experts.normalised) == ("sqrtsoftplus", 1, None, True)
        and not (experts.hashed or experts.picture_bias)
        and not experts.dense
    )


class Turns:
    """Rotation of one position as matrices: x @ entry turns an entry, x @ entry.T turns it back."""

    def __init__(self, frame: Frame, *, entry: int, index: int, dtype: torch.dtype) -> None:
        near = frame.near
        self.entry_DD = _turn(near.cos_BT1P, near.sin_BT1P, entry, dtype)
        self.index_CC = _turn(near.index_cos_BT1P, near.index_sin_BT1P, index, dtype)


def _turn(cos: Tensor, sin: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    matrix = torch.eye(size, dtype=dtype)
    cos_P, sin_P = cos.flatten().to(dtype), sin.flatten().to(dtype)
    start = size - 2 * cos_P.shape[0]
    diagonal, upper, lower = matrix.diagonal(), matrix.diagonal(1), matrix.diagonal(-1)
    diagonal[start::2], diagonal[start + 1 :: 2] = cos_P, cos_P
    upper[start::2], lower[start::2] = sin_P, -sin_P
    return matrix


def _normed(module: RMSNorm, x_1D: Tensor) -> Tensor:
    flat_D = x_1D.view(-1)
    scale = 1 / math.sqrt(float(torch.dot(flat_D, flat_D)) / flat_D.shape[0] + module.eps)
    return (flat_D * module.weight).mul_(scale)[None]


def block_step(
    block: Block, x_NW: Tensor, memory: list[int] | None, frame: Frame, turns: Turns
) -> tuple[Tensor, Tensor, Tensor]:
    """Lanes after the block, expert loads and balance loss."""
    assert frame.cache is not None
    if block.engram is not None and memory is not None:
        assert isinstance(block.engram, Engram)
        x_NW = x_NW + engram_step(block.engram, x_NW, memory, frame)
    if block.hyper_attention is None or block.hyper_experts is None:
        x_NW = x_NW + attention_step(block.attention, _normed(block.attention_norm, x_NW), frame, turns)
        y_1W, load_E, balance = experts_step(block.experts, _normed(block.experts_norm, x_NW))
        return x_NW + y_1W, load_E, balance
    into_1W, post_N, comb_NN = read_step(block.hyper_attention, x_NW)
    y_1W = attention_step(block.attention, _normed(block.attention_norm, into_1W), frame, turns)
    x_NW = torch.addr(comb_NN.T @ x_NW, post_N, y_1W[0])
    into_1W, post_N, comb_NN = read_step(block.hyper_experts, x_NW)
    y_1W, load_E, balance = experts_step(block.experts, _normed(block.experts_norm, into_1W))
    return torch.addr(comb_NN.T @ x_NW, post_N, y_1W[0]), load_E, balance


def read_step(hyper: HyperLanes, x_NW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the site works on [1, W], `post` [N] and `comb` [N, N]."""
    N, flat_X = hyper.lanes, x_NW.reshape(-1)
    squares = float(torch.dot(flat_X, flat_X))
    norm = 1 / math.sqrt(squares / flat_X.shape[0] + hyper.norm_eps)
    mixes = torch.mv(hyper.fn, flat_X).tolist()
    scale, base = hyper.scale.tolist(), hyper.base.tolist()
    logits = [mix * norm * scale[min(m // N, 2)] + base[m] for m, mix in enumerate(mixes)]
    pre = [1 / (1 + math.exp(-value)) + hyper.eps for value in logits[:N]]
    post = [2 / (1 + math.exp(-value)) for value in logits[N : 2 * N]]
    rows = [logits[start : start + N] for start in range(2 * N, len(logits), N)]
    comb = scalar(rows, iterations=hyper.iterations, eps=hyper.eps)
    numbers = torch.tensor([pre, post, *comb], dtype=x_NW.dtype)
    return numbers[:1] @ x_NW, numbers[1], numbers[2:]


def attention_step(module: SharedAttention, x_1W: Tensor, frame: Frame, turns: Turns) -> Tensor:
    """Output [1, W]; appends to the cache."""
    cache = frame.cache
    assert cache is not None
    heads, layer = module.heads, module.layer
    latent_1R = _normed(module.query_norm, F.linear(x_1W, module.query_down.weight))
    q_HD = F.linear(latent_1R, module.query_up.weight).view(heads, -1)
    q_HD = F.rms_norm(q_HD, (q_HD.shape[-1],), None, module.eps) @ turns.entry_DD
    new_1D = _normed(module.entry_norm, F.linear(x_1W, module.entry.weight)) @ turns.entry_DD
    source = cache.append_entries(layer, new_1D[None])
    if module.indexer is not None:
        index = module.indexer
        keys = cache.append_index_keys(layer, (index.key_norm(F.linear(x_1W, index.key.weight)) @ turns.index_CC)[None])
        if frame.sparse and source.stop > module.top_k:
            query_IC = F.linear(latent_1R, index.query.weight).view(index.heads, -1) @ turns.index_CC
            scores_BQS = keys.scores(query_IC[None, None], F.linear(x_1W, index.weights.weight)[None], source.stop)
            places_BQK, _ = best_places(scores_BQS, None, module.top_k)
            return _read_step(module, q_HD, source.gather(places_BQK)[0, 0], turns)
    return _read_step(module, q_HD, source.all()[0], turns)


def _read_step(module: SharedAttention, q_HD: Tensor, entries_SD: Tensor, turns: Turns) -> Tensor:
    assert module.sink is not None
    entries_SD = entries_SD.to(q_HD.dtype)
    scores_HS = (q_HD @ entries_SD.T) * (1 / math.sqrt(q_HD.shape[-1]))
    weights_HS = torch.softmax(torch.cat((module.sink[:, None], scores_HS), 1), 1)[:, 1:]
    out_GX = ((weights_HS @ entries_SD) @ turns.entry_DD.T).view(module.groups, 1, -1)
    return F.linear(torch.bmm(out_GX, module.out_groups.mT).view(1, -1), module.out.weight)


def experts_step(module: Experts, x_1W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output [1, W], loads [E] and the balance loss."""
    router = module.router
    assert router.bias is not None
    logits = F.linear(x_1W, router.weight)[0].tolist()
    scores = [math.sqrt(max(value, 0.0) + math.log1p(math.exp(-abs(value))) + 1e-20) for value in logits]
    ranked = [score + bias for score, bias in zip(scores, router.bias.tolist(), strict=True)]
    chosen = sorted(range(len(scores)), key=lambda expert: -ranked[expert])[: router.chosen]
    norm = router.scale / (sum(scores[expert] for expert in chosen) + 1e-20)
    gate, up = F.linear(x_1W, module.shared_in.weight).chunk(2, -1)
    out_1W = F.linear(F.silu(gate) * up, module.shared_out.weight)
    for expert in chosen:
        gate, up = F.linear(x_1W, module.experts_in[expert]).chunk(2, -1)
        out_1W = torch.add(out_1W, F.linear(F.silu(gate) * up, module.experts_out[expert]), alpha=scores[expert] * norm)
    load = [0.0] * len(scores)
    for expert in chosen:
        load[expert] = 1.0
    balance = sum(scores[expert] for expert in chosen) / sum(scores) * len(scores) / router.chosen
    return out_1W, torch.tensor(load), torch.tensor(balance)


def engram_step(module: Engram, x_NW: Tensor, memory: list[int], frame: Frame) -> Tensor:
    """What to add to the lanes [N, W]; `memory` holds the memory ids 0, 1, … places back."""
    part = module.part
    mix, closed, offset = max(memory[0], 0) * module.multipliers[0], memory[0] == DEAD, 0
    rows: list[int] = []
    is_open: list[float] = []
    for order, sizes in enumerate(module.primes, start=1):
        mix ^= max(memory[order], 0) * module.multipliers[order]
        closed = closed or memory[order] == DEAD
        for size in sizes:
            rows.append(mix % size + offset)
            is_open.append(0.0 if closed else 1.0)
            offset += size
    coming = frame.coming.pop(module.layer, None)
    found = module.table(torch.tensor(rows)) if coming is None else module.table.arrived(coming)[0, 0]
    read_RD = found.to(x_NW.dtype)
    if closed:
        read_RD = read_RD * torch.tensor(is_open, dtype=x_NW.dtype)[:, None]
    read_1M = read_RD.reshape(1, -1)
    lanes, width = module.conv_norm.shape
    key_NW = linear(read_1M, module.key.view(lanes * width, -1)).view(lanes, width)
    value_1W = linear(read_1M, module.value.weight)
    key_NW = F.rms_norm(key_NW, (width,), None, module.eps) * module.key_norm
    lane_NW = F.rms_norm(x_NW, (width,), None, module.eps) * module.lane_norm
    agree_N1 = (key_NW * lane_NW).sum(-1, keepdim=True) * (1 / math.sqrt(width))
    gate_N1 = torch.sigmoid(torch.sign(agree_N1) * agree_N1.abs().clamp_min(1e-6).sqrt())
    gated_NW = gate_N1 * value_1W if memory[0] != DEAD else torch.zeros_like(x_NW)
    normed_NW = F.rms_norm(gated_NW, (width,), None, module.eps) * module.conv_norm
    assert frame.cache is not None
    long = frame.cache.append_tail(module.layer, normed_NW[None, None])
    if memory[0] == DEAD:
        return gated_NW
    return gated_NW + F.silu((long[0, :: part.max_order] * module.conv).sum(0))
