"""Read the eyes of a released checkpoint: DeepSeek-OCR's layout, in one file or in shards.

Source: the header of DeepSeek-OCR's checkpoint (2710 tensors, of which 476 are the eyes'). Nothing in a folder can run
code: weights are safetensors, everything else is JSON.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import DeepEncoderConfig
from .modes import STRIDE

if TYPE_CHECKING:
    import torch

_EYES = ("sam_model.", "vision_model.", "projector.", "image_newline", "view_seperator")
_LANGUAGE = ("embed_tokens.", "layers.", "norm.", "lm_head.")
# The patch convolution of CLIP is in the file and never used: SAM's features take its place.
_UNUSED = re.compile(r"vision_model\.embeddings\.(patch_embedding\.weight|position_ids)")
_LAYER, _BLOCK = r"^vision_model\.transformer\.layers\.(\d+)\.", r"clip.transformer.resblocks.\1."
_RENAMES = (
    (r"^sam_model\.blocks\.(\d+)\.mlp\.lin([12])\.", r"sam.blocks.\1.mlp.fc\2."),
    (r"^sam_model\.(net_[23])\.", r"\1."),
    (r"^sam_model\.", "sam."),
    (r"^vision_model\.embeddings\.class_embedding$", "clip.class_embedding"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "clip.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "clip.ln_pre."),
    (_LAYER + r"layer_norm([12])\.", _BLOCK + r"ln_\2."),
    (_LAYER + r"self_attn\.qkv_proj\.", _BLOCK + "attn.in_proj_"),
    (_LAYER + r"self_attn\.out_proj\.", _BLOCK + "attn.out_proj."),
    (_LAYER + r"mlp\.fc1\.", _BLOCK + "mlp.c_fc."),
    (_LAYER + r"mlp\.fc2\.", _BLOCK + "mlp.c_proj."),
    (r"^projector\.layers\.", "projector."),
    (r"^view_seperator$", "view_separator"),
)


def our_name(key: str) -> str | None:
    """Our name for a released tensor of the eyes; None for the language part and for what is never used.

    Raises ValueError for a name that belongs to neither.
    """
    bare = key.removeprefix("model.")
    if bare.startswith(_LANGUAGE) or _UNUSED.fullmatch(bare):
        return None
    if not bare.startswith(_EYES):
        raise ValueError(f"unknown tensor '{key}': neither the eyes' ({', '.join(_EYES)}) nor the language part's")
    for pattern, ours in _RENAMES:
        renamed = re.sub(pattern, ours, bare)
        if renamed != bare:
            return renamed
    return bare


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a folder: those its index names, or all there are. ValueError when there are none."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_json(index).get("weight_map", {}).values()))
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise ValueError(f"{index} names '{outside[0]}', which does not lie in the folder itself")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{folder} is not complete: {missing[0]} is missing")
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"there are no weights in '{folder}': it should hold .safetensors files and config.json")
    return files


def read_eyes(
    folder: str | Path, *, dtype: torch.dtype | None = None
) -> tuple[DeepEncoderConfig, dict[str, torch.Tensor]]:
    """Sizes and tensors, under our names, of the eyes in a released folder; only they are read.

    `dtype` None keeps the file's. Raises ValueError for a missing or broken file, an unknown or a missing tensor.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():
                    name = our_name(key)
                    if name is not None:
                        value = file.get_tensor(key)
                        tensors[name] = value if dtype is None else value.to(dtype)
        except SafetensorError as error:
            raise ValueError(f"'{path}' is not a safetensors file that can be read: {error}") from error
    settings = Path(folder) / "config.json"
    about = _json(settings) if settings.is_file() else {}
    return config_of({name: tuple(value.shape) for name, value in tensors.items()}, about), tensors


def config_of(shapes: Mapping[str, tuple[int, ...]], about: Mapping[str, Any] | None = None) -> DeepEncoderConfig:
    """Sizes told by the shapes of tensors under our names; heads of CLIP by `about`, a config.json, or 64 wide."""
    try:
        side = shapes["sam.pos_embed"][1]
        width = shapes["sam.patch_embed.proj.weight"][0]
        tables = [shapes[f"sam.blocks.{n}.attn.rel_pos_h"] for n in range(_count(shapes, "sam.blocks."))]
        whole = 2 * side - 1
        told = _trunk(about or {}, "sam").get("global_attn_indexes")
        open_layers = told if told is not None else [n for n, table in enumerate(tables) if table[0] == whole]
        windows = {table[0] for n, table in enumerate(tables) if n not in open_layers}
        clip_width = shapes["clip.class_embedding"][0]
        return DeepEncoderConfig(
            native=side * (STRIDE // 4),
            sam_width=width,
            sam_layers=len(tables),
            sam_heads=width // tables[0][1],
            sam_window=(max(windows, default=whole) + 1) // 2,
            sam_global=tuple(open_layers),
            neck=shapes["sam.neck.0.weight"][0],
            middle=shapes["net_2.weight"][0],
            clip_width=clip_width,
            clip_layers=_count(shapes, "clip.transformer.resblocks."),
            clip_heads=_trunk(about or {}, "clip").get("heads") or max(1, clip_width // 64),
            out_dim=shapes["projector.weight"][0],
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"these are not the eyes of DeepSeek-OCR: {error} is missing or of another shape") from error


def check_fit(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError that names the first tensor which is missing, unknown or of a wrong shape."""
    for name, shape in wanted.items():
        if name not in found:
            raise ValueError(f"the tensor '{name}' is missing ({len(wanted.keys() - found.keys())} are)")
        if tuple(found[name]) != tuple(shape):
            raise ValueError(f"the tensor '{name}' has shape {list(found[name])}, this encoder needs {list(shape)}")
    for name in found:
        if name not in wanted:
            near = difflib.get_close_matches(name, wanted, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"unknown tensor '{name}'{hint}")


def _count(names: Iterable[str], start: str) -> int:
    numbers = {int(name.removeprefix(start).split(".")[0]) for name in names if name.startswith(start)}
    return max(numbers, default=-1) + 1


def _trunk(about: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The entry of `vision_config.width` whose name begins with `kind`, such as `clip-l-14-224`."""
    vision = about.get("vision_config")
    widths = vision.get("width") if isinstance(vision, Mapping) else None
    if not isinstance(widths, Mapping):
        return {}
    return next((one for name, one in widths.items() if name.startswith(kind) and isinstance(one, Mapping)), {})


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a JSON object")
    return data
