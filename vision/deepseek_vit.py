"""DeepSeek-ViT, the second eyes: any grid of patches, one token for 42 x 42 pixels, no modes and no tiles.

N pictures, H rows and W columns of tokens, D core width, P width of the trunk, V tokens of a whole picture.
Sources: DeepSeek-V4.1-Flash (arXiv 2609.19969), names in its checkpoint (`vision.*`, `aligner.*`), timm for the rest.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from .codes import codes_of, with_neighbours
from .released import check_fit, weight_files
from .views import pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

PATCH = 14
TOKEN = 3 * PATCH  # pixels a side of what becomes one token: patches are joined three by three
MOST_TOKENS = 1024  # of one picture: about 1344 x 1344 pixels


def token_grid(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of tokens for a picture of this size: its own shape, as fine as it is, within MOST_TOKENS.

    Raises ValueError for a picture without pixels.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture has at least one pixel a side, got {width} x {height}")
    scale = min(1.0, math.sqrt(MOST_TOKENS * TOKEN**2 / (width * height)))
    columns, rows = (max(1, round(side * scale / TOKEN)) for side in (width, height))
    # Rounding up, and the bound of one row below, can pass the limit by a few: the longer side gives way.
    if columns * rows > MOST_TOKENS:
        columns, rows = (MOST_TOKENS // rows, rows) if columns >= rows else (columns, MOST_TOKENS // columns)
    return columns, rows


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FreeViews:
    """A picture as DeepSeek-ViT takes it: one view of its own shape; values in -1..1."""

    size: tuple[int, int]
    whole_13HW: Tensor

    @property
    def tokens(self) -> int:
        """Places in the language model's sequence: exactly what the encoder will return."""
        columns, rows = token_grid(*self.size)
        return columns * rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepSeekViTConfig:
    """Sizes of the trunk, and the core's width that it projects to."""

    width: int = 1024
    layers: int = 32
    heads: int = 16
    inner: int = 2816
    out_dim: int = 5120

    def __post_init__(self) -> None:
        if min(dataclasses.astuple(self)) < 1:
            raise ValueError(f"every size of DeepSeekViTConfig must be above zero, got {self}")
        if self.width % (4 * self.heads):
            raise ValueError(f"a width of {self.width} does not divide into {self.heads} heads of a multiple of four")


class DeepSeekViT(nn.Module):
    """Pictures to vectors in the core's width, behind the same calls as `DeepEncoder`."""

    def __init__(self, config: DeepSeekViTConfig) -> None:
        super().__init__()
        import timm

        self.config = config
        self.trunk: Any = timm.create_model(
            "deepseek_vit_412m_enc",
            pretrained=False,
            embed_dim=config.width,
            depth=config.layers,
            num_heads=config.heads,
            # timm takes the whole part of the product: half a row more keeps it from falling one short
            mlp_ratio=(config.inner + 0.5) / config.width,
            out_features=config.out_dim,
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, dtype: torch.dtype | None = None) -> Self:
        """The eyes of a folder in the layout of DeepSeek-V4.1 or of timm, ready for use; nothing else of it is read.

        `dtype` None keeps the file's. Raises ValueError for what is missing, broken, unknown or of a wrong shape.
        """
        tensors = _read(folder, dtype)
        config = _config_of(tensors)
        with torch.device("meta"):
            encoder = cls(config)
        from timm.models.deepseek_vit import checkpoint_filter_fn_encoder

        mapped = checkpoint_filter_fn_encoder(tensors, encoder.trunk)
        wanted = {name: tuple(value.shape) for name, value in encoder.trunk.state_dict().items()}
        check_fit(wanted, {name: tuple(value.shape) for name, value in mapped.items()})
        encoder.trunk.load_state_dict(mapped, assign=True)
        encoder.trunk.rope.to_empty(device="cpu")  # its frequencies are computed, and no part of the weights
        encoder.trunk.rope.reset_parameters()
        return encoder.eval()

    def prepare(self, picture: Image) -> FreeViews:
        """Scale `picture` (RGB, from `open_picture`) to whole tokens. Raises ValueError when it is not RGB."""
        from PIL import Image as pil

        if picture.mode != "RGB":
            raise ValueError(f"the picture must be RGB, got {picture.mode}; open it with vision.open_picture")
        columns, rows = token_grid(*picture.size)
        scaled = picture.resize((columns * TOKEN, rows * TOKEN), pil.Resampling.BICUBIC)
        return FreeViews(size=picture.size, whole_13HW=pixels_of(scaled)[None])

    def forward(self, views: FreeViews) -> Tensor:
        """All tokens of one prepared picture, [V, D] with V = `views.tokens`, row by row."""
        return self.sequence(views.whole_13HW.to(self.trunk.norm.weight.device))[0]

    def codes(self, views: FreeViews, features_VD: Tensor, *, bits: int, count: int) -> Tensor:
        """For every token that `forward` gave, its code and those of `count` - 1 tokens around it, [V, O]."""
        columns, rows = token_grid(*views.size)
        codes_HW = codes_of(features_VD.unflatten(0, (rows, columns)), bits=bits)
        return with_neighbours(codes_HW, count=count, outside=2**bits).flatten(0, 1)

    def sequence(self, pixels_N3HW: Tensor) -> Tensor:
        """Pictures of one size as the language model reads them, [N, H*W, D]."""
        return self.trunk.aligner(self._patches(pixels_N3HW))

    def grid(self, pixels_N3HW: Tensor) -> Tensor:
        """The same on their grid, [N, H, W, D]; pixels in -1..1, sides in steps of 42. ValueError for others."""
        rows = pixels_N3HW.shape[2] // TOKEN
        return self.sequence(pixels_N3HW).unflatten(1, (rows, -1))

    def features(self, pixels_N3HW: Tensor) -> Tensor:
        """What the projector reads, [N, H*W, 9P]: an embedding of every token that knows no language model."""
        return self.trunk.aligner.unshuffle(self._patches(pixels_N3HW))

    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.parameters())

    def _patches(self, pixels_N3HW: Tensor) -> Tensor:
        shape = tuple(pixels_N3HW.shape)
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < 1 or shape[2] % TOKEN or shape[3] % TOKEN:
            raise ValueError(f"pixels must have shape [N, 3, H, W] with sides in steps of {TOKEN}, got {list(shape)}")
        return self.trunk.forward_features(pixels_N3HW.to(self.trunk.norm.weight.dtype))


def _read(folder: str | Path, dtype: torch.dtype | None) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                released = any(name.startswith("vision.") for name in names)
                ours = ("vision.", "aligner.") if released else ("patch_embed.", "blocks.", "norm.", "aligner.")
                for name in names:
                    if name.startswith(ours):
                        value = file.get_tensor(name)
                        found[name] = value if dtype is None else value.to(dtype)
        except SafetensorError as error:
            raise ValueError(f"'{path}' is not a safetensors file that can be read: {error}") from error
    return found


def _config_of(tensors: dict[str, Tensor]) -> DeepSeekViTConfig:
    shapes = {name.removeprefix("vision."): tuple(value.shape) for name, value in tensors.items()}
    try:
        width = shapes["patch_embed.proj.weight"][0]
        first = shapes.get("blocks.0.mlp.w1.weight") or shapes["blocks.0.mlp.fc1.weight"]
        out = shapes.get("aligner.w2.weight") or shapes["aligner.fc2.weight"]
    except KeyError as error:
        raise ValueError(f"these are not the eyes of DeepSeek-V4.1: {error} is missing") from error
    layers = max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")) + 1
    heads = max(1, width // 64)  # the family's heads are 64 wide
    return DeepSeekViTConfig(width=width, layers=layers, heads=heads, inner=first[0] // 2, out_dim=out[0])
