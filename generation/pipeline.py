"""The head as a diffusers pipeline: save_pretrained, from_pretrained, callback_on_step_end and interrupt work as usual.

B rows, T prompt tokens, F frames, H and W pixels. Every step shows the frames as far as known, since the network
predicts them. Source of the calling habits: diffusers' `DiffusionPipeline`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from safetensors.torch import load_file
from torch import Tensor

from .connector import Condition, HeadConnector, HeadConnectorConfig
from .flow import checked_first, guided_condition, keep_first, predict, start_noise
from .head import JointHead, JointHeadConfig, check_size

_CONFIG, _WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_CALLBACK_TENSORS = ("latents", "preview")


@dataclasses.dataclass
class HeadOutput(BaseOutput):
    """Frames: tensor [B,3,F,H,W] in -1..1 ("pt"), array [B,F,H,W,3] in 0..1 ("np"), a list of images a row ("pil")."""

    frames: Any


class HeadConnectorModel(ModelMixin, ConfigMixin):
    """The connector with diffusers' way of saving itself."""

    @register_to_config
    def __init__(
        self, tap_dim: int, cond_dim: int, taps: int, queries: int, layers: int, heads: int, ffn_dim: int
    ) -> None:
        super().__init__()
        given = {field.name: self.config[field.name] for field in dataclasses.fields(HeadConnectorConfig)}
        self.inner = HeadConnector(HeadConnectorConfig(**given))


class HeadPipeline(DiffusionPipeline):
    """Makes pictures and clips from the language core's tapped states; `from_head` builds one from a `JointHead`."""

    model_cpu_offload_seq = "connector->transformer"
    _callback_tensor_inputs = list(_CALLBACK_TENSORS)

    def __init__(
        self,
        connector: HeadConnectorModel,
        transformer: WanTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        max_frames: int = 48,
        max_side: int = 1024,
    ) -> None:
        super().__init__()
        self.register_modules(connector=connector, transformer=transformer, scheduler=scheduler)
        self.register_to_config(max_frames=max_frames, max_side=max_side)
        self._interrupt = False

    @classmethod
    def from_head(cls, head: JointHead) -> HeadPipeline:
        """A pipeline with a copy of the head's weights, in float32."""
        config = head.config
        connector = HeadConnectorModel(**dataclasses.asdict(config.connector))
        connector.inner.load_state_dict(head.connector.state_dict())
        transformer = WanTransformer3DModel(**_wan_arguments(config))
        transformer.load_state_dict(head.wan.state_dict())
        scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        made = cls(connector.eval(), transformer.eval(), scheduler, config.max_frames, config.max_side)
        made.set_progress_bar_config(disable=True)
        return made

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **parts: Any
    ) -> HeadPipeline:
        """Read what `save_pretrained` wrote into a local folder; `dtype` casts the parts, `parts` replace some by name.

        Raises FileNotFoundError, naming what is missing.
        """
        # diffusers' own reader imports the connector's class by its saver's module name, which differs between a
        # checkout and a wheel, and needs accelerate for this transformer.
        kinds = {"connector": HeadConnectorModel, "transformer": WanTransformer3DModel}
        for name in (name for name in kinds if name not in parts):
            parts[name] = _read_part(kinds[name], Path(folder) / name, dtype)
        if "scheduler" not in parts:
            parts["scheduler"] = FlowMatchEulerDiscreteScheduler.from_pretrained(Path(folder) / "scheduler")
        limits = {name: cls.load_config(folder)[name] for name in ("max_frames", "max_side")}
        made = cls(**parts, **limits)
        made.set_progress_bar_config(disable=True)
        return made

    @property
    def interrupt(self) -> bool:
        """Whether the run should stop; a callback sets `pipe._interrupt = True`."""
        return self._interrupt

    @property
    def head(self) -> JointHead:
        """The same weights as a `JointHead`."""
        wan, connector = self.transformer.config, self.connector.inner
        config = JointHeadConfig(
            heads=wan.num_attention_heads,
            head_dim=wan.attention_head_dim,
            layers=wan.num_layers,
            ffn_dim=wan.ffn_dim,
            freq_dim=wan.freq_dim,
            patch=wan.patch_size[-1],
            max_frames=self.config.max_frames,
            max_side=self.config.max_side,
            connector=connector.config,
        )
        return JointHead(config, connector=connector, wan=self.transformer)

    @torch.no_grad()
    def __call__(
        self,
        taps: tuple[Tensor, ...],
        mask_BT: Tensor | None = None,
        *,
        num_frames: int = 1,
        height: int = 128,
        width: int = 128,
        num_inference_steps: int = 8,
        guidance_scale: float = 2.0,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        first_frame: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> HeadOutput | tuple[Any]:
        """Make frames for the prompts whose tapped states are `taps` (each [B,T,D]); `mask_BT` is False at padding.
        `first_frame` [B,3,H,W] in -1..1 is kept as frame 0.

        Noise comes from `latents`, `seeds` (one a row) or `generator`. A callback may ask for "latents" and for
        "preview" (the frames as far as known) and hand back changed latents. An interrupted run gives a last preview.
        """
        _check_call(output_type, callback_on_step_end_tensor_inputs)
        head, shape = self.head, (num_frames, height, width)
        check_size(head.config, *shape)
        mask_BT = torch.ones(taps[0].shape[:2], dtype=torch.bool, device=taps[0].device) if mask_BT is None else mask_BT
        condition = _guided(head, head.condition(taps, mask_BT), guidance_scale)
        state = _noise(mask_BT.shape[0], shape, seeds, generator, latents).to(self._execution_device)
        # Even steps from 1 down to 1/n: the levels of `sample_flow`, where a scheduler of its own would end elsewhere.
        levels = [1 - step / num_inference_steps for step in range(num_inference_steps)]
        self.scheduler.set_timesteps(sigmas=levels, device=state.device)
        first = checked_first(first_frame, state.shape[0], shape)
        self._interrupt = False
        preview = torch.zeros_like(state)
        with self.progress_bar(total=num_inference_steps) as bar:
            for step, time in enumerate(self.scheduler.timesteps):
                if self._interrupt:
                    continue
                sigma = float(self.scheduler.sigmas[step])
                state = keep_first(state, first)
                preview = predict(head, state, sigma, condition, guidance_scale, clean_first=first is not None)
                preview = keep_first(preview, first)
                state = self.scheduler.step((state - preview) / sigma, time, state, return_dict=False)[0]
                if callback_on_step_end is not None:
                    told = {"latents": state, "preview": preview}
                    told = {name: told[name] for name in callback_on_step_end_tensor_inputs}
                    state = (callback_on_step_end(self, step, time, told) or {}).get("latents", state)
                bar.update()
        frames = _finished(preview if self._interrupt else state, output_type)
        self.maybe_free_model_hooks()
        return HeadOutput(frames=frames) if return_dict else (frames,)


def _read_part(kind: Any, folder: Path, dtype: torch.dtype | None) -> Any:
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no {name} in '{folder}': is this part of what HeadPipeline.save_pretrained wrote?"
            )
    made = kind.from_config(kind.load_config(folder))
    made.load_state_dict(load_file(folder / _WEIGHTS))
    return made.eval() if dtype is None else made.to(dtype).eval()


def _wan_arguments(config: JointHeadConfig) -> dict[str, Any]:
    shape = dataclasses.asdict(config.wan)
    patch = shape.pop("patch_size")
    return {**shape, "patch_size": (1, patch, patch), "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}


def _guided(head: JointHead, condition: Condition, guidance: float) -> Condition:
    return guided_condition(head, condition) if guidance != 1 else condition


def _noise(
    rows: int,
    shape: tuple[int, int, int],
    seeds: Sequence[int] | None,
    generator: torch.Generator | None,
    latents: Tensor | None,
) -> Tensor:
    if latents is not None:
        return latents.float()
    if seeds is not None:
        if len(seeds) != rows:
            raise ValueError(f"there are {rows} prompts, but {len(seeds)} seeds")
        return start_noise(seeds, shape)
    device = "cpu" if generator is None else generator.device
    return torch.randn(rows, 3, *shape, generator=generator, device=device)


def _check_call(output_type: str, asked: Sequence[str]) -> None:
    if output_type not in ("pil", "np", "pt"):
        raise ValueError(f"output_type must be one of pil, np, pt, got '{output_type}'")
    unknown = [name for name in asked if name not in _CALLBACK_TENSORS]
    if unknown:
        raise ValueError(f"a callback can have {', '.join(_CALLBACK_TENSORS)}, not '{unknown[0]}'")


def _finished(frames_B3FHW: Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return frames_B3FHW
    scaled_BFHW3 = ((frames_B3FHW.float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()
    if output_type == "np":
        return scaled_BFHW3
    from PIL import Image

    whole = (scaled_BFHW3 * 255).round().astype("uint8")
    return [[Image.fromarray(frame) for frame in clip] for clip in whole]
