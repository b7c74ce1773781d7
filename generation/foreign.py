"""Load and run a preset: one call for pictures and clips of every pipeline, with progress, cancel and one seed.

F frames, H and W pixels. Source: diffusers' conventions; the order of offloading as its documentation ranks it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .presets import Plan, Preset, arguments, plan, preset, snapped, weight_files

if TYPE_CHECKING:
    import numpy as np

PromptWriter = Callable[[str], str]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """Frames uint8 [F,H,W,3] (one for a picture), what was asked in the end, and what had to be changed for it."""

    frames_FHW3: np.ndarray
    fps: int
    prompt: str
    notes: tuple[str, ...]
    stopped: bool


class Foreign:
    """A loaded preset. `plan.words` tells what it needs and its licence; `notes` of a result what was changed."""

    def __init__(self, row: Preset, pipe: Any, planned: Plan) -> None:
        self.row, self.pipe, self.plan = row, pipe, planned

    @classmethod
    def load(
        cls, name: str, folder: str | os.PathLike[str], *, device: str | None = None, dtype: Any = None
    ) -> Foreign:
        """Load a preset from a local folder, never from the network; on a card, in the first way that fits.

        Raises ValueError for an unknown preset or another pipeline's folder, FileNotFoundError naming what is missing.
        """
        import diffusers
        import torch
        from diffusers.utils import is_accelerate_available

        row = preset(name)
        here = torch.accelerator.current_accelerator(check_available=True)
        device = device or ("cpu" if here is None else here.type)
        # Memory that is the machine's own is not to be counted as a card's: there everything is simply put.
        apart = torch.device(device).type not in ("cpu", "mps")
        planned = plan(row, folder, torch.accelerator.get_memory_info(device)[0] if apart else None)
        dtype = dtype or (torch.bfloat16 if apart else torch.float32)
        frugal = is_accelerate_available()
        parts = {} if frugal else _read_without_accelerate(diffusers, folder, dtype)
        pipe = getattr(diffusers, row.pipeline).from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, low_cpu_mem_usage=frugal, **parts
        )
        for part in row.full_precision:
            getattr(pipe, part).to(torch.float32)
        _place(pipe, planned.way, device)
        pipe.set_progress_bar_config(disable=True)
        return cls(row, pipe, planned)

    def make(
        self,
        prompt: str,
        *,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        writer: PromptWriter | None = None,
        on_step: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Made:
        """One picture or clip; sizes and frames snap to what the model takes, and `notes` say so.

        `writer` turns the prompt into a longer one first (the language core can); None leaves it as it is.
        """
        import torch

        row = self.row
        accepted = inspect.signature(self.pipe.__call__).parameters
        width, height, count, told = snapped(row, width, height, frames)
        given, more = arguments(row, accepted, steps=steps, guidance=guidance)
        total = given["num_inference_steps"]
        asked = writer(prompt) if writer is not None else prompt
        given |= {"prompt": asked, "width": width, "height": height, "output_type": "np"}
        given["generator"] = torch.Generator("cpu").manual_seed(seed)
        if row.kind == "video":
            given["num_frames"] = count
        state = {"stopped": False}
        if "callback_on_step_end" in accepted:
            given["callback_on_step_end"] = self._watcher(total, on_step, cancelled, state)
        result = self.pipe(**given)
        frames_FHW3, black = _frames(getattr(result, "images" if row.kind == "image" else "frames"))
        if black:
            more.append("the result is black or not a number, which a broken weight or too low a precision gives")
        return Made(frames_FHW3=frames_FHW3, fps=row.fps, prompt=asked, notes=(*told, *more), stopped=state["stopped"])

    def _watcher(
        self,
        total: int,
        on_step: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
        state: dict[str, bool],
    ) -> Callable[..., dict[str, Any]]:
        def watch(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, total)
            if cancelled is not None and cancelled():
                pipe._interrupt = state["stopped"] = True
            return tensors

        return watch


def _read_without_accelerate(diffusers: Any, folder: str | os.PathLike[str], dtype: Any) -> dict[str, Any]:
    """Denoisers that keep some parts in float32: diffusers' own reader takes those only with accelerate."""
    from pathlib import Path

    from safetensors.torch import load_file

    parts = {}
    for place in sorted(Path(folder).glob("transformer*")):
        name = json.loads((place / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = getattr(diffusers, name)
        kept = kind._keep_in_fp32_modules or ()
        if kept:
            made = kind.from_config(kind.load_config(place)).to(dtype)
            for piece, module in made.named_modules():
                if piece.split(".")[-1] in kept or piece in kept:
                    module.float()
            weights = {key: value for file in weight_files(place) for key, value in load_file(file).items()}
            made.load_state_dict(weights)
            parts[place.name] = made.eval()
    return parts


def _place(pipe: Any, way: str, device: str) -> None:
    """Put a pipeline where it fits; the order is that of `presets.WAYS`."""
    import torch
    from diffusers.utils import is_accelerate_available

    apart = torch.device(device).type not in ("cpu", "mps")
    if apart and way != "whole" and not is_accelerate_available():
        raise ValueError(f"loading {way} needs one more package: pip install 'dsv4-studio[presets]'")

    if not apart or way == "whole":
        pipe.to(device)
    elif way == "layer by layer":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        if way == "layers in 8 bits":
            pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
        pipe.enable_model_cpu_offload(device=device)


def _frames(made: Any) -> tuple[np.ndarray, bool]:
    """The first result as uint8 [F,H,W,3], and whether it is black or not a number."""
    import numpy as np

    array = np.asarray(made[0], dtype=np.float32)
    array_FHW3 = array[None] if array.ndim == 3 else array
    broken = not np.isfinite(array_FHW3).all()
    whole = (np.nan_to_num(array_FHW3).clip(0, 1) * 255).round().astype(np.uint8)
    return whole, broken or int(whole.max()) == 0
