"""DeepEncoder: SAM for detail, a sixteenfold compression, CLIP for meaning, and one projection to the core's width.

N batch of views, S side in pixels, H rows and W columns of features, G = H*W, P width after compression, D core width,
V tokens of a whole picture. Source: DeepSeek-OCR (arXiv 2510.18234), section 3.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codes import NO_CODE, lines_of
from .config import DeepEncoderConfig
from .modes import STRIDE
from .quick_import import without_compiler
from .released import check_fit, read_eyes
from .sam import build_sam
from .views import Views


class ClipTrunk(nn.Module):
    """CLIP's vision transformer from its class token on: no patch convolution, no last norm, no projection."""

    def __init__(self, config: DeepEncoderConfig) -> None:
        super().__init__()
        with without_compiler():
            from open_clip.transformer import LayerNorm, QuickGELU, Transformer

        width, cells = config.clip_width, config.native // STRIDE
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(cells * cells + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, config.clip_layers, config.clip_heads, act_layer=QuickGELU)

    def forward(self, grid_NPHW: Tensor) -> Tensor:
        """Features [N, H*W, P] of a grid; the class token takes part and is left out of the result."""
        batch, _, rows, columns = grid_NPHW.shape
        tokens_NGP = grid_NPHW.flatten(2).transpose(1, 2)
        first = self.class_embedding.to(tokens_NGP.dtype).expand(batch, 1, -1)
        x = torch.cat([first, tokens_NGP], dim=1) + self.positions(rows, columns)
        return self.transformer(self.ln_pre(x))[:, 1:]

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position table for a grid of this size, [1 + H*W, P]: antialiased bicubic, in float32."""
        table = self.positional_embedding
        side = round((table.shape[0] - 1) ** 0.5)
        if (rows, columns) == (side, side):
            return table
        own = table[1:].float().T.reshape(1, -1, side, side)
        own = F.interpolate(own, size=(rows, columns), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([table[:1], own.flatten(2)[0].T.to(table.dtype)])


class DeepEncoder(nn.Module):
    """Pictures to vectors that stand at the picture's places in the language model's sequence.

    A fresh encoder gives vectors of length about one, as the newline and the separator are.
    """

    def __init__(self, config: DeepEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.sam: Any = build_sam(config)
        self.net_2 = nn.Conv2d(config.neck, config.middle, 3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(config.middle, config.clip_width, 3, stride=2, padding=1, bias=False)
        self.clip = ClipTrunk(config)
        self.projector = nn.Linear(2 * config.clip_width, config.out_dim)
        self.image_newline = nn.Parameter(torch.empty(config.out_dim))
        self.view_separator = nn.Parameter(torch.empty(config.out_dim))
        if not self.projector.weight.is_meta:
            _fresh(self)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, dtype: torch.dtype | None = None) -> Self:
        """The eyes of a folder in DeepSeek-OCR's layout, ready for use; its language part is not read.

        One file or shards of safetensors; `dtype` None keeps the file's. Raises ValueError for what is missing,
        broken, unknown or of a wrong shape.
        """
        config, tensors = read_eyes(folder, dtype=dtype)
        with torch.device("meta"):
            encoder = cls(config)
        wanted = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
        check_fit(wanted, {name: tuple(value.shape) for name, value in tensors.items()})
        encoder.load_state_dict(tensors, assign=True)
        return encoder.eval()

    def forward(self, views: Views) -> Tensor:
        """All tokens of one prepared picture, [V, D] with V = `views.tokens`: tiles, whole view, separator."""
        parts = []
        weight = self.projector.weight
        if views.tiles_N3SS is not None:
            columns, rows = views.grid
            tiles_NHWD = self.grid(views.tiles_N3SS.to(weight.device))
            joined = tiles_NHWD.unflatten(0, (rows, columns)).transpose(1, 2).flatten(0, 1).flatten(1, 2)
            parts.append(self._with_newlines(joined[None])[0])
        parts.append(self.sequence(views.whole_13SS.to(weight.device))[0])
        return torch.cat(parts)

    def sequence(self, pixels_N3SS: Tensor) -> Tensor:
        """Whole views of one size as the language model reads them, [N, H*(W+1)+1, D]; what `forward` ends with."""
        lines_NVD = self._with_newlines(self.grid(pixels_N3SS))
        last = self.view_separator.to(lines_NVD.dtype).expand(lines_NVD.shape[0], 1, -1)
        return torch.cat([lines_NVD, last], dim=1)

    encode = sequence

    def codes(self, views: Views, features_VD: Tensor, *, bits: int, count: int) -> Tensor:
        """For every token that `forward` gave, its cell's code and those of `count` - 1 cells around it, [V, O].

        Cells of neighbouring tiles are neighbours. -1 at newlines and the separator, 2 ** bits beyond the edges.
        """
        columns, rows = views.grid
        across, down = columns * views.mode.tile // STRIDE, rows * views.mode.tile // STRIDE
        tiled, cells = down * (across + 1), views.mode.cells
        found = [lines_of(features_VD[:tiled], down, across, bits=bits, count=count)] if tiled else []
        found.append(lines_of(features_VD[tiled:-1], cells, cells, bits=bits, count=count))
        return torch.cat([*found, found[-1].new_full((1, count), NO_CODE)])

    def grid(self, pixels_N3SS: Tensor) -> Tensor:
        """Features of views of one size on their grid, [N, H, W, D]; pixels in -1..1.

        Raises ValueError when the pixels are not [N, 3, H, W] with sides that are multiples of 64.
        """
        shape = tuple(pixels_N3SS.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] % STRIDE or shape[3] % STRIDE:
            raise ValueError(f"pixels must have shape [N, 3, H, W] with sides in steps of {STRIDE}, got {list(shape)}")
        rows, columns = shape[2] // STRIDE, shape[3] // STRIDE
        return self.projector(self.features(pixels_N3SS)).unflatten(1, (rows, columns))

    def features(self, pixels_N3SS: Tensor) -> Tensor:
        """What the projector reads, [N, H*W, 2P]: an embedding of every cell that knows no language model."""
        detail_NPHW = self.compress(pixels_N3SS)
        detail_NGP = detail_NPHW.flatten(2).transpose(1, 2)
        # CLIP first, SAM second: the projector of released weights was trained on this order.
        return torch.cat([self.clip(detail_NPHW), detail_NGP], dim=-1)

    def compress(self, pixels_N3SS: Tensor) -> Tensor:
        """SAM and the two convolutions, [N, P, S/64, S/64]."""
        return self.net_3(self.net_2(self.sam.forward_features(pixels_N3SS.to(self.net_2.weight.dtype))))

    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.parameters())

    def _with_newlines(self, grid_NHWD: Tensor) -> Tensor:
        batch, rows = grid_NHWD.shape[:2]
        newline = self.image_newline.to(grid_NHWD.dtype).expand(batch, rows, 1, -1)
        return torch.cat([grid_NHWD, newline], dim=2).flatten(1, 2)


@torch.no_grad()
def _fresh(encoder: DeepEncoder) -> None:
    """Starting weights: variance kept between layers, residual branches small, vectors of length one at the end."""
    config = encoder.config
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in encoder.sam.blocks:
        for table in (block.attn.rel_pos_h, block.attn.rel_pos_w):
            nn.init.normal_(table, std=0.02)
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.weight *= (2 * config.sam_layers) ** -0.5
    for block in encoder.clip.transformer.resblocks:
        for layer in (block.attn.out_proj, block.mlp.c_proj):
            layer.weight *= (2 * config.clip_layers) ** -0.5
    nn.init.normal_(encoder.sam.pos_embed, std=0.02)
    nn.init.normal_(encoder.clip.class_embedding, std=config.clip_width**-0.5)
    nn.init.normal_(encoder.clip.positional_embedding, std=0.02)
    nn.init.normal_(encoder.projector.weight, std=(2 * config.clip_width * config.out_dim) ** -0.5)
    for vector in (encoder.image_newline, encoder.view_separator):
        nn.init.normal_(vector, std=config.out_dim**-0.5)
