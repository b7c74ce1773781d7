"""Every limit on what may come in, in one table, and the functions that hold callers to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsv4._parts import part
from dsv4.errors import InputError, unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """An inclusive range of one number; `whole` refuses fractions."""

    low: float
    high: float
    whole: bool = True
    unit: str = ""


RANGES: dict[str, Range] = {
    "seed": Range(low=0, high=2**63 - 1),
    "temperature": Range(low=0, high=2, whole=False),
    "max_tokens": Range(low=1, high=4096, unit=" tokens"),
    "candidates": Range(low=1, high=16),
    "steps": Range(low=1, high=64, unit=" steps"),
    "guidance": Range(low=1, high=10, whole=False),
    "seconds": Range(low=0.25, high=6, whole=False, unit=" seconds"),
}
SIDES = range(8, 257, 8)  # sides that a picture can have, in pixels
SIZES = (64, 128, 192, 256)  # those that are offered where people choose from a list
PAINTED_SIZES = (64, 128)  # sides that nano has learnt to paint at; other sizes are scaled from the next of them
UNGUIDED_STEPS = 2  # up to so many steps, guidance does harm
TRACING = ("auto", "never", "always")  # whether the outlines of a picture are followed where it is redrawn as SVG
CLIP_SIZE = 64  # side of a clip in pixels
CLIP_FPS = 8
CLIP_FRAMES = 480  # of a clip that is gone on with, its continuation included

PROMPT_CHARACTERS = 20_000
CORRECTED_CHARACTERS = 2000  # of a request whose typing errors are corrected; what is longer was not typed
PICTURES = 16  # in one message
PICTURE_RATIO = 100  # longer side by shorter side: beyond this nothing is left to see after scaling
HISTORY_MESSAGES = 200
BATCH_ROWS = 50_000
BATCH_LINE_BYTES = 8_000_000  # a row may hold its pictures
BATCH_ID_CHARACTERS = 200
BATCH_WORKERS = 64
DOCUMENT_PAGES = 16  # in one message
READ_PAGES = 2000  # in one reading, where pages come one at a time
SVG_BYTES = 512_000  # of a drawing that is looked at
TURNS = (0, 90, 180, 270)  # degrees that pages can be turned by
VIDEO_FRAMES = 4  # taken from a clip that is shown to the model

# What the server takes; docs/security.md shows this table and a test holds the two together.
BODY_BYTES = 32 * 2**20  # of a request, counted while it is read
UPLOAD_BYTES = 24 * 2**20  # of one file that is shown to the model
BATCH_BYTES = 200 * 2**20  # of a JSONL file for /v1/batches
BODY_SECONDS = 30  # for a body to arrive
JSON_DEPTH = 32
MESSAGES = 512  # in one request
QUEUED_JOBS = 500  # of one person
OPEN_UPLOADS = 8  # of one person at once
IMAGES_AT_ONCE = 4  # `n` of one request
ARCHIVE_FILES, ARCHIVE_RATIO = 10_000, 100  # in an archive that is taken in; unpacked bytes for each packed one
ARCHIVE_BYTES = 2**30  # unpacked
REPO_FILES, REPO_DEPTH = 20_000, 40  # in a zip of a repository, and folders inside one another
REPO_BYTES = 256 * 2**20  # of it, unpacked
KEPT_DAYS = 30  # jobs that are over; what was made stays until it is deleted
LOGIN_TRIES = 5  # wrong passwords or keys of one address in a minute
REQUESTS_A_MINUTE = 600  # of one API key
FETCH_BYTES, FETCH_SECONDS = 16 * 2**20, 10  # of a picture named by its address, where that is allowed


def check_numbers(**values: Any) -> None:
    """Hold each named number to its row of RANGES; raises InputError with the allowed range."""
    for name, value in values.items():
        allowed = RANGES[name]
        kinds = int if allowed.whole else (int, float)
        what = f"{'a whole number' if allowed.whole else 'a number'} from {allowed.low:g} to {_plain(allowed.high)}"
        proper = isinstance(value, kinds) and not isinstance(value, bool)
        if not proper or not allowed.low <= value <= allowed.high:  # NaN is in no range
            raise InputError(f"{name} must be {what}{allowed.unit}, got {_short(value)}")


def guidance_for(steps: int, guidance: float | None = None) -> float:
    """Guidance as given, checked; where None is, what serves best at so many steps (docs/hands.md): few go unguided."""
    if guidance is None:
        check_numbers(steps=steps)
        return 1.0 if steps <= UNGUIDED_STEPS else 2.0
    check_numbers(guidance=guidance)
    return guidance


def check_prompt(prompt: object) -> str:
    """The prompt without outer spaces; raises InputError if it is empty, too long or not text that can be stored."""
    if not isinstance(prompt, str):
        raise InputError(f"the prompt must be text, got {type(prompt).__name__}")
    text = prompt.strip()
    if not text:
        raise InputError("the prompt is empty; write what you want, for example 'red heart icon'")
    if len(text) > PROMPT_CHARACTERS:
        raise InputError(f"the prompt has {len(text):,} characters; at most {PROMPT_CHARACTERS:,} are taken")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError("the prompt holds half of a surrogate pair, which is not a character; send it as UTF-8")
    return text


def painted_size(size: int) -> int:
    """The side that a picture of `size` pixels is painted at: the smallest learnt one that holds it, or the largest."""
    return next((side for side in PAINTED_SIZES if side >= size), PAINTED_SIZES[-1])


def check_size(size: Any) -> int:
    """A picture side from SIDES; raises InputError that names the nearest."""
    if isinstance(size, bool) or not isinstance(size, int) or size not in SIDES:
        number = isinstance(size, (int, float)) and size == size
        near = f"; the nearest is {min(SIDES, key=lambda side: abs(side - size))}" if number else ""
        wanted = f"a multiple of {SIDES.step} from {SIDES[0]} to {SIDES[-1]} pixels"
        raise InputError(f"size must be {wanted}, got {_short(size)}{near}")
    return size


def check_clip(seconds: float, first_frame: object, after: object) -> None:
    """Raise InputError for a clip that would begin twice, or one frame that is to go on with another clip."""
    if after is not None and first_frame is not None:
        raise InputError("give either a first frame or a clip to go on with, not both")
    if after is not None and clip_frames(seconds) < 2:
        raise InputError("a continuation needs at least two frames")


def check_correct(correct: object) -> None:
    """Raise InputError unless `correct` (read mistyped words as the ones that were meant) is true or false."""
    if not isinstance(correct, bool):
        raise InputError(f"correct must be true or false, got {_short(correct)}")


def check_mode(mode: str) -> str:
    """A name from the mode table of `vision`; raises InputError that names the nearest."""
    modes = part("vision").MODES
    if not isinstance(mode, str) or mode not in modes:
        raise unknown("mode", mode, modes)
    return mode


def check_trace(trace: str) -> str:
    """One of TRACING; raises InputError that names the nearest."""
    if not isinstance(trace, str) or trace not in TRACING:
        raise unknown("way to trace", trace, TRACING)
    return trace


def check_tiles(mode: str, tiles: int | None) -> Any:
    """The row of the mode table with its limit of tiles, 9 or 6; raises InputError."""
    try:
        return part("vision").get_mode(check_mode(mode), tiles=tiles)
    except ValueError as error:
        raise InputError(str(error)) from error


def check_count(what: str, things: Sequence[object], most: int) -> None:
    """Raise InputError when there are more than `most` of `what`."""
    if len(things) > most:
        raise InputError(f"{len(things)} {what} given; at most {most} are taken at once")


def clip_frames(seconds: float) -> int:
    """How many frames a clip of `seconds` has at CLIP_FPS, at least one."""
    return max(1, round(seconds * CLIP_FPS))


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) > 10**30:
        return "a far larger number"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def _plain(number: float) -> str:
    return f"{number:g}" if number < 1e6 else f"{int(number)}"
