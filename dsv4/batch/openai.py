"""Rows and results in the form of OpenAI's Batch API: what a row asks for, and the line that answers it.

A row is `{"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}`. Times and ids in an
answer come from the row, not from a clock, so that the same batch ends in the same bytes.
Source: the types of the public `openai` client, 3.54 (batch, chat completions, images, videos).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsv4.batch.reading import checked_options
from dsv4.batch.row import OPENAI, SUFFIXES, Job, check_pictures, picture
from dsv4.errors import InputError, unknown
from dsv4.limits import CLIP_SIZE, HISTORY_MESSAGES, SIDES, check_count
from dsv4.messages import ROLES, Image, Message
from dsv4.results import Reply

KEYS = ("custom_id", "method", "url", "body")
# Fields that change nothing here; they are named in the answer's `warnings`. Any other unknown field is refused.
IGNORED = (
    "top_p", "user", "metadata", "store", "reasoning_effort", "presence_penalty", "frequency_penalty", "logprobs",
    "top_logprobs", "logit_bias", "parallel_tool_calls", "service_tier", "safety_identifier", "prompt_cache_key",
    "response_format", "verbosity", "quality", "background", "moderation", "style", "output_compression",
)  # fmt: skip
DETAILS = ("low", "auto", "high", "original")  # of a picture; `mode` says how closely it is looked at
ALIASES = {"max_completion_tokens": "max_tokens"}


def openai_job(number: int, name: str, row: dict[str, Any], files: Path | None) -> Job:
    """A row without its custom_id; raises InputError for what it may not say."""
    for key in row:
        if key not in KEYS:
            raise unknown("key in a row of a batch", key, KEYS)
    if row.get("method", "POST") != "POST":
        raise InputError(f"method must be POST, got {row['method']!r}")
    url, body = row.get("url"), row.get("body")
    if url not in _ROUTES:
        raise unknown("url", url, _ROUTES)
    if not isinstance(body, dict):
        raise InputError("body must be an object")
    body = {ALIASES.get(key, key): value for key, value in body.items() if value is not None}
    if body.pop("stream", False):
        raise InputError("a row of a batch cannot stream; leave `stream` out")
    if body.pop("n", 1) != 1:
        raise InputError("n must be 1; write more rows instead, each with a seed")
    model = body.pop("model", "")
    if not isinstance(model, str):
        raise InputError("model must be text")
    _check_ignored(body)
    ignored = [key for key in list(body) if key in IGNORED and body.pop(key, None) is not None]
    notes = tuple(f"{key} changes nothing here" for key in ignored)
    found = _ROUTES[url](body, files)
    check_pictures(found["task"], found.get("pictures", ()))
    return Job(line=number, id=name, form=OPENAI, model=model, notes=notes, **found)


def _check_ignored(body: dict[str, Any]) -> None:
    """Refuse values of fields that change nothing, where the server refuses them too."""
    top_p, form = body.get("top_p", 1), body.get("response_format", {"type": "text"})
    if isinstance(top_p, bool) or not isinstance(top_p, int | float) or not 0 < top_p <= 1:
        raise InputError("top_p must be above 0 and at most 1")
    if not isinstance(form, dict) or form.get("type") != "text":
        raise InputError("response_format must be of type text")


def _chat(body: dict[str, Any], files: Path | None) -> dict[str, Any]:
    messages = body.pop("messages", None)
    options = _options("chat", body, ("mode", "seed", "temperature", "max_tokens", "correct"), "messages")
    if not isinstance(messages, list) or not messages:
        raise InputError("messages must be a list with at least one message")
    check_count("messages", messages, HISTORY_MESSAGES)
    said = [_message(one, files) for one in messages]
    *before, (role, prompt, pictures) = said
    if role != "user":
        raise InputError(f"the last message must be by the user, got one by the {role}")
    history = tuple(
        Message.said(by, text, *(Image(source=one) for one in shown))  # type: ignore[arg-type]
        for by, text, shown in before
    )
    return {"task": "chat", "prompt": prompt, "pictures": pictures, "history": history, "options": options}


def _message(one: object, files: Path | None) -> tuple[str, str, tuple[Path | bytes, ...]]:
    if not isinstance(one, dict):
        raise InputError("a message is an object with role and content")
    role, content = one.get("role"), one.get("content")
    role = "system" if role == "developer" else role
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    if isinstance(content, str):
        return role, content, ()
    if not isinstance(content, list) or not content:
        raise InputError("content must be text or a list of parts")
    words: list[str] = []
    pictures: list[Path | bytes] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            words.append(part["text"])
        elif kind == "image_url":
            address = part.get("image_url")
            if isinstance(address, dict) and (address.get("detail") or "auto") not in DETAILS:
                raise unknown("detail", address["detail"], DETAILS)
            address = address.get("url") if isinstance(address, dict) else address
            if not isinstance(address, str) or not address:
                raise InputError("image_url must hold a url")
            pictures.append(picture(address, files))
        else:
            raise unknown("type of a part", kind, ("text", "image_url"))
    return role, "\n".join(words), tuple(pictures)


def _image(body: dict[str, Any], files: Path | None) -> dict[str, Any]:
    form = body.pop("output_format", "png")
    if form not in ("png", "webp", "svg"):
        raise unknown("output_format", form, ("png", "webp", "svg"))
    prompt = _prompt(body)
    if form == "svg":
        options = _options(
            "svg", body, ("seed", "temperature", "max_tokens", "size", "correct"), "prompt, output_format"
        )
        options.pop("size", None)  # a drawing has no size in pixels
        return {"task": "svg", "prompt": prompt, "options": options, "suffix": "svg"}
    options = _options("image", body, ("seed", "size", "steps", "guidance", "correct"), "prompt, output_format")
    size = options.pop("size", "auto")
    if size != "auto":
        options["size"] = _square(size)
    return {"task": "image", "prompt": prompt, "options": options, "suffix": form}


def _video(body: dict[str, Any], files: Path | None) -> dict[str, Any]:
    prompt, first = _prompt(body), body.pop("input_reference", None)
    known = ("seconds", "seed", "steps", "guidance", "size", "correct")
    options = _options("video", body, known, "prompt, input_reference")
    size = options.pop("size", "auto")
    if size not in ("auto", f"{CLIP_SIZE}x{CLIP_SIZE}"):
        raise InputError(f"size of a clip must be {CLIP_SIZE}x{CLIP_SIZE}, got '{str(size)[:20]}'")
    if isinstance(options.get("seconds"), str):
        try:
            options["seconds"] = float(options["seconds"])
        except ValueError:
            raise InputError(f"seconds must be a number, got '{options['seconds'][:60]}'") from None
    if first is not None and not isinstance(first, str):
        raise InputError("input_reference must be a path or a data: address")
    pictures = () if first is None else (picture(first, files),)
    return {"task": "video", "prompt": prompt, "pictures": pictures, "options": options, "suffix": SUFFIXES["video"]}


def _reading(body: dict[str, Any], files: Path | None) -> dict[str, Any]:
    file = body.pop("file", None)
    if not isinstance(file, str) or not file:
        raise InputError("file must be a path or a data: address of a document")
    options = _options("read", body, ("mode", "task", "find", "pages", "max_tokens"), "file")
    options = {("what" if key == "task" else key): value for key, value in options.items()}
    checked_options(options)
    return {"task": "read", "pictures": (picture(file, files),), "options": options}


_ROUTES: dict[str, Callable[[dict[str, Any], Path | None], dict[str, Any]]] = {
    "/v1/chat/completions": _chat,
    "/v1/images/generations": _image,
    "/v1/videos": _video,
    "/v1/readings": _reading,
}


def _prompt(body: dict[str, Any]) -> str:
    prompt = body.pop("prompt", None)
    if not isinstance(prompt, str):
        raise InputError("prompt must be text")
    return prompt


def _options(task: str, body: dict[str, Any], allowed: tuple[str, ...], others: str) -> dict[str, Any]:
    for key in body:
        if key not in allowed:
            raise unknown(f"field for {task}", key, (*others.split(", "), *allowed))
    return dict(body)


def _square(size: object) -> int:
    width, _, height = str(size).partition("x")
    if width != height or not width.isdecimal() or len(width) > 6:
        allowed = f"{SIDES[0]}x{SIDES[0]} to {SIDES[-1]}x{SIDES[-1]} in steps of {SIDES.step}"
        raise InputError(f"size must be auto or {allowed}, got {str(size)[:60]!r}")
    return int(width)


def answer(job: Job, body: dict[str, Any]) -> dict[str, Any]:
    """The line of a row that worked."""
    if job.notes:
        body = {**body, "warnings": list(job.notes)}
    response = {"status_code": 200, "request_id": _made_id("req", job), "body": body}
    return {"id": _made_id("batch_req", job), "custom_id": job.id, "response": response, "error": None}


def failure(job: Job, *, code: str, message: str, status: int, attempts: int) -> dict[str, Any]:
    """The line of a row that did not."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    response = {"status_code": status, "request_id": _made_id("req", job), "body": body}
    error = {"code": code, "message": message, "attempts": attempts, "line": job.line}
    return {"id": _made_id("batch_req", job), "custom_id": job.id or None, "response": response, "error": error}


def chat_body(job: Job, reply: Reply, model: str) -> dict[str, Any]:
    """A chat completion."""
    read, written = reply.usage.read, reply.usage.written
    message = {"role": "assistant", "content": reply.text}
    choice = {"index": 0, "message": message, "finish_reason": "length" if reply.stopped == "length" else "stop"}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    made = {"id": _made_id("chatcmpl", job), "object": "chat.completion", "created": 0, "model": model}
    return {**made, "choices": [choice], "usage": usage}


def reading_body(job: Job, parts: dict[str, Any], model: str) -> dict[str, Any]:
    """A document that was read."""
    return {"id": _made_id("reading", job), "object": "reading", "created": 0, "model": model, **parts}


def file_body(job: Job, file: str, model: str) -> dict[str, Any]:
    """A picture, drawing or clip that lies beside the results."""
    if job.task != "video":
        return {"created": 0, "data": [{"url": file}], "output_format": job.suffix, "model": model}
    made = {"id": _made_id("video", job), "object": "video", "status": "completed", "progress": 100}
    return {**made, "created_at": 0, "model": model, "url": file}


def _made_id(kind: str, job: Job) -> str:
    digest = hashlib.sha256(f"{job.line}|{job.id}".encode(errors="surrogatepass")).hexdigest()
    return f"{kind}_{digest[:24]}"
