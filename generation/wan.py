"""The Wan video transformer, light to import: same parameter names and numbers as diffusers' WanTransformer3DModel.

B batch, F frames, P patches a frame, N = F*P tokens, D width, S condition tokens, C condition width, H heads, E head
width, A = 1 or F noise levels a clip. `run_wan` reads a module by its attribute names, so a diffusers
`WanTransformer3DModel` can stand in for `WanParts`; it adds what that class has no place for: a mask over the
condition's tokens, one noise level a frame without a copy for every token, and clips of other lengths than 16 frames
stretched over the same time.
Source: Wan (arXiv 2503.20314); layer layout as in diffusers 0.42 `transformer_wan`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6
_PIECE = 128  # rows
LEARNT_FRAMES = 16  # of a clip in training; fewer stand further apart in time, more stand closer together


@dataclasses.dataclass(frozen=True, kw_only=True)
class WanShape:
    """Sizes of one Wan transformer; the names are those of diffusers' config where both have them."""

    num_attention_heads: int
    attention_head_dim: int
    num_layers: int
    ffn_dim: int
    freq_dim: int
    text_dim: int
    patch_size: int
    in_channels: int
    out_channels: int
    rope_max_seq_len: int

    @property
    def width(self) -> int:
        """The residual stream's width D."""
        return self.num_attention_heads * self.attention_head_dim


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q = nn.RMSNorm(width, eps=_EPS)
        self.norm_k = nn.RMSNorm(width, eps=_EPS)


class _Projection(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        # Place 1 is dropout in diffusers; it stays so that the last layer keeps the name net.2.
        self.net = nn.ModuleList([_Projection(width, inner), nn.Identity(), nn.Linear(inner, width)])


class _TwoLayers(nn.Module):
    def __init__(self, enter: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(enter, width)
        self.linear_2 = nn.Linear(width, width)


class _ConditionEmbedder(nn.Module):
    def __init__(self, shape: WanShape) -> None:
        super().__init__()
        self.time_embedder = _TwoLayers(shape.freq_dim, shape.width)
        self.time_proj = nn.Linear(shape.width, 6 * shape.width)
        self.text_embedder = _TwoLayers(shape.text_dim, shape.width)


class _Block(nn.Module):
    def __init__(self, shape: WanShape) -> None:
        super().__init__()
        width = shape.width
        self.attn1 = _Attention(width)
        self.attn2 = _Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.ffn = _FeedForward(width, shape.ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)


class WanParts(nn.Module):
    """The parameters of a Wan transformer under diffusers' names; `run_wan` computes with them."""

    def __init__(self, shape: WanShape) -> None:
        super().__init__()
        patch = (1, shape.patch_size, shape.patch_size)
        self.patch_embedding = nn.Conv3d(shape.in_channels, shape.width, kernel_size=patch, stride=patch)
        self.condition_embedder = _ConditionEmbedder(shape)
        self.blocks = nn.ModuleList([_Block(shape) for _ in range(shape.num_layers)])
        self.proj_out = nn.Linear(shape.width, shape.out_channels * shape.patch_size**2)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, shape.width) / shape.width**0.5)


def run_wan(
    wan: nn.Module,
    shape: WanShape,
    x_BIFHW: Tensor,
    sigma_BA: Tensor,
    cond_BSC: Tensor,
    mask_BS: Tensor,
    run_block: Callable[..., Tensor] | None = None,
) -> Tensor:
    """One pass: input [B,I,F,H,W], noise levels [B,A] in 0..1, condition and its mask -> output [B,O,F,H,W].

    `run_block` may be a compiled form of this module's own.
    """
    run = run_block or run_one_block
    embed, blocks = wan.condition_embedder, cast(Any, wan.blocks)
    tokens_BND, frames, rows, columns = _patches(wan, shape, x_BIFHW)
    temb_BAD = _two_layers(embed.time_embedder, _sinusoids(sigma_BA * 1000.0, shape.freq_dim), F.silu)
    time_BA6D = _linear(embed.time_proj, F.silu(temb_BAD)).float().unflatten(-1, (6, -1))
    cond_BSD = _two_layers(embed.text_embedder, cond_BSC, lambda x: F.gelu(x, approximate="tanh"))
    turn = rotary_table(shape, frames, rows, columns, tokens_BND.device)
    mask_B11S = mask_BS[:, None, None]
    stream_BFPD = tokens_BND.unflatten(1, (frames, rows * columns))
    for block in blocks:
        stream_BFPD = run(block, shape, stream_BFPD, time_BA6D, cond_BSD, mask_B11S, turn)
    shift, scale = (wan.scale_shift_table.float() + temb_BAD.float()[:, :, None]).chunk(2, dim=2)
    out_BFPO = _linear(wan.proj_out, _modulate(stream_BFPD, scale, shift))
    return _pixels(out_BFPO, shape, rows, columns)


def rotary_table(shape: WanShape, frames: int, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N,1,E/2] of the 3-D positions: a share of each head for time, the rest for y and x.

    Clips of any length share the time of LEARNT_FRAMES, as the ramp of time in the input does: position interpolation
    (arXiv 2306.15595). With one step a frame, names are lost at 8 frames as at 48 (docs/log.md).
    """
    side = 2 * (shape.attention_head_dim // 6)
    parts = []
    grid = (frames, rows, columns)
    for axis, (count, width) in enumerate(zip(grid, (shape.attention_head_dim - 2 * side, side, side), strict=True)):
        half = torch.arange(0, width, 2, device=device, dtype=torch.float64)
        rate_E = 1.0 / (10000.0 ** (half / width))
        place_C = torch.arange(count, device=device, dtype=torch.float64)
        if axis == 0 and count > 1:
            place_C *= (LEARNT_FRAMES - 1) / (count - 1)
        angle = place_C[:, None] * rate_E
        place = [1, 1, 1, -1]
        place[axis] = count
        parts.append(angle.view(place).expand(*grid, -1))
    angle_N1E = torch.cat(parts, dim=-1).reshape(frames * rows * columns, 1, -1)
    return angle_N1E.cos().float(), angle_N1E.sin().float()


def run_one_block(
    block: nn.Module,
    shape: WanShape,
    stream_BFPD: Tensor,
    time_BA6D: Tensor,
    cond_BSD: Tensor,
    mask_B11S: Tensor,
    turn: tuple[Tensor, Tensor],
) -> Tensor:
    """Self-attention, a look at the condition, and the feed-forward part of one block."""
    heads = shape.num_attention_heads
    shift, scale, gate, shift_f, scale_f, gate_f = (block.scale_shift_table.float() + time_BA6D).chunk(6, dim=2)
    normed_BND = _modulate(stream_BFPD, scale, shift).flatten(1, 2)
    seen_BND = _attend(block.attn1, normed_BND, normed_BND, heads, None, turn)
    stream_BFPD = torch.addcmul(stream_BFPD, seen_BND.view_as(stream_BFPD).to(stream_BFPD.dtype), gate)
    normed_BND = _layer_norm(stream_BFPD, block.norm2.weight, block.norm2.bias).flatten(1, 2)
    told_BND = _attend(block.attn2, normed_BND, cond_BSD, heads, mask_B11S, None)
    stream_BFPD = stream_BFPD + told_BND.view_as(stream_BFPD)
    hidden = F.gelu(_linear(block.ffn.net[0].proj, _modulate(stream_BFPD, scale_f, shift_f)), approximate="tanh")
    return torch.addcmul(stream_BFPD, _in_pieces(block.ffn.net[2], hidden).to(stream_BFPD.dtype), gate_f)


def _attend(
    attention: nn.Module,
    x_BND: Tensor,
    source_BSD: Tensor,
    heads: int,
    mask_B11S: Tensor | None,
    turn: tuple[Tensor, Tensor] | None,
) -> Tensor:
    q_BND = _rms_norm(attention.norm_q, _linear(attention.to_q, x_BND))
    k_BSD = _rms_norm(attention.norm_k, _linear(attention.to_k, source_BSD))
    v_BSHE = _linear(attention.to_v, source_BSD).unflatten(-1, (heads, -1))
    q_BNHE, k_BSHE = q_BND.unflatten(-1, (heads, -1)), k_BSD.unflatten(-1, (heads, -1))
    if turn is not None:
        q_BNHE, k_BSHE = _rotate(q_BNHE, *turn), _rotate(k_BSHE, *turn)
    q_BHNE, k_BHSE, v_BHSE = (x.to(v_BSHE.dtype).transpose(1, 2) for x in (q_BNHE, k_BSHE, v_BSHE))
    seen_BHNE = F.scaled_dot_product_attention(q_BHNE, k_BHSE, v_BHSE, attn_mask=mask_B11S)
    return _linear(attention.to_out[0], seen_BHNE.transpose(1, 2).flatten(2))


def _rotate(x_BNHE: Tensor, cos_N1E: Tensor, sin_N1E: Tensor) -> Tensor:
    """Turn neighbouring pairs, as Wan stores them; in float32 and without writing in place, so that it compiles."""
    first, second = x_BNHE.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cos_N1E - second * sin_N1E, first * sin_N1E + second * cos_N1E], dim=-1)
    return turned.flatten(-2)


def _modulate(stream_BFPD: Tensor, scale_BA1D: Tensor, shift_BA1D: Tensor) -> Tensor:
    return torch.addcmul(shift_BA1D, _layer_norm(stream_BFPD, None, None), 1 + scale_BA1D)


def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    weight, bias = (None if p is None else p.float() for p in (weight, bias))
    return F.layer_norm(x.float(), (x.shape[-1],), weight, bias, _EPS)


def _rms_norm(norm: nn.Module, x: Tensor) -> Tensor:
    # In float32 throughout: a bfloat16 input with a float32 weight falls back to a slow path, and rotation wants it.
    return F.rms_norm(x.float(), (x.shape[-1],), norm.weight.float(), norm.eps)


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply `layer` in its own number format: weights may be bfloat16 while the stream stays float32."""
    if x.dtype != layer.weight.dtype and not torch.is_autocast_enabled(x.device.type):
        x = x.to(layer.weight.dtype)
    return layer(x)


def _in_pieces(layer: nn.Module, x_BFPD: Tensor) -> Tensor:
    """`_linear` with as many rows at a time as one guided picture of 64 pixels has.

    Processors with tiles cut sums as long as this layer's by the number of rows: a picture would come out with other
    bits beside others than alone.
    """
    if x_BFPD.device.type != "cpu" or torch.is_grad_enabled():
        return _linear(layer, x_BFPD)
    pieces = [_linear(layer, rows) for rows in x_BFPD.flatten(0, -2).split(_PIECE)]
    return torch.cat(pieces).unflatten(0, x_BFPD.shape[:-1])


def _two_layers(pair: nn.Module, x: Tensor, bend) -> Tensor:  # noqa: ANN001 - any pointwise function
    return _linear(pair.linear_2, bend(_linear(pair.linear_1, x)))


def _sinusoids(step_BA: Tensor, width: int) -> Tensor:
    """Cosines then sines of the step number at `width`/2 rates, [B,A,width] float32."""
    half = width // 2
    rate = torch.exp(-math.log(10000.0) * torch.arange(half, device=step_BA.device, dtype=torch.float32) / half)
    angle = step_BA.float()[..., None] * rate
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _patches(wan: nn.Module, shape: WanShape, x_BIFHW: Tensor) -> tuple[Tensor, int, int, int]:
    """Cut into patches and project; a matrix product, since a stride-8 convolution in 3-D is slow everywhere."""
    batch, channels, frames, height, width = x_BIFHW.shape
    p = shape.patch_size
    rows, columns = height // p, width // p
    cut = x_BIFHW.reshape(batch, channels, frames, rows, p, columns, p).permute(0, 2, 3, 5, 1, 4, 6)
    conv = wan.patch_embedding
    flat_BNI = cut.reshape(batch, frames * rows * columns, channels * p * p).to(conv.weight.dtype)
    tokens_BND = F.linear(flat_BNI, conv.weight.flatten(1), conv.bias)
    return tokens_BND.float(), frames, rows, columns


def _pixels(out_BFPO: Tensor, shape: WanShape, rows: int, columns: int) -> Tensor:
    """Put the patches' values back where they belong, [B,O,F,H,W] float32."""
    batch, frames = out_BFPO.shape[:2]
    p, channels = shape.patch_size, shape.out_channels
    cut = out_BFPO.float().reshape(batch, frames, rows, columns, p, p, channels).permute(0, 6, 1, 2, 4, 3, 5)
    return cut.reshape(batch, channels, frames, rows * p, columns * p)
