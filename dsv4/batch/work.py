"""Make the rows of a group with a studio: the same function for every backend, which knows no folder and no ledger."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dsv4.batch import openai
from dsv4.batch.plan import seed_of
from dsv4.batch.reading import check_file, checked_options, read_file, reading_parts
from dsv4.batch.row import OPENAI, Job
from dsv4.errors import InputError, unknown
from dsv4.messages import Image, image, video
from dsv4.reading import Reading
from dsv4.results import ChatStream, Clip, Picture, Reply, Svg
from dsv4.spelling import told

Result = Reply | Svg | Picture | Clip | Reading
TRIES = 2  # of a row that fails for no fault of its own


class Maker(Protocol):
    """What the runner needs of a studio: its verbs, a name, and a fingerprint that changes with its weights.

    A studio may also have `together`, with the same verbs for many requests at once: see `dsv4.together`.
    """

    name: str
    fingerprint: str
    chat: Callable[..., ChatStream]
    svg: Callable[..., Svg]
    image: Callable[..., Picture]
    video: Callable[..., Clip]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row that was made: its line, and the file that belongs beside it."""

    place: int
    line: str
    failed: bool
    attempts: int
    file: str = ""
    content: bytes = b""


def make_group(
    studio: Maker, group: Sequence[tuple[int, Job]], *, seed: int | None = None, before: Mapping[int, int] | None = None
) -> list[Outcome]:
    """Make rows, given with their places; what cannot be made becomes an error line, and only a full disk is raised.

    `seed` is that of the batch, for rows without their own. `before` says how often a row was tried in earlier runs.
    """
    jobs = [_ready(job, studio, seed) for _, job in group]
    made = iter(_make_all(studio, [job for job in jobs if not job.fault]))
    outcomes: list[Outcome] = []
    for (place, _), job in zip(group, jobs, strict=True):
        tries, found = 1, InputError(job.fault) if job.fault else next(made)
        while isinstance(found, Exception) and not isinstance(found, ValueError) and tries < TRIES:
            tries += 1  # not the row's fault: alone it may still work
            (found,) = _make_singly(studio, [job])
        outcomes.append(_outcome(place, job, found, (before or {}).get(place, 0) + tries, studio.name))
    return outcomes


def _ready(job: Job, studio: Maker, seed: int | None) -> Job:
    """The job with its seed, and with pictures as bytes: an error then reads the same wherever it is run."""
    if job.fault:
        return job
    try:
        if job.model and job.model != studio.name:
            raise unknown("model", job.model, [studio.name])
        job = carried(job)
    except InputError as error:
        return replace(job, fault=str(error))
    options = dict(job.options)
    if seed is not None and "seed" not in options and job.task != "read":
        options["seed"] = seed_of(seed, job.id)
    return replace(job, options=options)


def carried(job: Job) -> Job:
    """The job with the bytes of its pictures in place of their paths; raises InputError for one that is missing."""
    check = check_file if job.task == "read" else image
    pictures = tuple(one if isinstance(one, bytes) else read_picture(one, check) for one in job.pictures)
    history = tuple(
        replace(said, parts=tuple(_inside(part) if isinstance(part, Image) else part for part in said.parts))
        for said in job.history
    )
    return replace(job, pictures=pictures, history=history)


def _inside(shown: Image) -> Image:
    return Image(source=read_picture(shown.source)) if isinstance(shown.source, Path) else shown


def read_picture(path: Path, check: Callable[[Path], Any] = image) -> bytes:
    """The bytes of a picture; raises InputError when there is none."""
    check(path)  # refuses a name that no picture has, and a missing file
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the picture '{path}' cannot be read: {error.strerror}") from error


def _make_all(studio: Maker, jobs: list[Job]) -> list[Result | Exception]:
    together = getattr(studio, "together", None)
    if together is None or len(jobs) < 2 or jobs[0].task in ("video", "read"):
        return _make_singly(studio, jobs)
    try:
        return list(together.make(jobs[0].task, [arguments(job) for job in jobs]))
    except OSError:
        raise
    except Exception:  # one of them may be at fault: alone each gets its own answer
        return _make_singly(studio, jobs)


def _make_singly(studio: Maker, jobs: list[Job]) -> list[Result | Exception]:
    return list(_one_by_one(studio, jobs))


def _one_by_one(studio: Maker, jobs: list[Job]) -> Iterator[Result | Exception]:
    for job in jobs:
        given = arguments(job)
        prompt, pictures = given.pop("prompt"), given.pop("pictures", ())
        try:
            if job.task == "read":
                (content,) = (one for one in job.pictures if isinstance(one, bytes))
                yield read_file(studio, content, checked_options(job.options))
                continue
            found = getattr(studio, job.task)(prompt, *pictures, **given)
            yield found.reply if isinstance(found, ChatStream) else found
        except OSError:
            raise
        except Exception as error:
            yield error


def shape_for(studio: Maker) -> Callable[[Job], tuple[Any, ...]]:
    """What tells the rows of one task apart that this studio cannot make in one pass."""
    together = getattr(studio, "together", None)

    def shape(job: Job) -> tuple[Any, ...]:
        return () if together is None or job.fault or job.task == "read" else together.shape(job.task, arguments(job))

    return shape


@contextmanager
def one_thread(studio: Maker) -> Iterator[None]:
    """One thread for a model's products: how many there are decides how sums round, so it would change the bytes."""
    if getattr(studio, "together", None) is None:
        yield  # no model of ours
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arguments(job: Job) -> dict[str, Any]:
    """What the verb of the job's task is called with: `prompt`, `pictures` for a chat, and its keywords."""
    given: dict[str, Any] = {"prompt": job.prompt, **job.options}
    shown = tuple(Image(source=one) for one in job.pictures)
    if job.task == "chat":
        given["pictures"] = shown
        if job.history:
            given["history"] = job.history
    elif shown:
        given["first_frame"] = shown[0]
    elif job.clip is not None:
        given["after"] = video(job.clip)
    return given


def _outcome(place: int, job: Job, found: Result | Exception, attempts: int, model: str) -> Outcome:
    content = b""
    if not isinstance(found, Exception | Reply | Reading):
        try:
            content = file_bytes(found, job.suffix)
        except OSError:
            raise
        except Exception as error:
            found = error
    if isinstance(found, Exception):
        return Outcome(place=place, line=_dump(_failure(job, found, attempts)), failed=True, attempts=attempts)
    file = f"files/{safe_name(job.id)}.{job.suffix}" if content else ""
    line = _dump(_success(job, found, file, model))
    return Outcome(place=place, line=line, failed=False, attempts=attempts, file=file, content=content)


def lost(place: int, job: Job, attempts: int) -> Outcome:
    """The outcome of a row whose worker died each time it was tried."""
    error = RuntimeError("the worker died while it made this row")
    return Outcome(place=place, line=_dump(_failure(job, error, attempts)), failed=True, attempts=attempts)


def _success(job: Job, found: Result, file: str, model: str) -> dict[str, Any]:
    corrected, untaught = ({}, ()) if isinstance(found, Reading) else (found.corrected, found.untaught)
    if job.form == OPENAI:
        job = replace(job, notes=(*job.notes, *filter(None, [told(corrected, untaught)])))
        if isinstance(found, Reading):
            return openai.answer(job, openai.reading_body(job, reading_parts(found), model))
        body = openai.chat_body(job, found, model) if isinstance(found, Reply) else openai.file_body(job, file, model)
        return openai.answer(job, body)
    line: dict[str, Any] = {"id": job.id, "line": job.line, "task": job.task, "ok": True}
    line |= ({"corrected": corrected} if corrected else {}) | ({"untaught": untaught} if untaught else {})
    if isinstance(found, Reply):
        usage = {"read": found.usage.read, "written": found.usage.written}
        return {**line, "text": found.text, "stopped": found.stopped, "usage": usage}
    if isinstance(found, Reading):
        return {**line, **reading_parts(found)}
    return {**line, "file": file}


def _failure(job: Job, error: Exception, attempts: int) -> dict[str, Any]:
    own = isinstance(error, ValueError)
    code, status = ("invalid_request", 400) if own else ("internal", 500)
    message = str(error) if own else f"{type(error).__name__}: {error}"
    if job.form == OPENAI:
        return openai.failure(job, code=code, message=message, status=status, attempts=attempts)
    line: dict[str, Any] = {"id": job.id or None, "line": job.line, "task": job.task or None, "ok": False}
    return {**line, "error": message, "code": code, "attempts": attempts}


def _dump(line: dict[str, Any]) -> str:
    # Half a surrogate pair can come in as an escape; it goes out as one.
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def file_bytes(result: Svg | Picture | Clip, suffix: str) -> bytes:
    """A result as the content of a file of that kind."""
    with tempfile.TemporaryDirectory(prefix="dsv4-") as folder:
        return result.save(Path(folder) / f"result.{suffix}").read_bytes()


def safe_name(name: str) -> str:
    """A file name for an id: itself when it is harmless on every system, else a shortened form with a digest."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) and not re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", name):
        return name
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40].strip("_")
    return f"{kept or 'row'}.{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"
