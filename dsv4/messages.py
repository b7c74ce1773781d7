"""What a person says: messages of parts, where text is only ever text and never a control token."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsv4.errors import InputError, unknown
from dsv4.limits import TURNS, VIDEO_FRAMES

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

ROLES = ("user", "assistant", "system")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".svg")
DOCUMENT_SUFFIXES = (".pdf", ".tif", ".tiff", ".gif", ".webp", ".png", ".jpg", ".jpeg", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif", ".webp", ".apng")


@dataclass(frozen=True, kw_only=True)
class Text:
    """Words. Whatever they spell, they are encoded as ordinary text."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InputError(f"text must be a string, got {type(self.text).__name__}")


@dataclass(frozen=True, kw_only=True)
class Image:
    """A picture: a path, the bytes of a file, or a PIL picture. It is opened and checked when it is used."""

    source: Path | bytes | PilImage


@dataclass(frozen=True, kw_only=True)
class Document:
    """Pages of a PDF or of a many-page picture; `pages` counts from 1, empty means from the first one on.

    `turn` turns every page clockwise by 0, 90, 180 or 270 degrees, for scans that lie on their side.
    """

    source: Path
    pages: tuple[int, ...] = ()
    turn: int = 0

    def __post_init__(self) -> None:
        if any(isinstance(page, bool) or not isinstance(page, int) or page < 1 for page in self.pages):
            raise InputError(f"pages are whole numbers from 1, got {list(self.pages)}")
        if self.turn not in TURNS:
            raise InputError(f"a page can be turned by {', '.join(map(str, TURNS))} degrees, not {self.turn!r}")


@dataclass(frozen=True, kw_only=True)
class Video:
    """A clip, of which `frames` pictures at even times are looked at."""

    source: Path
    frames: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= VIDEO_FRAMES:
            raise InputError(f"frames must be from 1 to {VIDEO_FRAMES}, got {self.frames}")


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repository: a folder, of which as much is read as `budget` tokens hold; None takes all room there is."""

    source: Path
    budget: int | None = None
    ignore: tuple[str, ...] = ()


Part = Text | Image | Document | Video | Repo


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise unknown("role", self.role, ROLES)
        if not self.parts:
            raise InputError(f"a message by the {self.role} has no parts; give it at least one Text")
        for one in self.parts:
            if not isinstance(one, Part):
                raise InputError(f"a part is Text, Image, Document, Video or Repo, got {type(one).__name__}")

    @property
    def text(self) -> str:
        """The words of all text parts, one line each."""
        return "\n".join(one.text for one in self.parts if isinstance(one, Text))

    @classmethod
    def said(cls, role: Literal["user", "assistant", "system"], text: str, *pictures: Part) -> Message:
        """A message of pictures followed by words."""
        return cls(role=role, parts=(*pictures, Text(text=text)))


def image(source: str | PathLike[str] | bytes | PilImage) -> Image:
    """A picture for `Studio.chat`; raises InputError at once when the path is not a file or not a picture's name."""
    if isinstance(source, str | PathLike):
        return Image(source=_existing(source, "picture", PICTURE_SUFFIXES))
    if isinstance(source, bytes):
        return Image(source=source)
    if type(source).__module__.startswith("PIL."):
        return Image(source=source)
    raise InputError(f"a picture is a path, the bytes of a file or a PIL image, got {type(source).__name__}")


def document(source: str | PathLike[str], *, pages: tuple[int, ...] = (), turn: int = 0) -> Document:
    """A PDF, a many-page TIFF, the frames of a GIF or WebP, or one scan; `pages` counts from 1.

    `turn` turns every page clockwise by that many degrees: 0, 90, 180 or 270.
    """
    return Document(source=_existing(source, "document", DOCUMENT_SUFFIXES), pages=tuple(pages), turn=turn)


def video(source: str | PathLike[str], *, frames: int = 4) -> Video:
    """A clip for `Studio.chat`; `frames` of it are looked at."""
    return Video(source=_existing(source, "video", VIDEO_SUFFIXES), frames=frames)


def repo(source: str | PathLike[str], *, budget: int | None = None, ignore: tuple[str, ...] = ()) -> Repo:
    """A repository for `Studio.chat`; the question decides what of it is shown. `ignore`: patterns as in .gitignore."""
    path = Path(source)
    if "\0" in str(path) or not path.is_dir():
        raise InputError(f"no folder at '{path}'; name the root of a repository")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 64):
        raise InputError(f"budget must be a whole number of at least 64 tokens, got {budget!r}")
    return Repo(source=path, budget=budget, ignore=tuple(ignore))


def _existing(source: str | PathLike[str], kind: str, suffixes: tuple[str, ...]) -> Path:
    path = Path(source)
    if "\0" in str(path):
        raise InputError(f"the path of the {kind} holds a NUL character")
    if path.suffix.lower() not in suffixes:
        raise unknown(f"{kind} format", path.suffix or path.name, suffixes)
    if not path.is_file():
        raise InputError(f"no {kind} at '{path}'")
    return path
