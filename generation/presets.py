"""Real weights of others behind one call: a row a model, what its words and sizes are, what it needs, what it allows.

F frames, H and W pixels. A row loads from a local folder only, so that nothing is fetched by surprise.
Source: the pipelines' signatures in diffusers 0.42; steps, guidance, sizes and licences as their cards state them.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GIGA = 1024**3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One model. `multiple`: what both sides must be divisible by; `every`: clips have `every` * k + 1 frames.

    `guidance_word` is the name of the argument that guides, None where the pipeline has none. `gated`: whether its
    owner asks for an account and consent first.
    """

    name: str
    repo: str
    pipeline: str
    kind: str
    steps: int
    guidance: float
    guidance_word: str | None
    size: tuple[int, int]
    multiple: int
    licence: str
    frames: int = 1
    every: int = 1
    fps: int = 1
    gated: bool = False
    note: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    full_precision: tuple[str, ...] = ()


def _picture(**row: Any) -> Preset:
    return Preset(kind="image", **row)


def _clip(**row: Any) -> Preset:
    return Preset(kind="video", **row)


_ROWS = (
    _picture(
        name="z-image-turbo", repo="Tongyi-MAI/Z-Image-Turbo", pipeline="ZImagePipeline", steps=8, guidance=0.0,
        guidance_word="guidance_scale", size=(1024, 1024), multiple=16, licence="Apache-2.0",
        note="distilled: guidance stays 0",
    ),
    _picture(
        name="flux2-klein-4b", repo="black-forest-labs/FLUX.2-klein-4B", pipeline="Flux2KleinPipeline", steps=4,
        guidance=1.0, guidance_word="guidance_scale", size=(1024, 1024), multiple=16, licence="Apache-2.0",
        note="the 9B and dev weights are under a non-commercial licence",
    ),
    _picture(
        name="sana-sprint", repo="Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers",
        pipeline="SanaSprintPipeline", steps=2, guidance=4.5, guidance_word="guidance_scale", size=(1024, 1024),
        multiple=32, licence="told differently (NSCL v2, Apache-2.0), Gemma terms for its reader: read the card",
        extra={"use_resolution_binning": False},
    ),
    _picture(
        name="qwen-image", repo="Qwen/Qwen-Image", pipeline="QwenImagePipeline", steps=50, guidance=4.0,
        guidance_word="true_cfg_scale", size=(1328, 1328), multiple=16, licence="Apache-2.0",
        extra={"negative_prompt": " "}, note="guidance_scale has no effect here, true_cfg_scale has",
    ),
    _clip(
        name="wan2.2-ti2v-5b", repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers", pipeline="WanPipeline", steps=50, guidance=5.0,
        guidance_word="guidance_scale", size=(1280, 704), multiple=32, frames=121, every=4, fps=24,
        licence="Apache-2.0", full_precision=("vae",),
    ),
    _clip(
        name="wan2.1-1.3b", repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", pipeline="WanPipeline", steps=50, guidance=5.0,
        guidance_word="guidance_scale", size=(832, 480), multiple=16, frames=81, every=4, fps=16,
        licence="Apache-2.0", full_precision=("vae",),
    ),
    _clip(
        name="ltx-video", repo="Lightricks/LTX-Video", pipeline="LTXPipeline", steps=50, guidance=3.0,
        guidance_word="guidance_scale", size=(704, 480), multiple=32, frames=161, every=8, fps=25,
        licence="LTX-Video-Open-Weights-License-0.X",
    ),
    _clip(
        name="hunyuanvideo-1.5", repo="hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v",
        pipeline="HunyuanVideo15Pipeline", steps=50, guidance=6.0, guidance_word=None, size=(848, 480), multiple=16,
        frames=121, every=4, fps=24, licence="Tencent Hunyuan Community License, which leaves out the EU: read it",
        note="guided by its own guider; cannot be stopped between steps",
    ),
)  # fmt: skip
PRESETS: dict[str, Preset] = {row.name: row for row in _ROWS}


def preset(name: str) -> Preset:
    """The row of a name; ValueError with the nearest one for another."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown preset '{name}'{hint} Presets: {', '.join(PRESETS)}")
    return PRESETS[name]


def snapped(
    row: Preset, width: int | None = None, height: int | None = None, frames: int | None = None
) -> tuple[int, int, int, list[str]]:
    """The nearest width, height and number of frames that the model takes, and what was changed, in words."""
    told = []
    sides = []
    for word, given, usual in (("width", width, row.size[0]), ("height", height, row.size[1])):
        wanted = usual if given is None else given
        if wanted < 1:
            raise ValueError(f"{word} must be at least 1, got {wanted}")
        side = max(row.multiple, round(wanted / row.multiple) * row.multiple)
        if side != wanted:
            told.append(f"{word} {wanted} became {side}: {row.name} takes multiples of {row.multiple}")
        sides.append(side)
    wanted = row.frames if frames is None else frames
    if wanted < 1:
        raise ValueError(f"frames must be at least 1, got {wanted}")
    count = 1 if row.kind == "image" else round((wanted - 1) / row.every) * row.every + 1
    if count != wanted:
        rule = "makes single pictures" if row.kind == "image" else f"takes {row.every}k + 1 frames"
        told.append(f"{wanted} frames became {count}: {row.name} {rule}")
    return sides[0], sides[1], count, told


def arguments(
    row: Preset, accepted: Mapping[str, Any], *, steps: int | None, guidance: float | None
) -> tuple[dict[str, Any], list[str]]:
    """Steps and guidance under the pipeline's own names, and what of the wish it has no word for."""
    given: dict[str, Any] = {"num_inference_steps": steps or row.steps, **row.extra}
    told = []
    if row.guidance_word is not None:
        given[row.guidance_word] = row.guidance if guidance is None else guidance
    elif guidance is not None:
        told.append(f"guidance {guidance:g} is not used: {row.name} has no argument for it")
    unknown = [word for word in given if word not in accepted]
    if unknown:
        raise ValueError(f"{row.pipeline} of this diffusers takes no '{unknown[0]}'; the preset was read from 0.42")
    return given, told


def check_folder(row: Preset, folder: str | os.PathLike[str]) -> dict[str, int]:
    """Bytes of weights by part of the pipeline in a folder, once everything it names is there.

    Raises FileNotFoundError that names the missing file and how to get it, ValueError for another pipeline.
    """
    root = Path(folder)
    how = f"fetch it once with: hf download {row.repo} --local-dir {root}"
    index = root / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"no model_index.json in '{root}'; {how}")
    parts = json.loads(index.read_text(encoding="utf-8"))
    if parts.get("_class_name") != row.pipeline:
        raise ValueError(f"'{root}' holds a {parts.get('_class_name')}; {row.name} is a {row.pipeline}")
    sizes = {}
    for name, value in parts.items():
        if name.startswith("_") or not isinstance(value, list) or value[0] is None:
            continue
        if not (root / name).is_dir():
            raise FileNotFoundError(f"the part '{name}' is missing in '{root}'; {how}")
        if any(word in name for word in ("tokenizer", "scheduler", "guider", "processor")):
            continue
        weights = weight_files(root / name, how)
        sizes[name] = sum(path.stat().st_size for path in weights)
    return sizes


def weight_files(part: Path, how: str = "it is not whole") -> list[Path]:
    """The safetensors of one part, all that its index names; FileNotFoundError, with `how` to mend it."""
    if not (part / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in '{part}'; {how}")
    for index in part.glob("*.safetensors.index.json"):
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in named if not (part / name).is_file()]
        if missing:
            short = f"{len(missing)} of {len(named)} files are missing in '{part}'"
            raise FileNotFoundError(f"{short}, first {missing[0]}; {how}")
        return [part / name for name in named]
    found = sorted(part.glob("*.safetensors"))
    if not found:
        raise FileNotFoundError(f"no .safetensors in '{part}'; {how}")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How a pipeline will lie in memory: bytes by part, the way (of WAYS), bytes at the peak, and all that in words."""

    parts: Mapping[str, int]
    way: str
    peak: int
    words: str


WAYS = ("whole", "part by part", "layers in 8 bits", "layer by layer")


def plan(row: Preset, folder: str | os.PathLike[str], available: int | None) -> Plan:
    """Estimate before loading, from the files alone; the first way that fits `available` bytes (None: host memory).

    The peak is the weights that lie there together and a quarter for what is computed. Raises as `check_folder`.
    """
    parts = check_folder(row, folder)
    total, largest = sum(parts.values()), max(parts.values(), default=0)
    peaks = dict(zip(WAYS, (total, largest, largest // 2, largest // 8), strict=True))
    peaks = {way: int(1.25 * size) for way, size in peaks.items()}
    fitting = [way for way in WAYS if available is None or peaks[way] <= available]
    way = fitting[0] if fitting else WAYS[-1]
    words = f"{row.name}: {total / GIGA:.1f} GiB of weights, loaded {way}, at most about {peaks[way] / GIGA:.1f} GiB"
    if not fitting and available is not None:
        words += f"; only {available / GIGA:.1f} GiB are free, so it may not fit"
    consent = "; its owner asks for consent first" if row.gated else ""
    return Plan(parts=parts, way=way, peak=peaks[way], words=f"{words}; licence: {row.licence}{consent}")
