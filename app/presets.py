"""Real weights of others as a studio: which are here, what they need and allow, and pictures and clips made by them.

Nothing is fetched: a folder of weights holds one folder for each preset. Source: `generation.presets`; what each needs
when it is not here, as its card or its documentation states it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv4._parts import part
from dsv4.errors import InputError
from dsv4.limits import check_numbers, check_prompt
from dsv4.results import Clip, Picture, Progress

# (GB on disk, GB on the device, who says so); 0 is not known. Estimates for people who have not fetched them yet.
STATED: dict[str, tuple[float, float, str]] = {
    "z-image-turbo": (33, 16, "InvokeAI's and diffusers' documentation"),
    "flux2-klein-4b": (0, 13, "its card"),
    "sana-sprint": (0, 8, "a user's report, with offloading"),
    "qwen-image": (0, 24, "ComfyUI's documentation, in 8 bits"),
    "wan2.2-ti2v-5b": (0, 24, "its README, with offloading"),
    "wan2.1-1.3b": (0, 8.2, "its paper"),
    "ltx-video": (0, 10, "diffusers' documentation, in 8 bits"),
    "hunyuanvideo-1.5": (0, 24, "its README, one RTX 4090"),
}
SIDE, FRAMES, STEPS, GUIDANCE = (64, 2048), (1, 257), (1, 100), (0.0, 20.0)
SMALLER = 0.75  # of both sides, when the device was full
FILES = (".png", ".webp", ".mp4")


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A preset as people see it: its row, where it would lie, whether it is there, and what to know in words."""

    name: str
    row: Any
    folder: Path | None
    here: bool
    memory: str
    words: str


def shelf(weights: Path | None) -> list[Shelved]:
    """Every preset, with what its files say where it is here, and with what is stated of it where it is not."""
    rows = part("generation.presets")
    return [_shelved(rows, row, weights / name if weights else None) for name, row in rows.PRESETS.items()]


def _shelved(rows: Any, row: Any, folder: Path | None) -> Shelved:
    disk, device, source = STATED.get(row.name, (0, 0, ""))
    stated = [f"{device:g} GB on a card"] if device else []
    stated += [f"{disk:g} GB on disk"] if disk else []
    memory = f"{', '.join(stated)} ({source})" if stated else "not stated"
    fetch = f"hf download {row.repo} --local-dir {folder or f'WEIGHTS/{row.name}'}"
    if folder is None or not folder.is_dir():
        return Shelved(name=row.name, row=row, folder=folder, here=False, memory=memory, words=fetch)
    try:
        sizes = rows.check_folder(row, folder)
    except (ValueError, OSError) as error:  # half a download, another pipeline
        return Shelved(name=row.name, row=row, folder=folder, here=False, memory=memory, words=str(error))
    total, most = sum(sizes.values()) / 1e9, 1.25 * max(sizes.values(), default=0) / 1e9
    measured = f"{total:.1f} GB of weights here; whole on a card {1.25 * total:.1f} GB, part by part {most:.1f} GB"
    return Shelved(name=row.name, row=row, folder=folder, here=True, memory=measured, words=row.note)


def check(name: str, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The whole settings of a job for a preset; raises InputError. What it does not know of the studio's is left out.

    `width`, `height` and `frames` may be anything within the limits: they snap to what the model takes, and it says so.
    """
    row = part("generation.presets").preset(name)
    if kind != row.kind:
        makes = "pictures" if row.kind == "image" else "clips"
        raise InputError(f"the model '{name}' cannot do this: it makes {makes}")
    prompt, seed = check_prompt(params.get("prompt")), params.get("seed", 0)
    check_numbers(seed=seed)
    wide, high = row.size
    own: dict[str, Any] = {
        "width": _within(params, "width", SIDE, wide),
        "height": _within(params, "height", SIDE, high),
        "steps": _within(params, "steps", STEPS, row.steps),
        "guidance": _within(params, "guidance", GUIDANCE, row.guidance),
    }
    if kind == "video":
        own["frames"] = _within(params, "frames", FRAMES, row.frames)
    suffix = params.get("suffix", ".png" if kind == "image" else ".mp4")
    if suffix not in FILES:
        raise InputError(f"format must be one of {', '.join(FILES)}, got '{suffix}'")
    seconds = {"seconds": own["frames"] / row.fps} if kind == "video" else {}
    kept = {"suffix": suffix, "provenance": bool(params.get("provenance", True)), "preset": own, **seconds}
    return {"prompt": prompt, "seed": seed, **kept}


def _within(params: Mapping[str, Any], name: str, limits: tuple[float, float], usual: float) -> Any:
    value = params.get(name)
    if value is None:
        return usual
    whole = isinstance(limits[0], int)
    proper = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not proper or not limits[0] <= value <= limits[1]:
        what = "a whole number" if whole else "a number"
        raise InputError(f"{name} must be {what} from {limits[0]:g} to {limits[1]:g}, got {str(value)[:40]}")
    return value


def smaller(own: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A plan that needs about half the memory for what is computed, and in words what was changed."""
    less = {name: max(SIDE[0], int(own[name] * SMALLER)) for name in ("width", "height")}
    words = f"{own['width']} x {own['height']} became {less['width']} x {less['height']}"
    return {**own, **less}, words


class PresetStudio:
    """A loaded preset in the model's process: `make`, and the name and fingerprint that every studio has."""

    def __init__(self, name: str, folder: str) -> None:
        """Load from a local folder; raises InputError for one that is not whole."""
        try:
            self._made = part("generation.foreign").Foreign.load(name, folder)
        except (ValueError, OSError) as error:
            raise InputError(str(error)) from error
        self.name, self.row = name, self._made.row
        index = Path(folder) / "model_index.json"
        sizes = json.dumps(dict(self._made.plan.parts), sort_keys=True).encode()
        self.fingerprint = hashlib.sha256(index.read_bytes() + sizes).hexdigest()[:16]

    def make(
        self,
        prompt: str,
        *,
        seed: int,
        on_progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        **own: Any,
    ) -> tuple[Picture | Clip, list[str]]:
        """A picture or clip with the settings of `check`, and what had to be changed for it, in words."""

        def step(now: int, total: int) -> None:
            on_progress(Progress(step=now, total=total))

        made = self._made.make(prompt, seed=seed, on_step=step, cancelled=cancelled, **own)
        frames_FHW3, notes = made.frames_FHW3, list(made.notes)
        settings = {**own, "width": frames_FHW3.shape[2], "height": frames_FHW3.shape[1], "licence": self.row.licence}
        model = f"{self.name} ({self.fingerprint})"
        made_by = {"task": self.row.kind, "prompt": prompt, "seed": seed, "model": model, "settings": settings}
        if self.row.kind == "image":
            return Picture(array=frames_FHW3[0], provenance=made_by), notes
        return Clip(frames=frames_FHW3, fps=made.fps, provenance=made_by), notes
