"""The first trunk: timm's SAM-ViT, with its relative positions folded into queries and keys.

B batch (of windows), H rows, W columns, N = H*W places, C width, A heads, E head width.
Sources: SAM (arXiv 2304.02643); decomposed relative positions: MViTv2 (arXiv 2112.01526).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DeepEncoderConfig
from .quick_import import without_compiler

_EPS = 1e-6  # SAM's; timm's own default of 1e-5 would change released weights' features without a sound


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
        block.attn = FoldedAttention(block.attn)
    return sam


class FoldedAttention(nn.Module):
    """timm's SAM attention, same parameters and values, in one call that no bias matrix is made for.

    The bias of query n for key m is a number for m's row plus one for m's column. Both are written behind the query
    as coordinates, and behind the key as ones at its own row and column: the product then holds the bias, and
    attention keeps its flash form (a [N,N] bias for each head is what makes SAM heavy).
    """

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.num_heads = plain.num_heads
        self.qkv, self.proj = plain.qkv, plain.proj
        self.rel_pos_h, self.rel_pos_w = plain.rel_pos_h, plain.rel_pos_w

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Attend over all H*W places of each of the B windows."""
        batch, rows, columns, width = x_BHWC.shape
        head = width // self.num_heads
        qkv = self.qkv(x_BHWC).view(batch, rows * columns, 3, self.num_heads, head)
        q_BANE, k_BANE, v_BANE = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q_BAHWE = q_BANE.unflatten(2, (rows, columns))
        by_row = torch.einsum("bahwe,hke->bahwk", q_BAHWE, relative_table(self.rel_pos_h, rows).to(q_BANE.dtype))
        by_column = torch.einsum("bahwe,wke->bahwk", q_BAHWE, relative_table(self.rel_pos_w, columns).to(q_BANE.dtype))
        # Attention will divide by sqrt(E), the bias must not be: it is multiplied beforehand.
        bias = torch.cat([by_row, by_column], dim=-1).flatten(2, 3) * head**0.5
        place = _own_place(rows, columns, x_BHWC.device).to(k_BANE.dtype).expand(batch, self.num_heads, -1, -1)
        q_wide, k_wide = torch.cat([q_BANE, bias.to(q_BANE.dtype)], dim=-1), torch.cat([k_BANE, place], dim=-1)
        v_wide = F.pad(v_BANE, (0, rows + columns))
        seen_BANE = F.scaled_dot_product_attention(q_wide, k_wide, v_wide, scale=head**-0.5)[..., :head]
        return self.proj(seen_BANE.transpose(1, 2).reshape(batch, rows, columns, width))


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
