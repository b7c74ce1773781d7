"""What a job may ask for: the five kinds, their settings checked before they are queued, and the verb that does them.

Runs in two processes: `check` in the server, `perform` in the model's own process, where files are named by path.
Shape letters: F frames, H height, W width, 3 colours.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dsv4
from dsv4 import limits, spelling
from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.finish import check_candidates
from dsv4.messages import PICTURE_SUFFIXES, Message, video
from dsv4.results import Progress, Svg, credited

from . import presets, readings
from .looking import Looker, look_at

if TYPE_CHECKING:
    import numpy as np

DEFAULTS: dict[str, dict[str, Any]] = {
    "chat": {"mode": "tiny", "seed": 0, "temperature": 0.0, "max_tokens": 160},
    "svg": {"seed": 0, "temperature": 0.0, "max_tokens": 1200, "candidates": 1, "trace": "auto"},
    "image": {"seed": 0, "size": 128, "steps": 8, "guidance": None},
    "video": {"seconds": 2.0, "seed": 0, "steps": 8, "guidance": None},
    "read": readings.DEFAULTS,
}
# What a kind may begin with: names of settings that are asset ids.
BEGUN_WITH: dict[str, tuple[str, ...]] = {"video": ("first_frame", "after"), "svg": ("edit", "picture")}
FORMATS: dict[str, tuple[str, ...]] = {"svg": (".svg",), "image": (".png", ".webp"), "video": (".mp4",)}
SHEET = 16  # frames of a running clip that its preview shows
SPOKEN = ("chat", "read")  # kinds whose result is words
MODES_FALLING = ("gundam-m", "gundam", "large", "base", "small", "tiny")  # by what a picture costs
Tell = Callable[[Progress], None]


def _picture(path: str) -> Any:
    """A picture or a drawing, to be redrawn; raises InputError for a document or a clip."""
    if Path(path).suffix not in PICTURE_SUFFIXES:
        raise InputError("a drawing is made after a picture: take a PNG, JPEG, WebP or SVG file")
    return look_at(path)


TAKEN: dict[str, Callable[[str], Any]] = {"first_frame": dsv4.image, "after": video, "picture": _picture}


def check(kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The whole settings of a job of `kind`; raises InputError for what the verb would refuse.

    `shown` (chat, read) and `history` name files by asset id; `first_frame` and `after` (video), `edit` (svg, the
    drawing that the words change) and `picture` (svg, what is redrawn, with or without words) are such ids.
    """
    if kind not in DEFAULTS:
        raise unknown("kind of job", kind, DEFAULTS)
    if kind == "read":
        return readings.check(params)
    said = params.get("prompt")
    redrawn = kind == "svg" and params.get("picture") and isinstance(said, str) and not said.strip()
    prompt = "" if redrawn else limits.check_prompt(said)
    settings = {name: params.get(name, value) for name, value in DEFAULTS[kind].items()}
    if "guidance" in settings:
        settings["guidance"] = limits.guidance_for(settings["steps"], settings["guidance"])
    limits.check_numbers(**{name: value for name, value in settings.items() if name in limits.RANGES})
    limits.check_correct(params.get("correct", True))
    checked: dict[str, Any] = {"prompt": prompt, **settings, **_as_typed(params)}
    if kind == "chat":
        limits.check_mode(settings["mode"])
        checked["shown"] = list(params.get("shown", ()))
        checked["history"] = list(params.get("history", ()))
        limits.check_count("pictures", checked["shown"], limits.PICTURES)
        limits.check_count("messages of history", checked["history"], limits.HISTORY_MESSAGES)
        return checked
    if kind == "image":
        limits.check_size(settings["size"])
    if kind == "svg":
        limits.check_trace(settings["trace"])
    if kind == "svg" and not params.get("edit"):
        check_candidates(settings["candidates"], settings["temperature"])
    suffix = params.get("suffix", FORMATS[kind][0])
    if suffix not in FORMATS[kind]:
        raise unknown("format", suffix.lstrip("."), [one.lstrip(".") for one in FORMATS[kind]])
    provenance = bool(params.get("provenance", True))
    begun = {name: params[name] for name in BEGUN_WITH.get(kind, ()) if params.get(name)}
    if kind == "video":
        limits.check_clip(settings["seconds"], begun.get("first_frame"), begun.get("after"))
    return {**checked, "suffix": suffix, "provenance": provenance, **begun}


def begun_with(kind: str, given: str) -> str:
    """Which setting takes a file of kind `given` (svg, image, video, …) as what the job begins with; "" for none."""
    if kind == "video" and given:
        return "after" if given == "video" else "first_frame"
    return {"svg": "edit", "image": "picture"}.get(given, "") if kind == "svg" else ""


def files_of(params: Mapping[str, Any]) -> list[str]:
    """The asset ids that a job names."""
    found = [*params.get("shown", ())]
    for said in params.get("history", ()):
        found += said.get("shown", ())
    return found + [params[name] for names in BEGUN_WITH.values() for name in names if params.get(name)]


def perform(
    studio: Any,
    kind: str,
    params: Mapping[str, Any],
    files: Mapping[str, str],
    out: Path,
    tell: Tell,
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Do a job with the model and write what it made to `out` (plus its suffix); returns what to know of it."""
    if "preset" in params:
        made, notes = studio.make(
            params["prompt"], seed=params["seed"], on_progress=tell, cancelled=cancelled, **params["preset"]
        )
        return {} if cancelled() else {**_saved(made, out, params), "warnings": notes}
    readings.check_can(studio, kind)
    if kind == "read":
        return readings.perform(studio, params, files, out, tell, cancelled)
    # A job that an earlier version queued may lack a setting that came later.
    given = {name: params.get(name, value) for name, value in DEFAULTS[kind].items()} | _as_typed(params)
    if kind == "chat":
        return _answer(studio, params, given, files, out, tell, cancelled)
    if params.get("edit"):
        made = _edited(studio, params, files)
    else:
        more = {name: take(files[params[name]]) for name, take in TAKEN.items() if params.get(name)}
        made = getattr(studio, kind)(params["prompt"], on_progress=tell, cancelled=cancelled, **given, **more)
    if cancelled():
        return {}
    return _saved(made, out, params)


def smaller(kind: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The same job with less to hold at once, for a device that was full, and in words what was changed ("" nothing).

    Pictures are looked at in the next coarser mode, a clip is half as long, real weights make smaller frames.
    """
    if "preset" in params:
        own, words = presets.smaller(params["preset"])
        return {**params, "preset": own}, words
    if kind in SPOKEN and (params["shown"] or any(said["shown"] for said in params.get("history", ()))):
        coarser = MODES_FALLING[MODES_FALLING.index(params["mode"]) + 1 :]
        if coarser:
            return {**params, "mode": coarser[0]}, f"mode {params['mode']} became {coarser[0]}"
    if kind == "video" and params["seconds"] / 2 >= limits.RANGES["seconds"].low and not params.get("after"):
        half = params["seconds"] / 2
        return {**params, "seconds": half}, f"{params['seconds']:g} seconds became {half:g}"
    return dict(params), ""


def _saved(made: Any, out: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    path = made.save(out.with_name(f"{out.name}{params['suffix']}"), provenance=params["provenance"])
    usage = getattr(made, "usage", None)
    counts = {"usage": {"read": usage.read, "written": usage.written, "pictures": 0}} if usage else {}
    return {"file": str(path), "made_by": dict(made.provenance), **counts, **_read_as(made)}


def _as_typed(params: Mapping[str, Any]) -> dict[str, bool]:
    """What is passed on where mistyped words are to stay as they are; nothing where they may be corrected, as usual."""
    return {} if params.get("correct", True) else {"correct": False}


def _read_as(made: Any) -> dict[str, Any]:
    """What to know of how the words were read: `corrected`, `untaught`, and a note for people; only what there is."""
    note = spelling.told(made.corrected, made.untaught)
    known = {"corrected": made.corrected, "untaught": list(made.untaught), "warnings": [note] if note else []}
    return {name: value for name, value in known.items() if value}


def _edited(studio: Any, params: Mapping[str, Any], files: Mapping[str, str]) -> Svg:
    """A drawing with one change; no model is asked, so that what was not named stays as it is."""
    before, editing = Path(files[params["edit"]]).read_text(encoding="utf-8"), part("generation.svg")
    try:
        text = editing.edit(before, params["prompt"])
    except ValueError as error:
        raise InputError(str(error)) from error
    told = part("generation.files").read_provenance(Path(files[params["edit"]])) or {}
    made_by = {"task": "svg", "prompt": params["prompt"], "seed": 0, "model": str(studio.name), **told}
    settings: Any = made_by.get("settings")
    settings = dict(settings) if isinstance(settings, dict) else {}
    edits = "; ".join(filter(None, [str(settings.get("edits", "")), params["prompt"]]))
    return Svg(text=text, provenance={**made_by, "settings": {**settings, "edits": edits}})


def _answer(
    studio: Any,
    params: Mapping[str, Any],
    given: Mapping[str, Any],
    files: Mapping[str, str],
    out: Path,
    tell: Tell,
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    with Looker() as look:
        history = tuple(
            Message.said(said["role"], said["text"], *(look(files[name]) for name in said.get("shown", ())))
            for said in params["history"]
        )
        shown, begun, first = [look(files[name]) for name in params["shown"]], time.monotonic(), None
        stream = studio.chat(params["prompt"], *shown, history=history, cancelled=cancelled, **given)
        for piece in stream:
            first = time.monotonic() - begun if first is None else first
            tell(Progress(step=0, total=0, text_delta=piece))
    reply = stream.reply
    usage = asdict(reply.usage)
    told = {"text": reply.text, "thought": reply.thought, "stopped": reply.stopped, "usage": usage}
    told |= {"first": first, "made_by": dict(reply.provenance), **_read_as(reply)}
    if reply.call is None or reply.stopped != "end":
        return told
    readings.check_can(studio, reply.call.kind)
    made = studio.perform(reply.call, seed=given["seed"], on_progress=tell, cancelled=cancelled)
    if cancelled():
        return {}
    made = credited(made, reply)
    wanted = {"suffix": FORMATS[reply.call.kind][0], "provenance": True}
    return {**_saved(made, out, wanted), **told, "made_by": dict(made.provenance)}


def preview_file(preview: np.ndarray | str) -> tuple[bytes, str]:
    """A preview as the bytes of a small file and its suffix: SVG as it is, a picture or a sheet of frames as PNG."""
    if isinstance(preview, str):
        return preview.encode(), ".svg"
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(preview if preview.ndim == 3 else frame_sheet(preview)).save(content, "PNG", compress_level=1)
    return content.getvalue(), ".png"


def frame_sheet(frames_FHW3: np.ndarray) -> np.ndarray:
    """Up to SHEET frames at even times, four a row, white where there are fewer: [rows·H, 4·W, 3] uint8."""
    import numpy as np

    count, height, width, _ = frames_FHW3.shape
    places = np.linspace(0, count - 1, min(count, SHEET)).round().astype(int)
    across = min(4, len(places))
    down = -(-len(places) // across)
    cells = np.full((down * across, height, width, 3), 255, dtype=np.uint8)
    cells[: len(places)] = frames_FHW3[places]
    grid = cells.reshape(down, across, height, width, 3).swapaxes(1, 2)
    return grid.reshape(down * height, across * width, 3)
