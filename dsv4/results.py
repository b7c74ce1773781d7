"""What the studio gives back: values that know how to save themselves, with how they were made inside.

Shape letters: F frames, H height, W width, 3 colours (uint8 RGB).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsv4._parts import part
from dsv4.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np

    from dsv4.chat_format import Call

SUFFIXES: dict[str, tuple[str, ...]] = {
    "chat": (".txt", ".md"),
    "svg": (".svg", ".png", ".mp4", ".webm", ".webp", ".apng", ".gif"),
    "image": (".png", ".webp"),
    "video": (".mp4", ".webm", ".webp", ".apng", ".gif"),
    "read": (".md", ".txt", ".json"),
}
SVG_PNG_SIZE = 512  # side of an SVG that is saved as PNG, in pixels
SVG_CLIP_SIZE = 256  # longer side of a moving SVG that is saved as a clip, in pixels
SVG_CLIP_FPS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens that were read and written; `pictures` of those read were places of pictures, `cached` were known."""

    read: int = 0
    written: int = 0
    pictures: int = 0
    cached: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a running job reports: step of total, and what there is to show so far."""

    step: int
    total: int
    preview: np.ndarray | str | None = None  # a picture HW3, a clip FHW3, or SVG text
    text_delta: str = ""
    usage: Usage = field(default_factory=Usage)


class _Made:
    """What every result can tell from its provenance."""

    provenance: Mapping[str, Any]

    @property
    def corrected(self) -> dict[str, str]:
        """Words of the request that were read as others, as typed and as read (`dsv4.spelling`)."""
        return dict(self.provenance.get("corrected", {}))

    @property
    def untaught(self) -> tuple[str, ...]:
        """Words whose meaning was asked for and that the model was not taught: what it says of them may be made up."""
        return tuple(self.provenance.get("untaught", ()))


@dataclass(frozen=True, kw_only=True)
class Reply(_Made):
    """A whole answer; `thought` is the hidden description it came from, if there was one.

    `call`: what the hands are to make, where that is the answer; the text then tells it ("svg: red heart icon").
    """

    text: str
    provenance: Mapping[str, Any]
    thought: str = ""
    stopped: Literal["end", "length", "cancelled"] = "end"
    usage: Usage = field(default_factory=Usage)
    call: Call | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the answer as a text file; raises InputError if that cannot be done."""
        target = check_output(path, "chat")
        write_whole(target, (self.text + "\n").encode())
        return target


@dataclass(frozen=True, kw_only=True)
class Svg(_Made):
    """A safe, pretty SVG; `raw` is what the model wrote before it was rebuilt."""

    text: str
    provenance: Mapping[str, Any]
    raw: str = ""
    usage: Usage = field(default_factory=Usage)

    def save(self, path: str | os.PathLike[str], *, provenance: bool = True) -> Path:
        """Write `.svg`, `.png` of 512 pixels, or a moving drawing as a clip of one run (`.mp4`, `.gif`, ...).

        The provenance goes inside unless it is to be left out. InputError for a still drawing as a clip.
        """
        target = check_output(path, "svg")
        files, record = part("generation.files"), dict(self.provenance) if provenance else None
        if target.suffix.lower() == ".png":
            picture_HW3 = part("generation.svg").rasterise(self.text, SVG_PNG_SIZE)
            return files.save_png(target, picture_HW3, record)
        if target.suffix.lower() != ".svg":
            svg = part("generation.svg")
            if not svg.animated(self.text):
                raise InputError(f"this drawing does not move, so it cannot be saved as '{target.suffix}'; use .svg")
            frames_FHW3 = svg.frames(self.text, SVG_CLIP_SIZE, fps=SVG_CLIP_FPS)
            return files.save_clip(target, frames_FHW3, fps=SVG_CLIP_FPS, provenance=record)
        return files.save_svg(target, self.text, record)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture(_Made):
    """A picture: uint8, shape [H, W, 3]."""

    array: np.ndarray
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check_pixels("Picture.array", self.array, 3)

    def save(self, path: str | os.PathLike[str], *, provenance: bool = True) -> Path:
        """Write `.png` or `.webp`; the provenance goes inside unless it is to be left out."""
        target = check_output(path, "image")
        files, record = part("generation.files"), dict(self.provenance) if provenance else None
        save = {".png": files.save_png, ".webp": files.save_webp}[target.suffix.lower()]
        return save(target, self.array, provenance=record)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip(_Made):
    """A clip without sound: uint8, shape [F, H, W, 3]."""

    frames: np.ndarray
    fps: int
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check_pixels("Clip.frames", self.frames, 4)
        if self.fps < 1:
            raise ValueError(f"Clip.fps must be at least 1, got {self.fps}")

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.frames) / self.fps

    def save(self, path: str | os.PathLike[str], *, provenance: bool = True) -> Path:
        """Write `.mp4`, `.webm`, `.webp`, `.apng` or `.gif`; the provenance goes inside unless it is to be left out."""
        target = check_output(path, "video")
        files, record = part("generation.files"), dict(self.provenance) if provenance else None
        return files.save_clip(target, self.frames, fps=self.fps, provenance=record)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchReport:
    """How a batch stands: rows done, rows failed, rows in all, and the folder that holds them."""

    done: int
    failed: int
    total: int
    out: Path

    @property
    def complete(self) -> bool:
        """Whether every row has its line."""
        return self.done + self.failed == self.total


class ChatStream:
    """An answer in pieces. Iterate for the text as it comes; `.reply` runs to the end and is the whole answer."""

    def __init__(
        self,
        write: Callable[[Callable[[], bool]], Iterator[str]],
        finish: Callable[[str, bool], Reply],
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """`write(stop)` yields pieces and looks at `stop()` between; `finish(text, was_cancelled)` makes the reply."""
        self._outside = cancelled
        self._cancelled = False
        self._finish = finish
        self._pieces = write(self._stop)
        self._text: list[str] = []
        self._reply: Reply | None = None

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> str:
        if self._reply is not None:
            raise StopIteration
        if not self._stop():
            try:
                piece = next(self._pieces)
            except StopIteration:
                pass
            else:
                self._text.append(piece)
                return piece
        self._reply = self._finish("".join(self._text), self._stop())
        raise StopIteration

    def cancel(self) -> None:
        """End the answer before its next piece; what was said stays in `.reply`."""
        self._cancelled = True

    @property
    def reply(self) -> Reply:
        """The whole answer; waits for the pieces that have not been taken."""
        for _ in self:
            pass
        assert self._reply is not None
        return self._reply

    def _stop(self) -> bool:
        if self._outside is not None and self._outside():
            self._cancelled = True
        return self._cancelled


def credited(made: Svg | Picture | Clip, reply: Reply) -> Any:
    """What the hands made of a reply, with what the reply says of the words that were asked."""
    if not reply.corrected:
        return made
    return replace(made, provenance={**made.provenance, "corrected": reply.corrected})


def check_output(path: str | os.PathLike[str], kind: str) -> Path:
    """The path, if a result of `kind` (chat, svg, image, video, read) can be written there; else InputError.

    Nothing is left behind, so it can be asked before an expensive run.
    """
    target = Path(path)
    if "\0" in str(target):
        raise InputError("the output path holds a NUL character")
    suffixes = SUFFIXES[kind]
    if target.suffix.lower() not in suffixes:
        raise unknown(f"output format for {kind}", target.suffix or target.name, suffixes)
    if target.is_dir():
        raise InputError(f"'{target}' is a folder; name a file in it")
    if not target.parent.is_dir():
        raise InputError(f"no folder '{target.parent}' to write '{target.name}' into; make it first")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write into '{target.parent}': {error.strerror}") from error
    return target


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also when the machine stops in between."""
    write_pieces(path, [content])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """The same for content that comes in pieces."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_pixels(name: str, array: np.ndarray, dimensions: int) -> None:
    if str(array.dtype) != "uint8" or array.ndim != dimensions or array.shape[-1] != 3 or 0 in array.shape:
        wanted = "[F, H, W, 3]" if dimensions == 4 else "[H, W, 3]"
        raise ValueError(f"{name} must be uint8 of shape {wanted}, got {array.dtype} {list(array.shape)}")
