"""The joint picture and clip head: a pixel-space Wan transformer that predicts the clean frames.

B batch, F frames (a picture is a clip of one), H and W pixels, S condition tokens, C condition width.
Sources: JiT (arXiv 2511.13720) for predicting the clean picture in pixels; Wan (arXiv 2503.20314) for the network;
coordinate channels: CoordConv (arXiv 1807.03247).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .closed import from_closed_dict, require_positive
from .connector import Condition, HeadConnector, HeadConnectorConfig
from .wan import WanParts, WanShape, run_one_block, run_wan

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointHeadConfig:
    """Sizes of head and connector; `max_side` and `max_frames` bound what may be asked of one pass."""

    heads: int = 6
    head_dim: int = 64
    layers: int = 7
    ffn_dim: int = 768
    freq_dim: int = 256
    patch: int = 8
    max_frames: int = 48
    max_side: int = 1024
    connector: HeadConnectorConfig = HeadConnectorConfig()

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "connector"}
        require_positive("JointHeadConfig", **numbers)
        if self.head_dim % 2 or self.head_dim < 12:
            raise ValueError(f"head_dim must be even and at least 12 (three axes share it), got {self.head_dim}")
        if self.freq_dim % 2:
            raise ValueError(f"freq_dim must be even, got {self.freq_dim}")
        if self.max_side % self.patch:
            raise ValueError(f"max_side {self.max_side} must be a multiple of the patch {self.patch}")

    @property
    def wan(self) -> WanShape:
        """The Wan transformer's sizes: RGB and three ramps in, RGB out."""
        return WanShape(
            num_attention_heads=self.heads,
            attention_head_dim=self.head_dim,
            num_layers=self.layers,
            ffn_dim=self.ffn_dim,
            freq_dim=self.freq_dim,
            text_dim=self.connector.cond_dim,
            patch_size=self.patch,
            in_channels=6,
            out_channels=3,
            rope_max_seq_len=max(self.max_frames, self.max_side // self.patch),
        )

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JointHeadConfig:
        """Rebuild a config; an unknown key raises ValueError that names the nearest known one."""
        data = dict(data)
        if isinstance(data.get("connector"), dict):
            data["connector"] = from_closed_dict(HeadConnectorConfig, data["connector"])
        return from_closed_dict(cls, data)

    @classmethod
    def nano(cls, tap_dim: int = 384) -> JointHeadConfig:
        """The shipped size: see the function of this name."""
        return nano(tap_dim)

    @classmethod
    def micro(cls, tap_dim: int = 16) -> JointHeadConfig:
        """A size for tests: see the function of this name."""
        return micro(tap_dim)


def nano(tap_dim: int = 384) -> JointHeadConfig:
    """The shipped size: 15.9 million parameters with the connector."""
    return JointHeadConfig(connector=HeadConnectorConfig(tap_dim=tap_dim))


def micro(tap_dim: int = 16) -> JointHeadConfig:
    """A size for tests: under 0.2 million parameters."""
    return JointHeadConfig(
        heads=2,
        head_dim=24,
        layers=2,
        ffn_dim=96,
        freq_dim=32,
        connector=HeadConnectorConfig(tap_dim=tap_dim, cond_dim=32, queries=4, layers=1, heads=2, ffn_dim=32),
    )


class JointHead(nn.Module):
    """Connector and Wan transformer in one module; `wan` may also be a diffusers `WanTransformer3DModel`."""

    def __init__(
        self, config: JointHeadConfig, *, connector: HeadConnector | None = None, wan: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.connector = HeadConnector(config.connector) if connector is None else connector
        self.wan = _fresh_wan(config.wan) if wan is None else wan
        self._run_block: Callable[..., Tensor] | None = None

    def forward(
        self,
        noisy_B3FHW: Tensor,
        sigma_B: Tensor,
        cond_BSC: Tensor,
        cond_mask_BS: Tensor,
        clean_first: bool | Tensor = False,
    ) -> Tensor:
        """Predict the clean frames of `noisy_B3FHW` ([B,3,H,W] works too: a picture) at noise level sigma in 0..1.

        `clean_first` (one bool, or a bool tensor [B]) says that frame 0 holds no noise: its level is 0.
        Raises ValueError for sides that are no multiple of the patch, or beyond the configured limits.
        """
        if noisy_B3FHW.ndim == 4:
            return self.forward(noisy_B3FHW[:, :, None], sigma_B, cond_BSC, cond_mask_BS, clean_first)[:, :, 0]
        self._check(noisy_B3FHW)
        frames = noisy_B3FHW.shape[2]
        sigma_BA = sigma_B[:, None]
        if clean_first is not False:
            if frames < 2:
                raise ValueError("clean_first needs a clip of two frames or more; a picture has nothing behind frame 0")
            sigma_BA = _first_frame_clean(sigma_B, clean_first, frames)
        x_B6FHW = torch.cat([noisy_B3FHW, coordinate_ramps(noisy_B3FHW)], dim=1)
        return run_wan(self.wan, self.config.wan, x_B6FHW, sigma_BA, cond_BSC, cond_mask_BS, self._run_block)

    def condition(self, taps: tuple[Tensor, ...], mask_BT: Tensor, drop_B: Tensor | None = None) -> Condition:
        """The connector's output for the core's taps: see `HeadConnector.forward`."""
        return self.connector(taps, mask_BT, drop_B)

    def half_precision(self, dtype: torch.dtype = torch.bfloat16) -> JointHead:
        """Store the blocks' matrices in `dtype`, for sampling; time, norms and the residual stream stay float32."""
        blocks: Any = self.wan.blocks
        for block in blocks:
            for part in (block.attn1, block.attn2, block.ffn):
                for layer in part.modules():
                    if isinstance(layer, nn.Linear):
                        layer.to(dtype)
        return self

    def compile_blocks(self) -> None:
        """Compile the blocks for fixed shapes, for training on an accelerator: all of them share one code."""
        self._run_block = torch.compile(run_one_block, dynamic=False)

    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.parameters())

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into `folder` (made if missing)."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}
        save_file(weights, folder / _WEIGHTS)
        (folder / _CONFIG).write_text(json.dumps(self.config.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> JointHead:
        """Read what `save` wrote; weights come as they were stored. Raises FileNotFoundError naming what is missing."""
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in (_CONFIG, _WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"no {name} in '{folder}': is this a folder that JointHead.save wrote?")
        config = JointHeadConfig.from_dict(json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
        with torch.device("meta"):
            head = cls(config)
        head.load_state_dict(load_file(folder / _WEIGHTS, device=str(device)), assign=True)
        return head.eval()

    def _check(self, noisy_B3FHW: Tensor) -> None:
        if noisy_B3FHW.ndim != 5 or noisy_B3FHW.shape[1] != 3:
            raise ValueError(f"frames must have shape [B,3,F,H,W], got {tuple(noisy_B3FHW.shape)}")
        check_size(self.config, *noisy_B3FHW.shape[2:])


def check_size(config: JointHeadConfig, frames: int, height: int, width: int) -> None:
    """Raise ValueError, saying what is allowed, when the head cannot make frames of this number and size."""
    patch = config.patch
    if not 1 <= frames <= config.max_frames:
        raise ValueError(f"{frames} frames asked; this head makes 1 to {config.max_frames} in one pass")
    for name, side in (("height", height), ("width", width)):
        if side % patch or not patch <= side <= config.max_side:
            near = min(max(round(side / patch), 1) * patch, config.max_side)
            raise ValueError(f"{name} {side} must be a multiple of {patch} up to {config.max_side}; nearest: {near}")


def coordinate_ramps(like_B3FHW: Tensor) -> Tensor:
    """Three channels [B,3,F,H,W] that run from -1 to 1 along t, y and x; t is 0 for a single frame."""
    batch, _, frames, height, width = like_B3FHW.shape
    ramps = []
    for axis, count in enumerate((frames, height, width)):
        if count == 1:
            line = torch.zeros(1, device=like_B3FHW.device)
        else:
            line = torch.arange(count, device=like_B3FHW.device) * (2.0 / (count - 1)) - 1.0
        place = [1, 1, 1]
        place[axis] = count
        ramps.append(line.to(like_B3FHW.dtype).view(place).expand(frames, height, width))
    return torch.stack(ramps).expand(batch, -1, -1, -1, -1)


def _first_frame_clean(sigma_B: Tensor, clean_first: bool | Tensor, frames: int) -> Tensor:
    """Noise levels [B,F]: 0 on frame 0 of the rows in `clean_first`, sigma elsewhere."""
    behind_F = (torch.arange(frames, device=sigma_B.device) > 0).to(sigma_B.dtype)
    if clean_first is True:
        return sigma_B[:, None] * behind_F
    kept_B1 = clean_first.to(sigma_B.dtype)[:, None]
    return sigma_B[:, None] * (1 - kept_B1 * (1 - behind_F))


def _fresh_wan(shape: WanShape) -> WanParts:
    wan = WanParts(shape)
    # The first prediction is then mid-grey everywhere, whatever the noise: training starts from a calm place.
    nn.init.zeros_(wan.proj_out.weight)
    nn.init.zeros_(wan.proj_out.bias)
    return wan
