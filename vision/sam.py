"""The first trunk: timm's SAM-ViT, with windows cut behind the projection and relative positions folded into the keys.

B batch (of windows), H rows, W columns, N = H*W places, C width, A heads, E head width, S side of a window.
Sources: SAM (arXiv 2304.02643); decomposed relative positions: MViTv2 (arXiv 2112.01526).
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DeepEncoderConfig
from .quick_import import without_compiler

_EPS = 1e-6  # SAM's; timm's own default of 1e-5 would change released weights' features without a sound
# Places that attend at once where no gradient is needed. More would only cost memory on a processor; a card would wait
# for launches otherwise (docs/gpu.md).
QUERIES = 1024
QUERIES_ON_CARD = 2**30
_IN_CACHE = 96  # queries of one head whose scores for all places stay in a core's own cache


def build_sam(config: DeepEncoderConfig) -> Any:
    """A timm `VisionTransformerSAM` without a head; `forward_features` maps [B,3,H,W] to [B,neck,H/16,W/16]."""
    with without_compiler():
        import timm

    sam: Any = timm.create_model(
        "samvit_base_patch16",
        pretrained=False,
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=_EPS),
        img_size=config.native,
        embed_dim=config.sam_width,
        depth=config.sam_layers,
        num_heads=config.sam_heads,
        global_attn_indexes=config.sam_global,
        window_size=config.sam_window,
        neck_chans=config.neck,
    )
    for block in sam.blocks:
        block.attn = FoldedAttention(block.attn, window=block.window_size)
        block.window_size = 0  # the block hands over the whole grid; its attention cuts the windows itself
    sam.patch_embed.norm = InOrder()
    return sam


class InOrder(nn.Module):
    """Channels next to each other in memory: a convolution leaves them apart, and every later sum would pay for it."""

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """The same values."""
        return x_BHWC.contiguous()


class FoldedAttention(nn.Module):
    """timm's SAM attention, same parameters and values, in calls that no bias matrix is made for.

    The bias of query n for key m is a number for m's row plus one for m's column. Both are written behind the query
    as coordinates, and behind the key as ones at its own row and column: the product then holds the bias, and
    attention keeps its flash form (a [N,N] bias for each head is what makes SAM heavy).

    With a `window`, places attend inside windows of that side. The windows are cut from queries, keys and values and
    not from the input: what fills up the last windows is then never projected.
    """

    def __init__(self, plain: Any, *, window: int = 0) -> None:
        super().__init__()
        self.num_heads, self.window = plain.num_heads, window
        self.qkv, self.proj = plain.qkv, plain.proj
        self.rel_pos_h, self.rel_pos_w = plain.rel_pos_h, plain.rel_pos_w

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Attend over the H*W places of each picture, all of them or those of one window."""
        rows, columns = x_BHWC.shape[1:3]
        qkv_BHWX = self.qkv(x_BHWC)
        if not self.window:
            return self.proj(self._attend(qkv_BHWX, _at_once(qkv_BHWX)))
        filled = _filled(qkv_BHWX, self.qkv.bias, self.window)
        down, across = filled.shape[1] // self.window, filled.shape[2] // self.window
        windows_BSSX = filled.unflatten(2, (across, -1)).unflatten(1, (down, -1)).transpose(2, 3).flatten(0, 2)
        seen_BSSC = torch.cat([self._attend(some, self.window**2) for some in self._groups(windows_BSSX)])
        seen = seen_BSSC.unflatten(0, (-1, down, across)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        # A view with gaps would be multiplied row by row, with a copy of the weights for each.
        return self.proj(seen[:, :rows, :columns].contiguous())

    def _groups(self, windows_BSSX: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            return (windows_BSSX,)
        return windows_BSSX.split(max(1, 2 * _at_once(windows_BSSX) // self.window**2))

    def _attend(self, qkv_BHWX: Tensor, queries: int) -> Tensor:
        batch, rows, columns, width = qkv_BHWX.shape
        head = width // (3 * self.num_heads)
        qkv = qkv_BHWX.view(batch, rows * columns, 3, self.num_heads, head)
        q_BANE, k_BANE, v_BANE = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if _head_by_head(q_BANE, queries):
            seen_BANE = self._in_cache(q_BANE, k_BANE, v_BANE, rows, columns)
            return seen_BANE.transpose(1, 2).reshape(batch, rows, columns, -1)
        place = _own_place(rows, columns, k_BANE.device).to(k_BANE.dtype).expand(batch, self.num_heads, -1, -1)
        k_wide = torch.cat([k_BANE, place], dim=-1)
        v_wide = F.pad(v_BANE, (0, rows + columns))
        # Attention will divide by sqrt(E), the bias must not be: it is multiplied beforehand.
        q_wide = torch.cat([q_BANE, self._bias(q_BANE, rows, columns) * head**0.5], dim=-1)
        step = rows * columns if torch.is_grad_enabled() else queries
        seen = [F.scaled_dot_product_attention(q, k_wide, v_wide, scale=head**-0.5) for q in q_wide.split(step, dim=2)]
        seen_BANE = torch.cat([part[..., :head] for part in seen], dim=2)
        return seen_BANE.transpose(1, 2).reshape(batch, rows, columns, -1)

    def _in_cache(self, q_BANE: Tensor, k_BANE: Tensor, v_BANE: Tensor, rows: int, columns: int) -> Tensor:
        """The same without folding, head by head, in blocks of scores that stay in the cache: about 0.6 the time."""
        bias = self._bias(q_BANE, rows, columns)
        seen_BANE = torch.empty_like(q_BANE)
        for batch, head in itertools.product(*map(range, q_BANE.shape[:2])):
            k_EN, v_NE = k_BANE[batch, head].T.contiguous(), v_BANE[batch, head].contiguous()
            scaled_NE = q_BANE[batch, head] * q_BANE.shape[-1] ** -0.5
            for start in range(0, rows * columns, _IN_CACHE):
                block = slice(start, start + _IN_CACHE)
                scores = scaled_NE[block] @ k_EN
                by_row, by_column = bias[batch, head, block].split([rows, columns], dim=-1)
                scores.view(-1, rows, columns).add_(by_row[:, :, None]).add_(by_column[:, None, :])
                seen_BANE[batch, head, block] = scores.softmax(-1) @ v_NE
        return seen_BANE

    def _bias(self, q_BANE: Tensor, rows: int, columns: int) -> Tensor:
        """What each query adds for every row and every column of keys, [B, A, N, H+W]."""
        q_BAHWE = q_BANE.unflatten(2, (rows, columns))
        by_row = torch.einsum("bahwe,hke->bahwk", q_BAHWE, relative_table(self.rel_pos_h, rows).to(q_BANE.dtype))
        by_column = torch.einsum("bahwe,wke->bahwk", q_BAHWE, relative_table(self.rel_pos_w, columns).to(q_BANE.dtype))
        return torch.cat([by_row, by_column], dim=-1).flatten(2, 3).to(q_BANE.dtype)


def _at_once(x: Tensor) -> int:
    return QUERIES if x.device.type == "cpu" else QUERIES_ON_CARD


def _head_by_head(q_BANE: Tensor, queries: int) -> bool:
    """Whether many places attend on a CPU in float32 without gradients: there folding costs more than it saves."""
    plain = q_BANE.device.type == "cpu" and q_BANE.dtype == torch.float32 and q_BANE.shape[2] > queries
    return plain and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _filled(qkv_BHWX: Tensor, bias_X: Tensor, side: int) -> Tensor:
    """Rows and columns added until windows of `side` fit; a place that is not in the picture projects to the bias."""
    batch, rows, columns, width = qkv_BHWX.shape
    below, right = -rows % side, -columns % side
    if not below and not right:
        return qkv_BHWX
    filled = bias_X.to(qkv_BHWX.dtype).expand(batch, rows + below, columns + right, width).clone()
    filled[:, :rows, :columns] = qkv_BHWX
    return filled


def relative_table(table_RE: Tensor, side: int) -> Tensor:
    """The vectors of the offsets q - k, [side, side, E]; a table made for another side is interpolated in float32."""
    length = 2 * side - 1
    if table_RE.shape[0] != length:
        wide = F.interpolate(table_RE.float().T[None], size=length, mode="linear")
        table_RE = wide[0].T.to(table_RE.dtype)
    line = torch.arange(side, device=table_RE.device)
    return table_RE[line[:, None] - line[None, :] + side - 1]


def _own_place(rows: int, columns: int, device: torch.device) -> Tensor:
    """For every place, ones at its row and at its column: [N, H+W]."""
    row = torch.eye(rows, device=device)[:, None].expand(rows, columns, rows)
    column = torch.eye(columns, device=device)[None].expand(rows, columns, columns)
    return torch.cat([row, column], dim=-1).flatten(0, 1)
