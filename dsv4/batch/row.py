"""One row of work: what it may say in our own plain form, and every fault named.

A plain row is `{"id": "a1", "task": "chat|svg|image|video", "prompt": "...", "images": ["b.png"], "seed": 7, ...}`, or
`{"id": "a2", "task": "read", "images": ["paper.pdf"], ...}`; a picture is a path or a `data:` address. A clip's
`"after": "a1"` begins with what an earlier row made: a picture or drawing is its first frame, a clip is gone on with.
Nothing is ever fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsv4.batch.reading import OPTIONS, checked_options
from dsv4.errors import InputError, unknown
from dsv4.limits import BATCH_ID_CHARACTERS
from dsv4.messages import Message

TASKS: dict[str, tuple[str, ...]] = {  # task: the options that its verb takes
    "chat": ("mode", "seed", "temperature", "max_tokens", "correct"),
    "svg": ("seed", "temperature", "max_tokens", "candidates", "correct"),
    "image": ("seed", "size", "steps", "guidance", "correct"),
    "video": ("seconds", "seed", "steps", "guidance", "correct"),
    "read": OPTIONS,
}
TAKES_PICTURES = {"chat": None, "video": 1, "read": 1}  # how many at most; None leaves it to the model's own limit
SUFFIXES = {"svg": "svg", "image": "png", "video": "mp4"}  # of the files, by task
PLAIN, OPENAI = "plain", "openai"
OWN_TYPES = ("image/", "application/octet-stream", "application/pdf")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row. `fault` is set when it cannot be run; `id` is empty only for a line whose id cannot be read.

    `form` is the form of the line, plain or openai; its result has the same. `notes` are warnings for the result.
    """

    line: int
    id: str = ""
    task: str = ""
    prompt: str = ""
    pictures: tuple[Path | bytes, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    form: str = PLAIN
    history: tuple[Message, ...] = ()
    suffix: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()
    after: str = ""  # id of an earlier row whose result a clip begins with
    clip: Path | None = None  # that result, once it is there and is a clip


def load_line(content: bytes) -> dict[str, Any] | str:
    """The object on a line, or what is wrong with it."""
    try:
        row = json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return f"not a line of JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"


def checked_id(name: object, key: str = "id") -> str:
    """An id that can be used; raises InputError that begins with its key."""
    if not isinstance(name, str) or not name.strip() or len(name) > BATCH_ID_CHARACTERS:
        raise InputError(f"{key} must be a text of 1 to {BATCH_ID_CHARACTERS} characters")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(f"{key} holds half of a surrogate pair, which is not a character")
    return name


def plain_job(number: int, name: str, row: dict[str, Any], files: Path | None) -> Job:
    """A row of our own form without its id; pictures by path lie under `files`, None refuses them.

    Raises InputError for a task, key or value that cannot be.
    """
    task, prompt, images = row.pop("task", None), row.pop("prompt", ""), row.pop("images", [])
    after = row.pop("after", "") if task == "video" else ""
    if after != "" and (images or checked_id(after, "after") == name):
        raise InputError("after names an earlier row whose result the clip begins with, and stands without images")
    if not isinstance(task, str) or task not in TASKS:
        raise unknown("task", task, TASKS)
    if not isinstance(prompt, str):
        raise InputError("prompt must be text")
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise InputError("images must be a list of paths")
    for key in row:
        if key not in TASKS[task]:
            raise unknown(f"key in a row of task {task}", key, TASKS[task])
    pictures = tuple(picture(image, files) for image in images)
    check_pictures(task, pictures)
    if task == "read":
        checked_options(row)
    return Job(
        line=number, id=name, task=task, prompt=prompt, pictures=pictures, options=row, suffix=SUFFIXES.get(task, ""),
        after=after,
    )  # fmt: skip


def check_pictures(task: str, pictures: tuple[Path | bytes, ...]) -> None:
    """Raise InputError when the task does not take so many pictures."""
    if task == "read" and not pictures:
        raise InputError('a row of task read names its document: images: ["paper.pdf"]')
    if pictures and task not in TAKES_PICTURES:
        raise InputError(f"a row of task {task} takes no images")
    most = TAKES_PICTURES.get(task)
    if most is not None and len(pictures) > most:
        raise InputError(f"a row of task {task} takes at most {most} image, got {len(pictures)}")


def picture(address: str, files: Path | None) -> Path | bytes:
    """The bytes inside a `data:` address, or a path under `files`; InputError for every other address."""
    kind = address.partition(":")[0].lower() if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", address) else ""
    if kind == "data":
        return _from_data(address)
    if kind:
        raise InputError(f"pictures are not fetched from {kind}: addresses; give data:image/png;base64,... or a path")
    if "\0" in address:
        raise InputError("the path of a picture holds a NUL character")
    if files is None:
        raise InputError("pictures by path are closed here; give data:image/png;base64,...")
    return files / address


def _from_data(address: str) -> bytes:
    head, comma, body = address.partition(",")
    kind = head[5:].lower().split(";")
    if not comma or kind[-1] != "base64" or not kind[0].startswith(OWN_TYPES):
        raise InputError("a data: address of a picture reads data:image/png;base64,...")
    text = re.sub(r"\s+", "", body).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the base64 of a picture cannot be read: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' is there twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
